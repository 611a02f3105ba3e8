"""Metrics of the hottest path, in plain numbers: written by the event loop's thread alone, so that no lock is needed.

Every consumed event passes here. A counter and two histograms of prometheus_client cost 5 µs an event, these 1 µs;
they are turned into its families when somebody scrapes.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


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
        return self._counts.setdefault(labels, Count())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the family, as prometheus_client wants it."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, count.value)
        yield family


class Distribution:
    """One histogram."""

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Distributions(Collector):
    """Histograms of one name, by labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        """Describe and register them; `bounds` are the upper bounds of the buckets but for the last."""
        self._name, self._text, self._labels, self._bounds = name, text, labels, tuple(bounds)
        self._found: dict[tuple[str, ...], Distribution] = {}
        REGISTRY.register(self)

    def of(self, *labels: str) -> Distribution:
        """Return the histogram of these labels; keep it."""
        return self._found.setdefault(labels, Distribution(self._bounds))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family, as prometheus_client wants it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, found in list(self._found.items()):
            total, buckets = 0, []
            for bound, count in zip((*self._bounds, float("inf")), found.buckets, strict=True):
                total += count
                buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
            family.add_metric(labels, buckets, sum_value=found.sum)
        yield family
