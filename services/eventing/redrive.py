"""Dead letters → consumer: send them back to the group that gave them up."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from eventing import headers, tracing
from eventing.dead_letter import redrive_topic_of
from eventing.dead_letter_queue import DeadLetterQueue
from eventing.errors import EventingError, Misconfigured
from eventing.letter import DeadLetter
from eventing.letter_filter import Filter
from eventing.producer import Producer
from eventing.selection import Place, Selection, select

MAX_RATE = 10_000.0  # letters per second
BATCH = 100  # letters between two commits of progress: as many may be sent twice after a kill
BATCH_BYTES = 8 << 20  # of bodies held at once

Progress = Callable[["Redriven"], None]


@dataclass(slots=True)
class Redriven:
    """What a redrive has done so far."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sent: int = 0
    superseded: int = 0  # older letters of those sent
    expired: int = 0  # letters whose retention ended before they were sent


async def plan(
    queue: DeadLetterQueue,
    wanted: Filter,
    *,
    whole_keys: bool = False,
    force: bool = False,
    limit: int | None = None,
    to: str | None = None,
) -> Selection:
    """Read what waits and decide what a redrive sends; sends nothing.

    Args:
        queue: the dead letters.
        wanted: tells which of them.
        whole_keys: see `select`.
        force: see `select`.
        limit: see `select`.
        to: the topic the letters' records were in first, to send them there for every group to read.

    Raises:
        IncompleteKeys: see `select`.
        Misconfigured: `to` is another topic, or a parked key would have to go there.
        EventingError: so many letters in between would stay that progress could not be remembered.
    """
    places = [Place.of(letter, wanted=wanted.matches(letter)) async for letter in queue.letters()]
    chosen = select(places, whole_keys=whole_keys, force=force, limit=limit)
    if to is not None:
        _allow(to, chosen)
    if not queue.fits(spot for place in chosen.chosen for spot in _spots(place, chosen)):
        raise _scattered(queue.topic)
    return chosen


def _allow(to: str, chosen: Selection) -> None:
    others = sorted({place.topic for place in chosen.chosen} - {to})
    if others:
        raise Misconfigured(f"--to {to}: these letters come from {', '.join(others)}; name that topic, or leave it out")
    if chosen.keys:
        raise Misconfigured(
            f"--to {to}: {len(chosen.keys)} of the keys are parked, and only their group's redrive topic frees them"
        )


def _scattered(topic: str) -> EventingError:
    return EventingError(
        f"{topic}: too many letters in between would stay for the progress to be remembered; "
        "take fewer at once (--limit, --partition, --until), or redrive the oldest first"
    )


def _spots(place: Place, chosen: Selection) -> Iterator[tuple[int, int]]:
    for letter in (place, *chosen.older.get(place.id, ())):
        yield letter.partition, letter.offset


class Redrive:
    """Sends chosen letters back; progress is committed after each batch, so a killed one is simply run again."""

    def __init__(
        self,
        queue: DeadLetterQueue,
        producer: Producer,
        *,
        rate: float = 50.0,
        to: str | None = None,
        done: Redriven | None = None,
    ) -> None:
        """Describe the redrive.

        Args:
            queue: where the letters are.
            producer: the way to Kafka.
            rate: letters per second, at most.
            to: where all letters go; None sends each to its group's redrive topic.
            done: where to count, for somebody who wants to know even if `run` raises.

        Raises:
            Misconfigured: the rate is not above 0 and at most `MAX_RATE`.
        """
        if not 0 < rate <= MAX_RATE:
            raise Misconfigured(f"rate {rate:g}: must be above 0 and at most {MAX_RATE:g} letters per second")
        self.done = done or Redriven()
        self._queue = queue
        self._producer = producer
        self._to = to
        self._pace = _Pace(rate)
        self._batch = max(1, min(BATCH, int(rate)))  # a second's worth, if that is fewer

    async def run(self, chosen: Selection, progress: Progress = lambda _: None) -> Redriven:
        """Send the chosen letters; keys side by side, the letters of one key one after another.

        Args:
            chosen: what `plan` has found.
            progress: called after each batch.

        Raises:
            SendFailed: a letter was not acknowledged; those that were are done, run again for the others.
            Unavailable: the broker stopped answering.
            EventingError: somebody else redrives this topic.
        """
        with tracing.redriving(self._queue.topic, self.done.id):
            for batch in _batches(chosen.chosen, self._batch):
                await self._send_batch(batch, chosen)
                progress(self.done)
        return self.done

    async def _send_batch(self, batch: list[Place], chosen: Selection) -> None:
        spots = {place: list(_spots(place, chosen)) for place in batch}
        if not self._queue.fits(spot for known in spots.values() for spot in known):
            raise _scattered(self._queue.topic)
        letters = await self._queue.fetch((place.partition, place.offset) for place in batch)
        finished: list[Place] = []
        chains = [self._send_chain(chain, letters, finished) for chain in _chains(batch)]
        sending = asyncio.gather(*chains, return_exceptions=True)
        try:
            outcomes = await asyncio.shield(sending)
        except asyncio.CancelledError:  # what is under way has an outcome soon, and is not sent again
            self._pace.stop()
            await sending
            raise
        finally:
            await self._queue.done(spot for place in finished for spot in spots[place])
            self.done.superseded += sum(len(spots[place]) - 1 for place in finished)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _send_chain(
        self, chain: list[Place], letters: dict[tuple[int, int], DeadLetter], finished: list[Place]
    ) -> None:
        """Send the letters of one key, each after the one before is acknowledged."""
        for place in chain:
            letter = letters.get((place.partition, place.offset))
            if letter is None:
                self.done.expired += 1
            elif await self._pace.turn():
                await self._send(letter)
                self.done.sent += 1
            else:
                return
            finished.append(place)

    async def _send(self, letter: DeadLetter) -> None:
        known = letter.known
        target = self._to or target_of(letter)
        event_id, dead = known.get(headers.ID, letter.id), known.get(headers.TRACEPARENT)
        with tracing.redriven(target, event_id, self.done.id, dead, known.get(headers.ORIGIN_TRACEPARENT)) as hop:
            changes = hop | {
                headers.REDRIVE_ID: self.done.id,
                headers.REDRIVE_COUNT: str(letter.redrives + 1),
                **({headers.DLQ_TRACEPARENT: dead} if dead else {}),
            }
            await self._producer.send(
                target,
                letter.record.value,
                key=letter.record.key,
                headers=headers.replace(list(letter.record.headers), {k: v.encode() for k, v in changes.items()}),
                partition=int(known[headers.ORIGIN_PARTITION]),
            )


def target_of(letter: DeadLetter) -> str:
    """Return the topic through which a letter comes back to its group alone."""
    return redrive_topic_of(letter.known[headers.ORIGIN_TOPIC], letter.group)


class _Pace:
    """Turns at an even rate; what a slow answer cost is made up for, up to a tenth of a second."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._next = 0.0
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Give no more turns."""
        self._stopped.set()

    async def turn(self) -> bool:
        """Wait for the next turn; False when there are no more."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 0.1)
        wait = self._next - now
        self._next += self._step
        if wait > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), wait)
        return not self._stopped.is_set()


def _batches(chosen: list[Place], most: int) -> Iterator[list[Place]]:
    batch, size = list[Place](), 0
    for place in chosen:
        if batch and (len(batch) >= most or size + place.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += place.size
    if batch:
        yield batch


def _chains(batch: list[Place]) -> list[list[Place]]:
    chains: defaultdict[object, list[Place]] = defaultdict(list)
    for place in batch:
        chains[place.key or place].append(place)
    return list(chains.values())
