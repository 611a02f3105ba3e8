"""What a group's handlers did, as metrics.

Children of a metric are looked up once per combination of labels: the lookup costs more than the count, and every
event passes here.
"""

import time

from prometheus_client import Counter, Histogram

from eventing.event import Event
from eventing.metrics import END_TO_END, EVENTS, PROCESS_DURATION
from eventing.outcome import Kind, Outcome


class Meters:
    """The per-event metrics of one consumer group."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._ends: dict[tuple[str, str, Kind], Counter] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._delays: dict[str, Histogram] = {}

    def attempted(self, topic: str, outcome: Outcome, seconds: float) -> None:
        """Measure one attempt."""
        key = (topic, type(outcome.error).__name__ if outcome.error else "")
        child = self._durations.get(key)
        if child is None:
            child = self._durations[key] = PROCESS_DURATION.labels(topic, self._group, key[1])
        child.observe(seconds)

    def ended(self, topic: str, event: Event | None, outcome: Outcome) -> None:
        """Count how an attempt ended."""
        key = (topic, _type(event), outcome.kind)
        child = self._ends.get(key)
        if child is None:
            child = self._ends[key] = EVENTS.labels(self._group, *key[:2], outcome.kind.value)
        child.inc()

    def effective(self, event: Event) -> None:
        """Measure from when it happened to now, when its effect is there."""
        name = _type(event)
        child = self._delays.get(name)
        if child is None:
            child = self._delays[name] = END_TO_END.labels(self._group, name)
        child.observe(max(time.time() - event.time.timestamp(), 0.0))


def _type(event: Event | None) -> str:
    """Return the type as a label: only types of a contract, since anybody can write any other."""
    return event.type if event is not None and event.contract is not None else "unknown"
