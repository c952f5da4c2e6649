#!/usr/bin/env bash
# Schemathesis makes some two thousand requests from /openapi.json, right and wrong ones, and looks at every answer:
# status, type, schema and headers as the document says, no 5xx, wrong requests refused, no key no answer, one tenant's
# executions hidden from another. `make test` calls it. EXECBOX is the binary; an Engine must answer.
set -euo pipefail
EXECBOX=$(realpath "${EXECBOX:?the path of the binary; or call: make schemathesis}")
cd "$(dirname "$0")"
TOOLS=$(cd ../.. && pwd)/target/tools
VENV=$TOOLS/schemathesis-$(sha256sum requirements.txt | cut -c1-12)
WORK=$(mktemp -d)
SERVER=

fail() { printf 'schemathesis: %s\n' "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Whatever happened: the server that was started here is stopped, and its folder goes.
finish() {
    local code=$?
    trap - EXIT
    if [ -n "$SERVER" ] && kill -TERM "$SERVER" 2>/dev/null; then
        wait "$SERVER" || code=$((code ? code : 1))
        if [ -n "$(ls -A "$WORK/data/spool")" ]; then echo 'schemathesis: uploads are left in the spool' >&2; code=1; fi
    fi
    if [ "$code" != 0 ] && [ -s "$WORK/log" ]; then
        printf 'schemathesis: warnings and errors in the server log, the last ones:\n' >&2
        grep -E ' (WARN|ERROR) |panicked' "$WORK/log" | tail -n 20 >&2
    fi
    rm -rf "$WORK"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        command -v apt-get >/dev/null || fail "python3 with venv is missing; install it and run this again"
        echo "schemathesis: python3 with venv is missing; about to run: apt-get install -y python3-venv"
        as_root apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
            -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install python3-venv </dev/null
    fi
    echo "schemathesis: putting $(grep '^schemathesis==' requirements.txt) into target/tools"
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt
    touch "$VENV/complete"
}

make_key() { "$EXECBOX" keys create --data-dir "$WORK/data" --tenant "$1" --scope run,read,admin 2>/dev/null; }

start_server() {
    # Programs that random requests make must not take the test's time.
    "$EXECBOX" serve --listen 127.0.0.1:0 --data-dir "$WORK/data" --timeout-seconds 1 --max-timeout-seconds 1 \
        --compile-timeout-seconds 5 --max-compile-timeout-seconds 5 --memory-mb 64 --disk-mb 16 2>"$WORK/log" &
    SERVER=$!
    for _ in $(seq 600); do
        URL=$(sed -n 's,.*\(http://127\.0\.0\.1:[0-9]*\).*,\1,p' "$WORK/log" | head -n 1)
        if [ -n "$URL" ]; then return; fi
        kill -0 "$SERVER" 2>/dev/null || { cat "$WORK/log" >&2; fail "the server ended while it started"; }
        sleep 0.1
    done
    fail "the server did not come up in 60 s"
}

[ -e "$VENV/complete" ] || install
printf '{"auth": [{"name": "first", "fixedHeaders": [{"name": "Authorization", "value": "Bearer %s"}]},
          {"name": "second", "fixedHeaders": [{"name": "Authorization", "value": "Bearer %s"}]}]}\n' \
    "$(make_key first)" "$(make_key second)" >"$WORK/keys.json"
cp schemathesis.toml hooks.py "$WORK"
start_server
cd "$WORK"
"$VENV/bin/schemathesis" --config-file schemathesis.toml run "$URL/openapi.json" --no-color
