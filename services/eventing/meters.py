"""What a group's handlers did, as metrics; what belongs to one combination of labels is looked up once."""

from opentelemetry.trace import Span

from eventing import contract
from eventing.event import Event
from eventing.metrics import END_TO_END, EVENTS, PROCESS_DURATION
from eventing.outcome import Kind, Outcome
from eventing.plain_metrics import Count, Distribution
from eventing.sampling import sampled_trace


class Meters:
    """The per-event metrics of one consumer group."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._ends: dict[tuple[str, str, Kind], tuple[Count, Distribution]] = {}
        self._durations: dict[tuple[str, type | None], Distribution] = {}

    def attempted(self, topic: str, outcome: Outcome, seconds: float, span: Span | None = None) -> None:
        """Measure one attempt, and note its span's trace as an example."""
        error = outcome.error
        key = (topic, None if error is None else type(error))
        found = self._durations.get(key)
        if found is None:
            name = "" if error is None else type(error).__name__
            found = self._durations[key] = PROCESS_DURATION.of(topic, self._group, name)
        found.observe(seconds, None if span is None else sampled_trace(span))

    def ended(
        self, topic: str, event: Event | None, outcome: Outcome, now: float | None = None, span: Span | None = None
    ) -> None:
        """Count how an attempt ended; with `now` (seconds since the epoch), also how long after it happened."""
        key = (topic, "" if event is None else event.type, outcome.kind)
        found = self._ends.get(key) or self._open(key, event)
        found[0].value += 1
        if now is not None and event is not None:
            delay = now - event.time.timestamp()
            found[1].observe(delay if delay > 0 else 0.0, None if span is None else sampled_trace(span))

    def _open(self, key: tuple[str, str, Kind], event: Event | None) -> tuple[Count, Distribution]:
        """Look up what belongs to the labels; only types of a contract are labels, since anybody can write others."""
        topic, name, kind = key
        known = event is not None and contract.find(name) is not None
        label = name if known else "unknown"
        found = EVENTS.of(self._group, topic, label, kind.value), END_TO_END.of(self._group, label)
        if known:
            self._ends[key] = found
        return found
