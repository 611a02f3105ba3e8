"""What happens when in a chaos run: drawn from a seed alone, so that a run can be repeated."""

import random
from dataclasses import dataclass

SLOTS, LEAST = 8, 2  # members at most, and healthy ones at least
SESSION = 4.0  # seconds of silence after which the group goes on without a member
BROKER_PAUSE = 12.0  # seconds between two outages of the broker, at least

CALM = {"join": 1, "leave": 1}
STORM = {"join": 6, "leave": 2, "kill": 3, "freeze": 2, "cut": 2, "stall": 2, "restart": 1, "crash": 1}
LASTS = {  # seconds, at least and at most: some end before the session does, most after it
    "freeze": (SESSION + 1, SESSION + 3),
    "stall": (1.0, SESSION + 3),
    "cut": (0.5, SESSION + 3),
}
HEALS = {"freeze": "thaw", "stall": "heal", "cut": "heal"}


@dataclass(frozen=True, slots=True)
class Step:
    """`what` happens to the member of a slot (to the broker when there is none) `at` seconds after the start."""

    at: float
    what: str
    slot: int | None = None


def schedule(seed, seconds, weights, *, pace=(0.8, 2.4)):
    """Return the steps of a run, in order; two members join at once, and everything is healed at the end."""
    return sorted(_Draw(random.Random(seed), weights).steps(seconds, pace), key=lambda step: step.at)


class _Draw:
    def __init__(self, dice, weights):
        self._dice, self._weights = dice, weights
        self._healthy = {0, 1}
        self._ill = {}  # slot: when it is healed
        self._broker_from = BROKER_PAUSE / 2

    def steps(self, seconds, pace):
        yield from (Step(0.0, "join", slot) for slot in sorted(self._healthy))
        at = 3.0
        while at < seconds:
            for slot in [slot for slot, until in self._ill.items() if until <= at]:
                del self._ill[slot]
                self._healthy.add(slot)
            yield from self._step(at)
            at += self._dice.uniform(*pace)

    def _step(self, at):
        possible = {what: slots for what in self._weights if (slots := self._slots(what, at))}
        what = self._dice.choices(list(possible), [self._weights[what] for what in possible])[0]
        slot = self._dice.choice(possible[what])
        yield Step(at, what, slot)
        if what == "join":
            self._healthy.add(slot)
        elif slot is None:
            self._broker_from = at + BROKER_PAUSE
        else:
            self._healthy.discard(slot)
        if what in LASTS:
            self._ill[slot] = until = at + self._dice.uniform(*LASTS[what])
            yield Step(until, HEALS[what], slot)

    def _slots(self, what, at):
        if what in ("restart", "crash"):
            return [None] if at >= self._broker_from else []
        if what == "join":
            return [slot for slot in range(SLOTS) if slot not in self._healthy and slot not in self._ill]
        return sorted(self._healthy) if len(self._healthy) > LEAST else []
