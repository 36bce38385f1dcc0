#!/usr/bin/env python3
"""A worker for workqueue, with nothing but Python's standard library.

    python3 worker.py [QUEUE]        WORKQUEUE_URL=http://127.0.0.1:5000  WORKQUEUE_LEASE=60

Copy it, and replace `handle`. It stops on SIGTERM or Ctrl-C, after the task that it is doing.
"""
import http.client, json, os, signal, sys, threading, time, urllib.error, urllib.request

URL = os.environ.get("WORKQUEUE_URL", "http://127.0.0.1:5000") + "/api/v1"
LEASE = float(os.environ.get("WORKQUEUE_LEASE", "60"))
QUEUE = sys.argv[1] if len(sys.argv) > 1 else "default"
state = {"stopping": False, "waiting": False}

def handle(payload):
    """The work. What it raises is the error of a failed attempt, which is tried again later."""
    if isinstance(payload, dict) and "fail" in payload:
        raise ValueError(payload["fail"])
    time.sleep(payload.get("seconds", 0) if isinstance(payload, dict) else 0)
    print(json.dumps(payload), flush=True)

def call(path, body):
    """Asks until the daemon answers: while it restarts, with growing pauses."""
    pause = 0.1
    while True:
        request = urllib.request.Request(URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise RuntimeError(f"{path}: {error.read().decode()}") from error
            reason = error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error
        print(f"the daemon does not answer, again in {pause:.1f} s: {reason}", file=sys.stderr)
        time.sleep(pause)
        pause = min(pause * 2, 5)

def extend(task, done):
    """Keeps the lease while the work lasts."""
    while not done.wait(LEASE / 3):
        try:
            call(f"/tasks/{task['id']}/extend", {"token": task["token"], "lease": LEASE})
        except RuntimeError as error:
            return print(f"the lease is lost: {error}", file=sys.stderr)

def work(task):
    """Does one task, and gives what the next claim tells of it: nothing where the attempt failed."""
    done = threading.Event()
    keeper = threading.Thread(target=extend, args=(task, done))
    keeper.start()
    try:
        handle(task["payload"])
        return [{"id": task["id"], "token": task["token"]}]
    except Exception as error:
        failure = {"token": task["token"], "error": f"{type(error).__name__}: {error}"}
    finally:
        done.set()
        keeper.join()
    try:
        call(f"/tasks/{task['id']}/fail", failure)
    except RuntimeError as error:
        print(f"the lease is lost: {error}", file=sys.stderr)
    return []

def stop(*_):
    state["stopping"] = True
    if state["waiting"]:  # A claim that waits is given up; what it was just handed comes back when its lease ends.
        state["waiting"] = False
        raise KeyboardInterrupt

def main():
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    completed = []
    claim = {"queues": [QUEUE], "wait": 30, "lease": LEASE, "worker": f"python:{os.getpid()}"}
    try:
        while not state["stopping"]:
            state["waiting"] = True
            tasks = call("/claim", claim | {"complete": completed})["tasks"]
            state["waiting"] = False
            completed = [end for task in tasks for end in work(task)]
    except KeyboardInterrupt:
        pass
    if completed:  # Said again where it is not sure that it was heard: the second time does nothing.
        call("/claim", {"max": 0, "complete": completed})

main()
