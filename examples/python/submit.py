#!/usr/bin/env python3
"""Submits a task to workqueue, with nothing but Python's standard library, and prints its id.

    python3 submit.py QUEUE PAYLOAD        WORKQUEUE_URL=http://127.0.0.1:5000

PAYLOAD is JSON, or else a text.
"""
import json, os, sys, urllib.error, urllib.request

if len(sys.argv) != 3:
    sys.exit("usage: submit.py QUEUE PAYLOAD")
try:
    payload = json.loads(sys.argv[2])
except ValueError:
    payload = sys.argv[2]
url = os.environ.get("WORKQUEUE_URL", "http://127.0.0.1:5000") + "/api/v1/tasks"
body = json.dumps({"queue": sys.argv[1], "payload": payload}).encode()
try:
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
        print(json.load(answer)["id"])
except urllib.error.HTTPError as error:  # A problem document: its "detail" says in words what is wrong.
    sys.exit(error.read().decode())
except OSError as error:
    sys.exit(f"{url}: {error}")
