"""Streams of JSON lines, which schemathesis does not know by itself."""

import json
import re
import uuid

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def serialize(context, value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", errors="ignore")
    rows = value if isinstance(value, list) else [value]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@schemathesis.deserializer("application/x-ndjson")
def deserialize(context, response):
    return [json.loads(line) for line in response.content.splitlines() if line.strip()]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Gives each request a valid idempotency key of its own.

    A key that comes again asks for the stored answer, which may tell of something that was
    deleted since: that is what the key is for, and looks like a lost resource to the fuzzer.
    The cases of the coverage phase are each about one deviation and stay as they are.
    """
    if case.meta is None or case.meta.phase.name.value == "coverage":
        return
    key = (case.headers or {}).get("Idempotency-Key", "")
    if re.fullmatch("[!-~]{1,90}", key):
        case.headers["Idempotency-Key"] = f"{key}-{uuid.uuid4()}"
