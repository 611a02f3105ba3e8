"""One decision per event: cheap, the same for all its traces, and the same as the SDK's."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_OFF, DEFAULT_ON, ParentBasedTraceIdRatio

from eventing import headers, placement, tracing
from eventing.event import Event
from eventing.sampling import Ids, Sampling

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def traced(monkeypatch):
    """Return a function that installs a sampler and gives the spans it lets through."""

    def install(sampler):
        exporter, ids = InMemorySpanExporter(), Ids()
        provider = TracerProvider(sampler=sampler, id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(tracing, "_sampling", Sampling(provider, ids))
        monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
        monkeypatch.setattr(tracing, "exporting", lambda: True)
        return exporter.get_finished_spans

    return install


def event(traceparent=None, *, age=0.0, **changes):
    known = {headers.ORIGIN_TRACEPARENT: traceparent, headers.TRACEPARENT: traceparent} if traceparent else {}
    time = datetime.now(UTC) - timedelta(seconds=age)
    made = Event("1", "t", "s", "k", b"{}", time, "users", 0, 7, known)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def attempt(an_event, previous=None):
    return tracing.processed(an_event, topic="users", partition=0, offset=7, written=0, group="g", previous=previous)


def test_an_event_whose_creation_was_not_sampled_makes_no_span(traced):
    spans = traced(DEFAULT_ON)
    with attempt(event(UNSAMPLED)) as span:
        assert not span.is_recording()
    assert spans() == ()


def test_what_its_handler_sends_stays_in_its_trace_and_unsampled(traced):
    spans = traced(DEFAULT_ON)
    with attempt(event(UNSAMPLED)), tracing.created("mails", "2", "t") as hop:
        pass
    assert hop["traceparent"].startswith(f"00-{TRACE}-")
    assert hop["traceparent"].endswith("-00")
    assert spans() == ()


def test_its_dead_letter_is_not_sampled_either(traced):
    spans = traced(DEFAULT_ON)
    with attempt(event(UNSAMPLED)) as failed:
        pass
    with tracing.forwarded("users.g.dlq", "1", "g", "ValueError", failed) as hop:
        pass
    assert (hop["traceparent"][:36], hop["traceparent"][-2:]) == (f"00-{TRACE}-", "00")
    assert spans() == ()


def test_after_it_the_context_is_what_it_was(traced):
    traced(DEFAULT_ON)
    before = trace.set_span_in_context(trace.INVALID_SPAN)
    token = attach(before)
    with attempt(event(UNSAMPLED)):
        assert trace.get_current_span() is not trace.INVALID_SPAN
    assert trace.get_current_span() is trace.INVALID_SPAN
    detach(token)


@pytest.mark.parametrize("sampler", [DEFAULT_OFF, ParentBasedTraceIdRatio(0.0)], ids=["off", "ratio"])
def test_a_sampled_event_is_traced_at_every_age_and_attempt(traced, sampler):
    spans = traced(sampler)
    with attempt(event(SAMPLED)) as first:
        pass
    with attempt(event(SAMPLED, age=3600)):
        pass
    with attempt(event(SAMPLED, attempt=2), previous=first):
        pass
    young, late, again = spans()
    assert young.parent.trace_id == int(TRACE, 16)
    assert [span.parent for span in (late, again)] == [None, None]
    assert {link.context.trace_id for link in (*late.links, *again.links)} == {int(TRACE, 16)}


def test_a_retry_of_an_unsampled_event_is_not_sampled(traced):
    spans = traced(ParentBasedTraceIdRatio(1.0))
    with attempt(event(UNSAMPLED)) as first:
        pass
    with attempt(event(UNSAMPLED, attempt=2), previous=first):
        pass
    assert spans() == ()


def test_a_redriven_event_follows_the_redrive(traced):
    spans = traced(DEFAULT_ON)
    again = event(UNSAMPLED, redrives=1)
    again.headers[headers.TRACEPARENT] = SAMPLED
    with attempt(again):
        pass
    assert [span.parent.span_id for span in spans()] == [int(PARENT, 16)]


def test_without_a_context_the_ratio_decides_once(traced):
    spans = traced(ParentBasedTraceIdRatio(0.5))
    sampled = 0
    for _ in range(400):
        with attempt(event()) as span:
            sampled += span.get_span_context().trace_flags.sampled
    assert 100 < sampled < 300
    assert len(spans()) == sampled


def test_a_sampler_that_follows_nobody_is_asked_about_everything(traced):
    spans = traced(ALWAYS_ON)
    with attempt(event(UNSAMPLED)):
        pass
    assert len(spans()) == 1
    spans = traced(ALWAYS_OFF)
    with attempt(event(SAMPLED)):
        pass
    assert spans() == ()


def test_a_foreign_producers_only_context_counts_as_the_creation(traced):
    spans = traced(DEFAULT_ON)
    foreign = event()
    foreign.headers[headers.TRACEPARENT] = SAMPLED
    with attempt(foreign):
        pass
    assert [(s.parent.span_id, s.links[0].context.span_id) for s in spans()] == [(int(PARENT, 16), int(PARENT, 16))]


def test_a_relay_links_what_is_traced_and_makes_no_span_of_the_rest(traced):
    spans = traced(DEFAULT_ON)
    with tracing.relayed("users", [("1", UNSAMPLED), ("2", SAMPLED)]):
        pass
    with tracing.relayed("users", [("1", UNSAMPLED), ("2", None)]):
        pass
    (sent,) = spans()
    assert [link.attributes["messaging.message.id"] for link in sent.links] == ["2"]


def test_a_batch_is_traced_when_one_of_its_events_is(traced):
    spans = traced(DEFAULT_ON)
    with tracing.processed_batch([event(UNSAMPLED), event(SAMPLED)], "g"):
        pass
    with tracing.processed_batch([event(UNSAMPLED)], "g"), tracing.effect("a mail"):
        pass
    (called,) = spans()
    assert (len(called.links), called.attributes["messaging.batch.message_count"]) == (1, 2)


hexadecimal = st.text("0123456789abcdefF", min_size=30, max_size=33)
traceparents = st.one_of(
    st.text(max_size=80),
    st.sampled_from([SAMPLED, UNSAMPLED, f"00-{TRACE}-{PARENT}-02", f"00-{TRACE}-{PARENT}-03", "0" * 10_000]),
    st.builds("{}-{}-{}-{}".format, st.sampled_from(["00", "01", "ff", "0"]), hexadecimal, hexadecimal, hexadecimal),
    st.builds(
        "{}-{}-{}-{}{}".format,
        st.sampled_from(["00", "01", "cc", "ff"]),
        st.sampled_from([TRACE, "0" * 32, TRACE.upper()]),
        st.sampled_from([PARENT, "0" * 16]),
        st.sampled_from(["00", "01", "02", "fe", "ff", "0g"]),
        st.sampled_from(["", "-", "-more", "\n"]),
    ),
)


@given(traceparents)
def test_only_what_the_sdk_would_not_sample_is_dropped(traceparent):
    ids = Ids()
    sampling = Sampling(TracerProvider(sampler=DEFAULT_ON, id_generator=ids, shutdown_on_exit=False), ids)
    context = placement.context_of(traceparent)
    if traceparent and sampling.drops(traceparent, "process users"):
        assert context is not None
        assert not context.trace_flags.sampled
