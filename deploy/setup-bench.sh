#!/usr/bin/env bash
# What `make bench` compares with, beside the Engine: Bubblewrap from Debian, and llm-sandbox from PyPI in an environment
# of its own under target/. Safe to run again and again.
set -euo pipefail
cd "$(dirname "$0")/.."

PEER=$PWD/target/bench-peer
PINNED=benches/speed/peer/requirements.txt

say() { printf 'setup-bench: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
    say "installing $*"
    as_root apt-get install -y -q "$@" >/dev/null ||
        { as_root apt-get update -q >/dev/null && as_root apt-get install -y -q "$@" >/dev/null; }
}

command -v bwrap >/dev/null || install bubblewrap

if ! cmp -s "$PINNED" "$PEER/requirements.txt"; then
    say "installing llm-sandbox into target/bench-peer"
    rm -rf "$PEER"
    python3 -m venv "$PEER" 2>/dev/null || { rm -rf "$PEER"; install python3-venv; python3 -m venv "$PEER"; }
    "$PEER/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$PINNED"
    # Last: what is cut short is done again.
    cp "$PINNED" "$PEER/requirements.txt"
fi
