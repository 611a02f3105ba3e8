"""Bad records, and how each group has to end them."""

import json
import secrets
from dataclasses import dataclass, field

from tests.integration.rig import attributes, new_user

from workbench.fleet import GROUPS

HANDLED = None
REGISTERED = "com.evenkeel.user.registered.v1"
EXPLODED = "com.evenkeel.user.exploded.v1"
TWICE = (("ce_specversion", b"9"), ("n", b"1"), ("n", b"2"), ("ce_id", b"i1"), ("ce_id", b"i2"))


@dataclass(frozen=True)
class Bad:
    """A record, and by group: how it ends, as disposition and words of the message, or HANDLED."""

    value: bytes | None
    fates: dict[str, tuple[str, str] | None]
    headers: tuple[tuple[str, bytes | None], ...] = ()
    key: bytes | None = field(default_factory=lambda: new_user().encode())


def everywhere(words, disposition="undecodable"):
    return dict.fromkeys(GROUPS, (disposition, words))


def in_mailer(words, disposition="unknown-type"):
    """Dead-lettered by the mailer; analytics and the cache take every event."""
    return {"mailer": (disposition, words), "analytics": HANDLED, "profile-cache": HANDLED}


def event(words, value=b'{"userId": "u", "action": "registered"}', event_type=REGISTERED, **more):
    return Bad(value, everywhere(words), tuple(attributes(event_type, "u", **more)))


def without(name, **more):
    bad = event(f"header ce_{name} is missing")
    return Bad(bad.value, bad.fates, tuple(pair for pair in bad.headers if pair[0] != f"ce_{name}"), **more)


def bare(body, fates, **more):
    return Bad(body if isinstance(body, bytes) else json.dumps(body).encode(), fates, **more)


def structured(envelope, words):
    body = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
    return Bad(body, everywhere(words), (("content-type", b"application/cloudevents+json"),))


ENVELOPE = {"specversion": "1.0", "id": "i", "source": "/s", "type": REGISTERED}
UNDECODABLE = {
    "a structured event, no JSON": structured(b"{", "no structured CloudEvent"),
    "a structured event, a list": structured([], "no structured CloudEvent"),
    "a structured event, no id": structured(ENVELOPE | {"id": ""}, "ce_id is missing"),
    "a structured event, no data": structured(ENVELOPE, "body: Input should be an object"),
    "a structured event, no base64": structured(ENVELOPE | {"data_base64": "%"}, "no structured CloudEvent"),
    "a structured event, no Unicode": structured(ENVELOPE | {"partitionkey": "\ud800"}, "no structured CloudEvent"),
    "no JSON": bare(b"{", everywhere("the body is not JSON")),
    "nothing": bare(b"", everywhere("the body is not JSON")),
    "not UTF-8": bare(b'{"userId": "\xff", "action": "registered"}', everywhere("not JSON")),
    "JSON too deep": bare(b"[" * 100_000, everywhere("the body is not JSON")),
    "a number too long": bare(b"1" * 5_000, everywhere("the body is not JSON")),
    "no object": bare([1], everywhere("no 'action'")),
    "no action": bare({"userId": "u"}, everywhere("no 'action'")),
    "an action that is no text": bare({"userId": "u", "action": 5}, everywhere("no 'action'")),
    "an action that is no Unicode": bare(b'{"userId": "u", "action": "\\ud800"}', everywhere("no 'action'")),
    "no userId": bare({"action": "registered"}, everywhere("userId: Field required")),
    "an empty userId and an empty key": bare({"userId": "", "action": "registered"}, everywhere("userId"), key=b""),
    "a userId that is no id": bare({"userId": {"a": 1}, "action": "registered"}, everywhere("userId")),
    "no address": bare({"userId": 1, "action": "registered", "email": "ada"}, everywhere("email")),
    "an event, no JSON": event("body: Invalid JSON", b"{"),
    "an event, no userId": event("userId: Field required", b"{}"),
    "an event, the action of another": event("action", b'{"userId": "u", "action": "deleted"}'),
    "an event, no address": event("email", b'{"userId": "u", "email": "a@b@c"}'),
    "null and a key": Bad(None, everywhere("the body is null")),
    "null and no key": Bad(None, everywhere("the body is null"), key=None),
    "null in an event": event("the body is null", None),
    "a header that is not UTF-8": bare(b"{}", everywhere("header x-note is not UTF-8"), headers=(("x-note", b"\xff"),)),
    "a time that is none": event("header ce_time is 'yesterday'", time="yesterday"),
    "a time out of range": event("header ce_time", time="9999-12-31T23:59:59-23:59"),
    "another version of CloudEvents": event("header ce_specversion is '0.3'", specversion="0.3"),
    "a version that is no number": event("header ce_aggregateversion is 'two'", aggregateversion="two"),
    "a version that is no 64-bit number": event("header ce_aggregateversion is '1000", aggregateversion=str(10**30)),
    "a negative version": event("header ce_aggregateversion is '-1'", aggregateversion="-1"),
    "an expiry that is none": event("header ce_expirytime", expirytime="soon"),
    "an id with a NUL": event("header ce_id is 'a\\x00b'", id="a\0b"),
    "no id": without("id"),
    "no type": without("type"),
    "no source": without("source"),
    "headers twice, the first ones wrong": Bad(
        b'{"userId": "u", "action": "registered"}',
        everywhere("header ce_specversion is '9'"),
        (*TWICE, *attributes(REGISTERED, "u")),
    ),
    "a forged origin": bare(
        b"{",
        everywhere("not JSON"),
        headers=(("x-origin-topic", b"elsewhere"), ("x-origin-partition", b"99"), ("x-origin-offset", b"7")),
    ),
}

OTHERS = {
    "an unknown action": bare({"userId": "u", "action": "exploded"}, in_mailer("'exploded'")),
    "an unknown type": Bad(b"{}", in_mailer(repr(EXPLODED)), tuple(attributes(EXPLODED, "u"))),
    "an unknown type, no JSON": Bad(
        b"{",
        everywhere("the body is not JSON") | {"mailer": ("unknown-type", repr(EXPLODED))},
        tuple(attributes(EXPLODED, "u")),
    ),
    "no address in an event": bare(
        {"userId": "u", "action": "registered"}, in_mailer("email is missing", "permanent"), key=None
    ),
    "an id longer than an index takes": Bad(
        b'{"userId": "u", "action": "registered", "email": "long@example.com"}',
        in_mailer("index row", "exhausted") | {"analytics": ("exhausted", "index row")},
        tuple(attributes(REGISTERED, "u", id=secrets.token_hex(5_000))),
    ),
}
