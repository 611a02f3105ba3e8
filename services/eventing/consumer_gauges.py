"""The consumer's gauges: what is sampled rather than counted."""

import time

from eventing.lane import Place
from eventing.lanes import Lanes
from eventing.metrics import INFLIGHT, LAG, LAG_SECONDS, LOOP_LAG, OLDEST, PAUSED, PROGRESS, RESTING, TRIED


class Gauges:
    """The gauges of one consumer group."""

    def __init__(self, group: str, lanes: Lanes) -> None:
        self._group = group
        self._lanes = lanes
        self._finished = -1

    def observe(self, ends: dict[Place, int], now: float, late: float) -> None:
        """Set every gauge.

        Args:
            ends: the last stable offset of each partition, as far as it is known.
            now: seconds since the epoch.
            late: seconds by which the event loop was late just now.
        """
        group, lanes = self._group, self._lanes
        self._observe_lag(ends, now)
        if lanes.finished != self._finished:
            self._finished = lanes.finished
            PROGRESS.labels(group).set(now)
        oldest = next(iter(lanes.running.values()), None)
        attempts = [n + 1 for partition in lanes.partitions.values() for n in partition.failed.values()]
        INFLIGHT.labels(group).set(len(lanes.running))
        OLDEST.labels(group).set(time.perf_counter() - oldest.started if oldest and oldest.started else 0.0)
        RESTING.labels(group).set(lanes.resting)
        TRIED.labels(group).set(max(attempts, default=0))
        PAUSED.labels(group).set(sum(p.full for p in lanes.partitions.values()))
        LOOP_LAG.labels(group).set(late)

    def _observe_lag(self, ends: dict[Place, int], now: float) -> None:
        lag, age = dict[str, int](), dict[str, float]()
        for place, partition in self._lanes.partitions.items():
            topic = place[0]
            lag[topic] = lag.get(topic, 0) + max(0, ends.get(place, 0) - partition.watermark)
            oldest = partition.pending[0].record.timestamp / 1000 if partition.pending else now
            age[topic] = max(age.get(topic, 0.0), now - oldest)
        for topic, records in lag.items():
            LAG.labels(self._group, topic).set(records)
            LAG_SECONDS.labels(self._group, topic).set(age[topic])
