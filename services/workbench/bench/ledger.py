"""What a runner did: each start and end of a handler, and from that the rate, the order and the duplicates."""

import json
import time
from pathlib import Path


class Ledger:
    """Counts handlers as they start and end. Record `number` is turn `number // keys` of key `number % keys`.

    A violation is a record that starts while another of its key runs, or after a later one of its key.
    A record that starts again is a duplicate, and finishes nothing new.
    """

    def __init__(self, *, records: int, keys: int, result: Path) -> None:
        self.violations = 0
        self.duplicates = 0
        self._missing = records
        self._keys = keys
        self._result = result
        self._latest = [-1] * keys  # number of the latest record that started
        self._running = [0] * keys
        self._seen = bytearray(records)  # 1: started, 2: finished
        self._began = self._ended = (0.0, 0.0)

    def begin(self) -> None:
        """Start the clock: the runner is about to connect."""
        self._began = _clocks()

    def started(self, number: int) -> None:
        """Note that the handler of a record starts."""
        self._note(number, overlaps=self._running[number % self._keys] > 0)

    def started_together(self, numbers: list[int]) -> None:
        """Note that a handler starts with many records; those of a key come in their order, and overlap only others."""
        busy = {number % self._keys for number in numbers if self._running[number % self._keys]}
        for number in numbers:
            self._note(number, overlaps=number % self._keys in busy)

    def _note(self, number: int, *, overlaps: bool) -> None:
        key = number % self._keys
        if self._seen[number]:
            self.duplicates += 1
            self.violations += overlaps
        else:
            self._seen[number] = 1
            self.violations += overlaps or number < self._latest[key]
        self._latest[key] = max(self._latest[key], number)
        self._running[key] += 1

    def finished(self, number: int) -> None:
        """Note that a record is finished; the last one stops the clock and writes the result."""
        self._running[number % self._keys] -= 1
        if self._seen[number] == 2:
            return
        self._seen[number] = 2
        self._missing -= 1
        if not self._missing:
            if not any(self._ended):
                self.stop()
            self._write()

    def stop(self) -> None:
        """Stop the clock before the last record is noted here: what follows is bookkeeping."""
        self._ended = _clocks()

    def _write(self) -> None:
        # In one step: whoever waits for the file finds it whole.
        draft = self._result.with_suffix(".draft")
        seconds, cpu = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        found = {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "order_violations": self.violations,
            "duplicates": self.duplicates,
        }
        draft.write_text(json.dumps(found))
        draft.rename(self._result)


def _clocks() -> tuple[float, float]:
    """Return the time, and the processor time this process has used, in seconds."""
    return time.perf_counter(), time.process_time()
