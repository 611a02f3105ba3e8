"""Where attempts stand: linked by default, one trace when so configured, and never in another event's."""

import asyncio
from datetime import UTC, datetime

from eventing import headers, placement, tracing
from eventing.event import Event
from eventing.settings import Settings

PARENT = "b7ad6b7169203331"


def event(number):
    hop = f"00-{number + 1:032x}-{PARENT}-01"
    known = {headers.ORIGIN_TRACEPARENT: hop, headers.TRACEPARENT: hop}
    return Event(f"event-{number}", "t", "s", "k", b"{}", datetime.now(UTC), "users", 0, number, known)


def attempt(an_event, previous=None):
    place = {"topic": "users", "partition": 0, "offset": an_event.offset, "written": 0, "group": "g"}
    return tracing.processed(an_event, **place, previous=previous)


def retried(monkeypatch, mode):
    monkeypatch.setattr(placement, "settings", lambda: Settings(trace_retries=mode))
    with attempt(event(0)) as first:
        pass
    with attempt(event(0), previous=first):
        pass
    later = event(0)
    later.retried = True
    with attempt(later):
        pass


def test_a_retry_begins_a_trace_linked_to_the_attempt_before_and_to_the_origin(spans, monkeypatch):
    retried(monkeypatch, "link")
    first, again, from_topic = spans()
    assert (first.parent.trace_id, again.parent, from_topic.parent) == (1, None, None)
    named = [(link.context.span_id, link.attributes["app.link.type"]) for link in again.links]
    assert named == [(int(PARENT, 16), "origin"), (first.context.span_id, "retry")]


def test_with_continue_every_attempt_stays_in_the_trace_of_the_origin(spans, monkeypatch):
    retried(monkeypatch, "continue")
    assert {span.context.trace_id for span in spans()} == {1}
    assert {span.parent.span_id for span in spans()} == {int(PARENT, 16)}


async def test_a_hundred_events_at_once_keep_to_their_own_traces(spans):
    everybody = asyncio.Barrier(100)

    async def handle(number):
        for _ in range(5):
            with attempt(event(number)):
                await everybody.wait()  # all of them are inside
                with tracing.effect(f"effect {number}"):
                    await asyncio.sleep(0)
                with tracing.created("mails", f"mail-{number}", "t") as hop:
                    await asyncio.sleep(0)
                assert hop["traceparent"].split("-")[1] == f"{number + 1:032x}"

    await asyncio.gather(*map(handle, range(100)))
    parents = {span.context.span_id: span for span in spans() if span.name == "process users"}
    assert len(parents) == 500
    below = [span for span in spans() if span.name != "process users"]
    assert len(below) == 1000
    for span in below:
        number = parents[span.parent.span_id].attributes["messaging.kafka.offset"]
        assert span.attributes.get("app.effect", f"effect {number}") == f"effect {number}"
        assert span.attributes.get("messaging.message.id", f"mail-{number}") == f"mail-{number}"
