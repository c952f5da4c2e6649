#!/usr/bin/env bash
# Runs a command with DOCKER_HOST at an Engine of trixie's own, started for it beside the machine's, with the images of
# execbox in it. Nothing of the Engine is left afterwards.
#
#   with-engine.sh [--data-root FOLDER] COMMAND ...
set -euo pipefail
cd "$(dirname "$0")/../../.."
. tests/engines/shared.sh

OWN=$(mktemp -d /tmp/execbox-engine.XXXXXX)
DATA=$OWN/data
if [ "$1" = --data-root ]; then
    DATA=$2
    shift 2
fi
SOCKET=$OWN/engine.sock
DOCKERD=
COMMAND=

# containerd and the shims outlive a killed dockerd; their command lines name our folder.
own_processes() {
    local pid line
    for pid in /proc/[0-9]*; do
        line=$({ tr '\0' ' ' <"$pid/cmdline"; } 2>/dev/null) || continue
        case $line in *"$OWN/exec"*) echo "${pid#/proc/}" ;; esac
    done
}

stop() {
    trap - EXIT INT TERM
    if [ -n "$COMMAND" ]; then
        kill "$COMMAND" 2>/dev/null || true
        wait "$COMMAND" 2>/dev/null || true
    fi
    if [ -n "$DOCKERD" ]; then
        kill "$DOCKERD" 2>/dev/null || true
        wait "$DOCKERD" 2>/dev/null || true
        # shellcheck disable=SC2046  # one word for each process
        kill -9 $(own_processes) 2>/dev/null || true
    fi
    # Its mounts are in a namespace that went with it.
    rm -rf "$OWN" || say "$OWN could not be removed"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() {
    PATH=$PWD/tests/engines/trixie:$PATH unshare --net dockerd --bridge=none --iptables=false \
        --host "unix://$SOCKET" --data-root "$DATA" --exec-root "$OWN/exec" --pidfile "$OWN/pid" \
        >"$OWN/log" 2>&1 </dev/null &
    DOCKERD=$!
    local deadline=$((SECONDS + 60))
    until [ "$(engine_api "$SOCKET" /_ping 2>/dev/null)" = OK ]; do
        if [ ! -d "/proc/$DOCKERD" ] || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$OWN/log" >&2
            fail "trixie's Engine does not come up; its last words are above"
        fi
        sleep 0.2
    done
}

# Its containers have no network, and neither has a build: the images come from the machine's Engine as they are.
load_images() {
    local names
    names=$(runtime_images | sed 's/^/names=/' | paste -sd '&')
    engine_api "$(first_socket)" "/images/get?$names" |
        engine_api "$SOCKET" -X POST -H 'Content-Type: application/x-tar' -T - '/images/load?quiet=1' >"$OWN/loaded"
    if grep -q '"error"' "$OWN/loaded"; then fail "the images could not be loaded: $(cat "$OWN/loaded")"; fi
    # A list without names gives an archive without images, and no error.
    engine_api "$SOCKET" /images/json | grep -q execbox/bash || fail "no images were loaded; asked for: $names"
}

tests/engines/root.sh >/dev/null
start
load_images
# In the background, so that a signal is heard at once and goes on to it.
DOCKER_HOST=unix://$SOCKET PATH=$PWD/tests/engines/trixie:$PATH "$@" <&0 &
COMMAND=$!
wait "$COMMAND"
