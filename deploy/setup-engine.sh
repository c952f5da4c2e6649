#!/usr/bin/env bash
# Finds a working Docker Engine, or on Debian and Ubuntu installs and starts one. Safe to run again and again.
#
#   DOCKER_HOST              the Engine to use, as unix:///PATH, /PATH, tcp://HOST:PORT or http://HOST:PORT; only this one
#                            is tried when it is set
#   EXECBOX_BASE_IMAGE       base of the runtime images (debian:trixie-slim)
#   EXECBOX_DOCKERD_ARGS     more arguments for a dockerd that is started here. Beside another dockerd never
#                            --bridge=none: it removes the other one's docker0
#   EXECBOX_DOCKERD_LOG      its log (/var/log/execbox-dockerd.log)
#   EXECBOX_DOCKERD_SECONDS  how long it may take until it answers (90)
set -euo pipefail

# dockerd lives where an ordinary user does not look.
PATH=$PATH:/usr/sbin:/sbin
DOCKER_HOST=${DOCKER_HOST:-${EXECBOX_DOCKER_HOST:-}}
BASE_IMAGE=${EXECBOX_BASE_IMAGE:-debian:trixie-slim}
LOG=${EXECBOX_DOCKERD_LOG:-/var/log/execbox-dockerd.log}
SECONDS_TO_START=${EXECBOX_DOCKERD_SECONDS:-90}
PID_FILE=/var/run/docker.pid

say() { printf 'setup-engine: %s\n' "$*"; }
fail() { printf 'setup-engine: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- find ---------------------------------------------------------------------------------------------------------

# One request to the Engine at address $1; the rest goes to curl, the path last.
engine_curl() {
    local address=$1
    shift
    case $address in
        unix://*) curl -fsS --unix-socket "${address#unix://}" "${@:1:$#-1}" "http://engine${*: -1}" ;;
        tcp://* | http://*) curl -fsS "${@:1:$#-1}" "http://${address#*://}${*: -1}" ;;
        *) return 2 ;;
    esac
}

answers() {
    case $1 in
        unix://*) [ -S "${1#unix://}" ] || return 1 ;;
        tcp://* | http://*) ;;
        *) return 1 ;; # docker may speak it, execbox does not
    esac
    if have curl; then
        [ "$(engine_curl "$1" --max-time 5 /_ping 2>/dev/null)" = OK ]
    elif have docker; then
        DOCKER_HOST=$1 timeout 10 docker version >/dev/null 2>&1
    else
        return 1
    fi
}

# The addresses worth trying, best first.
addresses() {
    if [ -n "$DOCKER_HOST" ]; then
        printf '%s\n' "$DOCKER_HOST"
        return
    fi
    printf 'unix://%s\n' /run/docker.sock /var/run/docker.sock "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock"
    if have docker; then
        docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true
    fi
}

# Sets ENGINE to the first address that answers.
find_engine() {
    local address
    while read -r address; do
        if answers "$address"; then
            ENGINE=$address
            return 0
        fi
    done < <(addresses)
    return 1
}

# A socket that is there and may not be used needs a group, not another Engine. Never root's group.
refuse_forbidden_socket() {
    local address path group way_in
    while read -r address; do
        path=${address#unix://}
        if [ -S "$path" ] && [ ! -w "$path" ]; then
            group=$(stat -Lc %G "$path")
            way_in="or: sudo usermod -aG $group $(id -un), and log in again"
            if [ "$group" = root ]; then way_in="or as the user whose Engine it is"; fi
            fail "$path is there, but $(id -un) may not use it. Run as root, $way_in."
        fi
    done < <(addresses)
}

# What execbox itself refuses, before anything is installed for it.
check_address() {
    case $DOCKER_HOST in
        '' | unix://?* | tcp://?* | http://?*) ;;
        /*) DOCKER_HOST=unix://$DOCKER_HOST ;;
        *) fail "DOCKER_HOST=$DOCKER_HOST is no address that execbox can use; write unix:///run/docker.sock, tcp://HOST:PORT or http://HOST:PORT, or unset it to use a local Engine." ;;
    esac
}

# --- install ------------------------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

require_debian_and_root() {
    local id=unknown like=
    if [ -r /etc/os-release ]; then
        # shellcheck source=/dev/null
        id=$(. /etc/os-release && printf '%s' "${ID:-unknown}")
        # shellcheck source=/dev/null
        like=$(. /etc/os-release && printf '%s' "${ID_LIKE:-}")
    fi
    if ! have apt-get || [[ " $id $like " != *" debian "* && $id != ubuntu ]]; then
        fail "$1, and this script installs it only on Debian and Ubuntu (this is $id). Install it and run this again."
    fi
    if [ "$(id -u)" != 0 ] && ! have sudo; then
        fail "$1, and installing it needs root. Run this as root: sudo deploy/setup-engine.sh"
    fi
}

install_packages() {
    say "about to run: apt-get update; apt-get install -y --no-install-recommends $*"
    as_root apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update </dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install "$@" </dev/null
}

# --- start --------------------------------------------------------------------------------------------------------

dockerd_runs() {
    local pid
    pid=$(cat "$PID_FILE" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

start_by_itself() {
    local -a arguments
    read -ra arguments <<<"${EXECBOX_DOCKERD_ARGS:-}"
    if [ -n "$DOCKER_HOST" ]; then arguments+=(--host "$DOCKER_HOST"); fi
    # A pid file that a crash left behind stops dockerd when another program has the number now.
    if [ -e "$PID_FILE" ] && ! dockerd_runs && [[ " ${arguments[*]} " != *--pidfile* ]]; then
        as_root rm -f "$PID_FILE"
    fi
    say "no service manager runs here: starting dockerd ${arguments[*]} (log: $LOG)"
    # shellcheck disable=SC2016  # the inner shell expands these
    local -a command=(setsid nohup sh -c 'log=$1; shift; exec dockerd "$@" >>"$log" 2>&1' sh "$LOG" "${arguments[@]}")
    if [ "$(id -u)" != 0 ]; then
        sudo true # asks for the password while there is still a terminal to ask on
        command=(sudo "${command[@]}")
    fi
    # Its own session, and none of our descriptors: whoever waits for the end of our output must not wait for dockerd.
    (exec "${command[@]}") </dev/null >/dev/null 2>&1 &
    DOCKERD_PID=$!
}

start_engine() {
    DOCKERD_PID=
    if [ -z "$DOCKER_HOST" ] && dockerd_runs; then
        say "dockerd runs already; waiting for it to answer"
    elif [ -z "$DOCKER_HOST" ] && [ -d /run/systemd/system ] && [ "$(cat /proc/1/comm)" = systemd ]; then
        say "starting docker.service"
        as_root systemctl enable --now docker.service </dev/null || fail "systemctl could not start docker.service; see: journalctl -u docker"
    else
        start_by_itself
    fi
    wait_for_engine
}

wait_for_engine() {
    local deadline=$((SECONDS + SECONDS_TO_START))
    until find_engine; do
        if [ -n "$DOCKERD_PID" ] && [ ! -d "/proc/$DOCKERD_PID" ]; then
            show_log
            fail "dockerd ended while it started; its last words are above ($LOG)"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            show_log
            refuse_forbidden_socket
            fail "dockerd does not answer after $SECONDS_TO_START s; see $LOG"
        fi
        sleep 0.2
    done
}

show_log() {
    if [ -r "$LOG" ]; then tail -n 20 "$LOG" >&2; fi
}

# --- the base image -----------------------------------------------------------------------------------------------

# The runtime images start from a Debian base: one that is here, one that can be pulled, or one that is made from
# packages. mmdebstrap is installed only for the last.
base_can_be_had() {
    have mmdebstrap && return 0
    engine_curl "$ENGINE" --max-time 10 -o /dev/null "/images/$BASE_IMAGE/json" 2>/dev/null && return 0
    say "pulling $BASE_IMAGE"
    # The Engine answers 200 and then tells of a failure in the stream.
    engine_curl "$ENGINE" --max-time 180 -o /dev/null -X POST \
        "/images/create?fromImage=${BASE_IMAGE%:*}&tag=${BASE_IMAGE##*:}" 2>/dev/null || return 1
    engine_curl "$ENGINE" --max-time 10 -o /dev/null "/images/$BASE_IMAGE/json" 2>/dev/null
}

main() {
    check_address
    if ! find_engine; then
        refuse_forbidden_socket
        if [ -n "$DOCKER_HOST" ] && [[ $DOCKER_HOST != unix://* ]]; then
            fail "no Engine answers at DOCKER_HOST=$DOCKER_HOST. Start it, or unset DOCKER_HOST to use a local one."
        fi
        if ! have dockerd || ! have curl; then
            require_debian_and_root "no Docker Engine answers here"
            install_packages docker.io mmdebstrap debian-archive-keyring ca-certificates curl
        fi
        # The package may have started it.
        find_engine || start_engine
    fi
    if ! have curl; then
        require_debian_and_root "curl is missing"
        install_packages curl ca-certificates
    fi
    if ! base_can_be_had; then
        require_debian_and_root "$BASE_IMAGE can't be pulled, and mmdebstrap, which makes a base from packages, is missing"
        install_packages mmdebstrap debian-archive-keyring ca-certificates
    fi
    say "Docker Engine answers at $ENGINE"
}

main "$@"
