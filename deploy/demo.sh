#!/usr/bin/env bash
# The whole path on one screen: a project as a tar archive through HTTP, first sync, then async with an artifact.
# `make demo` calls it. EXECBOX is the binary; PROJECT the folder that is sent.
set -euo pipefail
cd "$(dirname "$0")/.."

EXECBOX=${EXECBOX:?the path of the binary; or call: make demo}
PROJECT=${PROJECT:-examples/python/wordcount}
RUNTIME=$(basename "$(dirname "$PROJECT")")
WORK=$(mktemp -d)
SERVER=

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# Whatever happened: the server that was started here is stopped, and its folder goes.
finish() {
    local code=$?
    trap - EXIT
    if [ -n "$SERVER" ] && kill -TERM "$SERVER" 2>/dev/null; then
        wait "$SERVER" || code=$((code ? code : 1))
    fi
    if [ "$code" != 0 ] && [ -s "$WORK/log" ]; then
        printf 'demo: the end of the server log:\n' >&2
        tail -n 20 "$WORK/log" >&2
    fi
    rm -rf "$WORK"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

pretty() {
    if command -v jq >/dev/null; then jq .
    elif command -v python3 >/dev/null; then python3 -m json.tool
    else cat; echo
    fi
}

# A text value of field $1 in the JSON on standard input. Enough for our own compact answers.
field() { sed -n "s/.*\"$1\": *\"\\([^\"]*\\)\".*/\\1/p" | head -n 1; }

start_server() {
    "$EXECBOX" serve --listen 127.0.0.1:0 --data-dir "$WORK/data" 2>"$WORK/log" &
    SERVER=$!
    for _ in $(seq 300); do
        URL=$(sed -n 's,.*\(http://127\.0\.0\.1:[0-9]*\).*,\1,p' "$WORK/log" | head -n 1)
        if [ -n "$URL" ] && curl -fsS --max-time 5 "$URL/readyz" >"$WORK/ready" 2>/dev/null; then return; fi
        kill -0 "$SERVER" 2>/dev/null || fail "the server ended while it started"
        sleep 0.1
    done
    fail "the server was not ready after 30 s"
}

post() {
    curl -fsS --max-time 600 -F "tar=@$WORK/project.tar" -F "metadata=$METADATA" "$URL/api/v1/exec/$1"
}

step "the image of $RUNTIME (built once, then reused)"
"$EXECBOX" images build "$RUNTIME"

step "execbox serve"
start_server
echo "$URL"
pretty <"$WORK/ready"

step "the project: $PROJECT"
tar -cf "$WORK/project.tar" -C "$PROJECT" .
tar -tf "$WORK/project.tar"
METADATA='{"labels": {"from": "demo"}}'

step "sync: POST /api/v1/exec/sync"
post sync >"$WORK/sync"
pretty <"$WORK/sync"
grep -q '"status": *"completed"' "$WORK/sync" || fail "the sync execution is not completed"

step "async: POST /api/v1/exec/async, then GET with ?wait=30"
post async >"$WORK/async"
pretty <"$WORK/async"
ID=$(field execution_id <"$WORK/async")
for _ in $(seq 20); do
    curl -fsS --max-time 60 "$URL/api/v1/executions/$ID?wait=30" >"$WORK/result"
    case $(field status <"$WORK/result") in pending | running) ;; *) break ;; esac
done
pretty <"$WORK/result"
grep -q '"status": *"completed"' "$WORK/result" || fail "the async execution is not completed"

curl -fsS --max-time 60 "$URL/api/v1/executions/$ID/artifacts" >"$WORK/artifacts"
ARTIFACT=$(field path <"$WORK/artifacts")
[ -n "$ARTIFACT" ] || fail "$PROJECT left no artifact"
step "its artifact: GET /api/v1/executions/$ID/artifacts/$ARTIFACT"
curl -fsS --max-time 60 "$URL/api/v1/executions/$ID/artifacts/$ARTIFACT" -o "$WORK/artifact"
if grep -qI . "$WORK/artifact"; then head -c 4096 "$WORK/artifact"; else wc -c <"$WORK/artifact"; fi

step "done; the server drains and stops"
