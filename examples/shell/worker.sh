#!/usr/bin/env bash
# A worker for workqueue, with bash, curl and jq.
#
#     bash worker.sh [QUEUE]        WORKQUEUE_URL=http://127.0.0.1:5000  WORKQUEUE_LEASE=60 (whole seconds)
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
    local payload seconds
    payload=$(cat)
    seconds=$(jq -r 'if type != "object" then 0 elif .fail then .fail | halt_error(1) else .seconds // 0 end' <<<"$payload") || return 1
    [[ $seconds == 0 ]] || sleep "$seconds"
    printf '%s\n' "$payload"
}

# post PATH BODY FILE: asks until the daemon answers, with growing pauses while it restarts; the answer goes into FILE.
post() {
    local pause=1 status
    while :; do
        status=$(curl --silent --show-error --max-time 30 --header 'Content-Type: application/json' --data "$2" \
            --output "$3" --write-out '%{http_code}' "$url$1")
        case $status in
        2*) return 0 ;;
        000 | 5*) echo "the daemon does not answer ($status), again in $pause s" >&2 ;;
        *) echo "$1: $(cat "$3")" >&2 && return 1 ;;
        esac
        sleep "$pause"
        pause=$((pause < 5 ? pause + 1 : 5))
    done
}

# Keeps the lease of task $1 with token $2 while the work lasts; a look every second shows whether it still does.
extend() {
    local next=$((SECONDS + third))
    while sleep 1 && [[ -e $answer.working ]]; do
        ((SECONDS < next)) && continue
        post "/tasks/$1/extend" "{\"token\":\"$2\",\"lease\":$lease}" "$answer.extend" || return
        next=$((SECONDS + third))
    done
}

third=$((lease / 3))
completed=
while [[ ! $stopping ]]; do
    # bash runs a trap when the program in the foreground has ended: so a stop waits for this claim, at most five seconds.
    post /claim "{\"queues\":[\"$queue\"],\"wait\":5,\"lease\":$lease,\"worker\":\"shell:$$\",\"complete\":[$completed]}" "$answer" || exit 1
    completed=
    mapfile -t task < <(jq -r '.tasks[] | .id, .token, (.payload | tojson)' "$answer")
    ((${#task[@]})) || continue
    id=${task[0]} token=${task[1]}
    if [[ $stopping ]]; then
        post "/tasks/$id/release" "{\"token\":\"$token\"}" "$answer.released"
        break
    fi
    touch "$answer.working"
    extend "$id" "$token" &
    keeper=$!
    if handle <<<"${task[2]}" 2>"$answer.error"; then
        # Told with the next claim, which saves a round trip.
        completed="{\"id\":\"$id\",\"token\":\"$token\"}"
    else
        post "/tasks/$id/fail" "$(jq -nc --arg token "$token" --rawfile error "$answer.error" \
            '{token: $token, error: $error}')" "$answer.failed"
    fi
    rm -f "$answer.working"
    kill "$keeper" 2>/dev/null
    wait "$keeper" 2>/dev/null
done
[[ ! $completed ]] || post /claim "{\"max\":0,\"complete\":[$completed]}" "$answer"
