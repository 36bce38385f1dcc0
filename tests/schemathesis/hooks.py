"""What schemathesis has to know about the daemon beyond its description.

Streams and long polls would hold each case up, and limits in bytes, or between two members, have no words in JSON Schema.
Each hook below changes a case only within what the description allows.
"""

import schemathesis

MOST_BYTES = {"worker": 128, "unique_key": 256}


def objects(body):
    """The objects that a body holds, whole or in an array."""
    if isinstance(body, dict):
        return [body]
    if isinstance(body, list):
        return [one for one in body if isinstance(one, dict)]
    return []


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shorten(one):
    for name, most in MOST_BYTES.items():
        value = one.get(name)
        if isinstance(value, str) and len(value) <= most:
            one[name] = value.encode("utf-8", "ignore")[:most].decode("utf-8", "ignore")


def order_backoff(one):
    backoff = one.get("backoff")
    if isinstance(backoff, dict):
        base, most = backoff.get("base"), backoff.get("max")
        if is_number(base) and is_number(most) and most < base <= 31_622_400 and most >= 0:
            backoff["max"] = base


def leave_out_lone_state(one):
    # Beside no parent only a state of none, or a wrong one, is as described.
    if one.get("traceparent") is None and isinstance(one.get("tracestate"), str):
        del one["tracestate"]


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    if path == "/api/v1/events":
        query = dict(case.query) if isinstance(case.query, dict) else {}
        if query.get("follow") in (None, True, "true"):
            query["follow"] = "false"
        case.query = query
    if isinstance(case.body, dict) and isinstance(case.query, dict):
        # In the query or in the body, not in both.
        for name in ("queue", "state"):
            if case.body.get(name) is not None:
                case.query.pop(name, None)
    if path == "/log-level" and isinstance(case.body, dict):
        # Directives have a grammar of their own, of which the description gives an example.
        if isinstance(case.body.get("level"), str) and case.body["level"]:
            case.body["level"] = "info"
    for one in objects(case.body):
        if path == "/api/v1/claim" and is_number(one.get("wait")) and 0 < one["wait"] <= 300:
            one["wait"] = 0
        shorten(one)
        leave_out_lone_state(one)
        order_backoff(one)
