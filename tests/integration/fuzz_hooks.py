"""What the fuzzer cannot read in an OpenAPI document."""

import uuid

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Use a key once: a valid key with another body is refused by design, however valid the body is."""
    if case.meta and case.meta.generation.mode.is_positive and case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
