"""Metrics of the hottest path, in plain numbers: written by the event loop's thread alone, so that no lock is needed.

Every consumed event passes here. A counter and two histograms of prometheus_client cost 5 µs an event, these 1 µs;
they are turned into its families when somebody scrapes.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar


class Count:
    """One counter: add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counts(Collector):
    """Counters of one name, by labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        """Describe and register them; `name` ends in `_total`."""
        self._name, self._text, self._labels = name, text, labels
        self._counts: dict[tuple[str, ...], Count] = {}
        REGISTRY.register(self)

    def of(self, *labels: str) -> Count:
        """Return the counter of these labels; keep it."""
        found = self._counts.get(labels)
        return found if found is not None else self._counts.setdefault(labels, Count())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the family, as prometheus_client wants it."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, count.value)
        yield family


class Distribution:
    """One histogram."""

    __slots__ = ("bounds", "buckets", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.exemplars: dict[int, Exemplar] = {}  # the last one of each bucket
        self.sum = 0.0

    def observe(self, value: float, trace_id: str | None = None) -> None:
        """Count a value; the trace it was seen in, when it is sampled, is what a dashboard leads to."""
        bucket = bisect_left(self.bounds, value)
        self.buckets[bucket] += 1
        self.sum += value
        if trace_id is not None:
            self.exemplars[bucket] = Exemplar({"trace_id": trace_id}, value, time.time())

    def cumulated(self) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        """Return bound, values up to it and exemplar of each bucket, as prometheus_client wants them."""
        names = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        made: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for at, (name, total) in enumerate(zip(names, accumulate(self.buckets), strict=True)):
            example = self.exemplars.get(at)
            made.append((name, float(total)) if example is None else (name, float(total), example))
        return made


class Distributions(Collector):
    """Histograms of one name, by labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        """Describe and register them; `bounds` are the upper bounds of the buckets but for the last."""
        self._name, self._text, self._labels, self._bounds = name, text, labels, tuple(bounds)
        self._found: dict[tuple[str, ...], Distribution] = {}
        REGISTRY.register(self)

    def of(self, *labels: str) -> Distribution:
        """Return the histogram of these labels; keep it."""
        found = self._found.get(labels)
        return found if found is not None else self._found.setdefault(labels, Distribution(self._bounds))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family, as prometheus_client wants it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, found in list(self._found.items()):
            family.add_metric(labels, found.cumulated(), sum_value=found.sum)
        yield family
