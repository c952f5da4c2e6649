# shellcheck shell=bash
# What the scripts of the Engine matrix share. Sourced from the repository's root.

FOLDER=$PWD/target/engines
# As in the Makefile: the tests run the static binary, which is also the runner in the containers.
export CARGO_BUILD_TARGET=host-tuple
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static'
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static'
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'engines: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# The command $1, else the packages after it are installed.
need() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] || fail "$1 is missing; run as root, or: apt-get install $2"
    command -v apt-get >/dev/null || fail "$1 is missing, and only Debian and Ubuntu are known here"
    say "about to run: apt-get update; apt-get install -y --no-install-recommends ${*:2}"
    apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 install "${@:2}" </dev/null >&2
}

# The Engine's API at the socket $1; the rest goes to curl, the path last.
engine_api() {
    curl -fsS --unix-socket "$1" "${@:2:$#-2}" "http://engine${*: -1}"
}

# The socket of the machine's own Engine.
first_socket() {
    local socket
    for socket in /run/docker.sock /var/run/docker.sock; do
        if [ "$(engine_api "$socket" /_ping 2>/dev/null)" = OK ]; then
            echo "$socket"
            return
        fi
    done
    fail "the machine's own Engine does not answer; run deploy/setup-engine.sh"
}

# The binary that the tests run.
execbox_path() {
    echo "${CARGO_TARGET_DIR:-$PWD/target}/$(rustc -vV | sed -n 's/^host: //p')/debug/execbox"
}

# Names of the images that this build of execbox uses, and of their base, a line each.
runtime_images() {
    DOCKER_HOST=unix://$(first_socket) "$(execbox_path)" images list | awk 'NR > 1 { print $3 }'
    echo debian:trixie-slim
}
