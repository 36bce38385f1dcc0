#!/usr/bin/env bash
# A worker for workqueue, with bash, curl and jq.
#
#     bash worker.sh [QUEUE]        WORKQUEUE_URL=http://127.0.0.1:5000  WORKQUEUE_LEASE=60
#
# Copy it, and replace `handle`. It stops on SIGTERM, after the task that it is doing.
set -u
url=${WORKQUEUE_URL:-http://127.0.0.1:5000}/api/v1
lease=${WORKQUEUE_LEASE:-60}
queue=${1:-default}
answer=$(mktemp)
trap 'rm -f "$answer" "$answer".*' EXIT
stopping=
trap 'stopping=yes' TERM

# The work: the payload comes on standard input as JSON. What it writes to standard error is the error of a failed attempt.
handle() {
    local payload
    payload=$(cat)
    if jq -e 'type == "object" and has("fail")' <<<"$payload" >/dev/null; then
        jq -r .fail <<<"$payload" >&2
        return 1
    fi
    sleep "$(jq -r 'if type == "object" then .seconds // 0 else 0 end' <<<"$payload")"
    printf '%s\n' "$payload"
}

# post PATH BODY FILE: asks until the daemon answers, with growing pauses while it restarts; the answer goes into FILE.
# A stop ends a wait: bash runs a trap during `wait`, but only after a program in the foreground.
post() {
    local pause=1 status curl
    while :; do
        curl --silent --show-error --max-time 90 --header 'Content-Type: application/json' --data "$2" \
            --output "$3" --write-out '%{http_code}' "$url$1" >"$3.status" &
        curl=$!
        wait "$curl"
        if [[ $stopping && ${waiting-} ]]; then
            kill "$curl" 2>/dev/null
            return 1
        fi
        # A signal ends a wait early; the request is to be answered all the same.
        while kill -0 "$curl" 2>/dev/null; do wait "$curl"; done
        status=$(cat "$3.status")
        case $status in
        2*) return 0 ;;
        000 | 5*) echo "the daemon does not answer ($status), again in $pause s" >&2 ;;
        *) echo "$1: $(cat "$3")" >&2 && return 1 ;;
        esac
        sleep "$pause"
        pause=$((pause < 5 ? pause + 1 : 5))
    done
}

# Keeps the lease of task $1 with token $2 while the work lasts.
extend() {
    local nap=
    trap '[[ $nap ]] && kill "$nap" 2>/dev/null; exit' TERM
    while :; do
        sleep "$(jq -n "$lease / 3")" &
        nap=$!
        wait "$nap"
        post "/tasks/$1/extend" "{\"token\":\"$2\",\"lease\":$lease}" "$answer.extend" || return
    done
}

completed='[]'
while [[ ! $stopping ]]; do
    claim=$(jq -nc --arg queue "$queue" --argjson lease "$lease" --argjson completed "$completed" \
        --arg worker "shell:$$" '{queues: [$queue], wait: 30, lease: $lease, worker: $worker, complete: $completed}')
    # A claim that waits is given up by a stop; what it was just handed comes back when its lease ends.
    waiting=yes
    post /claim "$claim" "$answer" || {
        [[ $stopping ]] || exit 1
        break
    }
    waiting=
    completed='[]'
    task=$(jq -c '.tasks[0] // empty' "$answer")
    [[ $task ]] || continue
    id=$(jq -r .id <<<"$task") token=$(jq -r .token <<<"$task")
    extend "$id" "$token" &
    keeper=$!
    if jq -c .payload <<<"$task" | handle 2>"$answer.error"; then
        # Told with the next claim, which saves a round trip.
        completed="[{\"id\":\"$id\",\"token\":\"$token\"}]"
    else
        post "/tasks/$id/fail" "$(jq -nc --arg token "$token" --rawfile error "$answer.error" \
            '{token: $token, error: $error}')" "$answer.failed"
    fi
    kill "$keeper" 2>/dev/null
    wait "$keeper" 2>/dev/null
done
waiting=
# Said again where it is not sure that it was heard: the second time does nothing.
[[ $completed == '[]' ]] || post /claim "{\"max\":0,\"complete\":$completed}" "$answer"
