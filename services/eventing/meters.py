"""What a group's handlers did, as metrics; what belongs to one combination of labels is looked up once."""

from eventing import contract
from eventing.event import Event
from eventing.metrics import END_TO_END, EVENTS, PROCESS_DURATION
from eventing.outcome import Kind, Outcome
from eventing.plain_metrics import Count, Distribution


class Meters:
    """The per-event metrics of one consumer group."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._ends: dict[tuple[str, str, Kind], Count] = {}
        self._durations: dict[tuple[str, str], Distribution] = {}
        self._delays: dict[str, Distribution] = {}

    def attempted(self, topic: str, outcome: Outcome, seconds: float) -> None:
        """Measure one attempt."""
        key = (topic, type(outcome.error).__name__ if outcome.error is not None else "")
        found = self._durations.get(key)
        if found is None:
            found = self._durations[key] = PROCESS_DURATION.of(topic, self._group, key[1])
        found.observe(seconds)

    def ended(self, topic: str, event: Event | None, outcome: Outcome) -> None:
        """Count how an attempt ended."""
        key = (topic, _type(event), outcome.kind)
        found = self._ends.get(key)
        if found is None:
            found = self._ends[key] = EVENTS.of(self._group, topic, key[1], outcome.kind.value)
        found.value += 1

    def effective(self, event: Event, now: float) -> None:
        """Measure from when it happened to `now` (seconds since the epoch), when its effect is there."""
        name = _type(event)
        found = self._delays.get(name)
        if found is None:
            found = self._delays[name] = END_TO_END.of(self._group, name)
        found.observe(max(now - event.time.timestamp(), 0.0))


def _type(event: Event | None) -> str:
    """Return the type as a label: only types of a contract, since anybody can write any other."""
    return event.type if event is not None and contract.find(event.type) is not None else "unknown"
