#!/usr/bin/env bash
# The Engine matrix: the Docker tests on the machine's own Engine, on trixie's beside it, and a smoke subset of them on
# cgroup version 2 in an emulated machine. Prints a table, writes it to docs/engines.md, and ends with 0 when all passed.
#
#   run.sh [machine] [trixie] [vm]     all three by default; docs/engines.md is written only then
#
# Needs root and Debian (or Ubuntu); what is missing is installed, and announced first.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/engines/shared.sh

[ "$(id -u)" = 0 ] || fail "a second Engine and root file systems need root"
SMOKE=tests/engines/vm/smoke.tests
WANTED=${*:-machine trixie vm}
ROWS=
FAILED=
RUNNING=
trap 'kill ${RUNNING:-} 2>/dev/null; wait; exit 143' INT TERM

smoke_tests() { grep -v '^#' "$SMOKE"; }

# The Docker tests on the Engine of DOCKER_HOST, after a look at it.
suite() {
    "$(execbox_path)" doctor || return
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --no-fail-fast --test docker
    else
        cargo test --locked --no-fail-fast --test docker
    fi
}

# A word that the doctor said of a subject, from the log $1: line's start $2, and the expression that takes the word out.
said() { sed -n "s/^\(ok\|warn\|FAIL\)  *$2  *$3.*/\2/p" "$1" | head -n 1; }

# Passed and failed, from the closing line of nextest or of the built-in runner. A failed test's output has one, too, before it.
counts() {
    sed -n -e 's/.*Summary .* tests\? run: \([0-9]*\) passed.*, \([0-9]*\) failed.*/\1 \2/p' \
        -e 's/.*Summary .* tests\? run: \([0-9]*\) passed.*/\1 0/p' \
        -e 's/.*test result: .* \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p' "$1" | tail -n 1
}

# Runs the rest, with its log in target/engines/NAME.log, and makes its row: name $1, what ran $2.
measure() {
    local name=$1 what=$2 log=$FOLDER/$1.log status=0 began=$SECONDS passed failed
    shift 2
    say "$name: the log is $log"
    # In the background, so that a signal is heard at once and goes on to what runs.
    "$@" >"$log" 2>&1 <&0 &
    RUNNING=$!
    wait "$RUNNING" || status=$?
    RUNNING=
    read -r passed failed < <(counts "$log") || true
    if [ -z "${passed:-}" ] || [ "$status" != 0 ]; then FAILED="$FAILED $name"; fi
    ROWS+="| $(said "$log" engine 'Docker \([^ ]*\)') | $(said "$log" runtime '\(runc [^ ]*\)') "
    ROWS+="| $(said "$log" cgroups 'version \([12]\)') | $(said "$log" kernel '\([^ ,]*\)') "
    ROWS+="| $what | $((${passed:-0} + ${failed:-0})) | ${passed:-0} | ${failed:-?} | $((SECONDS - began)) s |"$'\n'
}

machine() {
    DOCKER_HOST=unix://$(first_socket) measure machine 'all Docker tests' suite
}

trixie() {
    export -f suite execbox_path
    measure trixie 'all Docker tests' tests/engines/trixie/with-engine.sh bash -euo pipefail -c suite
}

vm() {
    local binary
    binary=$(cargo test --locked --no-run --test docker 2>&1 | sed -n 's/.*Executable .*(\(.*\))$/\1/p')
    measure vm "$(smoke_tests | wc -l) chosen ones" tests/engines/vm.sh "$binary" < <(smoke_tests)
}

table() {
    echo '| Engine | OCI runtime | cgroups | Kernel | What ran | Tests | Passed | Failed | Time |'
    echo '|---|---|---|---|---|---|---|---|---|'
    printf '%s' "$ROWS"
}

document() {
    cat <<END
# The Engine matrix

Written by \`make engines\` (\`tests/engines/run.sh\`).

$(table)

1. **Debian bookworm's Engine**: the machine's own, as \`deploy/setup-engine.sh\` finds or installs it.
2. **Debian trixie's Engine**, beside the first: its own root file system (\`mmdebstrap\`), mount and network namespace,
   socket and folders. It has no network, so its images are loaded from the first; all else is the same.
3. **The same root with its own kernel** and systemd in QEMU with software emulation, on cgroup version 2, with
   AppArmor. Programs run some 20 times slower there, so time limits of the tests are widened, and only these run
   (\`$SMOKE\`), after \`execbox doctor\` with its probe of the container profile:

$(smoke_tests | sed 's/.*/   - `&`/')
END
}

deploy/setup-engine.sh
mkdir -p "$FOLDER"
cargo test --locked --no-run --test docker
DOCKER_HOST=unix://$(first_socket) "$(execbox_path)" images build --all
for engine in $WANTED; do
    case $engine in machine | trixie | vm) "$engine" ;; *) fail "there is no $engine in the matrix" ;; esac
done
table
if [ "$WANTED" = 'machine trixie vm' ]; then document >docs/engines.md; fi
[ -z "$FAILED" ] || fail "failed:$FAILED"
