"""Which events are traced: one decision per event, taken where it was created and followed by every trace linked to it.

The SDK decides when a span starts, after its parent was parsed and its links and attributes were made; of a hundred
events that are traced at 5 %, ninety-five pay for that in vain. What decides stands in the header's last two digits.
"""

import re
import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    get_current_span,
)

# W3C Trace Context, level 1: version, trace id, parent id, and flags whose lowest bit is not set.
_UNSAMPLED = re.compile("(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")
_NOTHING = Context()
_random = RandomIdGenerator()


class Following(Sampler):
    """A parent-based sampler whose new traces follow the traces they are linked to, when there are any.

    Without this, a retry or a late event would be decided anew, and a story that is traced would lose its end.
    """

    def __init__(self, configured: ParentBased) -> None:
        """Describe the sampler; `configured` decides what has neither parent nor link."""
        self._configured = configured

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about one span, as the SDK asks it."""
        decide: Sampler = self._configured
        if links and not get_current_span(parent_context).get_span_context().is_valid:
            decide = ALWAYS_ON if any(link.context.trace_flags.sampled for link in links) else ALWAYS_OFF
        return decide.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Name the sampler in the SDK's logs."""
        return "Following"


class Ids(RandomIdGenerator):
    """Random ids; a trace that was decided about before its span is made gets the id that was decided about."""

    def __init__(self) -> None:
        self._decided = threading.local()

    def decided(self, trace_id: int) -> None:
        """Give this id to the next trace of this thread."""
        self._decided.trace_id = trace_id

    def generate_trace_id(self) -> int:
        """Return the id of a new trace."""
        trace_id: int = getattr(self._decided, "trace_id", 0)
        self._decided.trace_id = 0
        return trace_id or super().generate_trace_id()


class Sampling:
    """The decision about an event, before anything is made of it."""

    def __init__(self, provider: TracerProvider, ids: Ids) -> None:
        """Read the provider's sampler, and let linked traces follow when it is parent-based."""
        self._ids = ids
        self._configured = provider.sampler
        self._follows = isinstance(self._configured, ParentBased)
        if isinstance(self._configured, ParentBased):
            provider.sampler = Following(self._configured)

    def drops(self, leader: str | None, name: str) -> bool:
        """Tell whether the span `name`, which follows the traceparent `leader`, is not sampled.

        False when only the SDK can tell: a sampler that is not parent-based may look at anything.
        """
        if not self._follows:
            return False
        if leader:
            return _UNSAMPLED.fullmatch(leader) is not None
        trace_id = self._ids.generate_trace_id()
        decision = self._configured.should_sample(_NOTHING, trace_id, name).decision
        if decision is not Decision.DROP:
            self._ids.decided(trace_id)
        return decision is Decision.DROP


class Unsampled(NonRecordingSpan):
    """The span of an event that is not traced; its context is made when somebody asks for it, which is seldom."""

    def __init__(self, leader: str | None) -> None:
        """Stand for a span that follows the traceparent `leader`, which is well-formed, if there is one."""
        self._leader = leader
        self._made: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        """Return the context: of the leader's trace, not sampled."""
        if self._made is None:
            trace_id = int(self._leader[3:35], 16) if self._leader else _random.generate_trace_id()
            self._made = SpanContext(trace_id, _random.generate_span_id(), is_remote=False, trace_flags=TraceFlags(0))
        return self._made


def sampled_trace(span: Span) -> str | None:
    """Return the id of a span's trace when a backend may have it, as W3C spells it."""
    if isinstance(span, Unsampled):
        return None
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.trace_flags.sampled else None
