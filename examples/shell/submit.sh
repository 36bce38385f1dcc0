#!/usr/bin/env bash
# Submits a task to workqueue, with curl and jq, and prints its id.
#
#     bash submit.sh QUEUE PAYLOAD        WORKQUEUE_URL=http://127.0.0.1:5000
#
# PAYLOAD is JSON, or else a text.
set -euo pipefail
if (($# != 2)); then
    echo "usage: submit.sh QUEUE PAYLOAD" >&2
    exit 1
fi
jq -nc --arg queue "$1" --arg text "$2" '{queue: $queue, payload: ($text | try fromjson catch $text)}' |
    curl --silent --show-error --fail-with-body --header 'Content-Type: application/json' --data @- \
        "${WORKQUEUE_URL:-http://127.0.0.1:5000}/api/v1/tasks" |
    jq -r '.id // .'
