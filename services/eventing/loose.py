"""Header names that are not UTF-8: aiokafka's parser gives up on the whole batch for one, good records included.

For a while after such a failure records go through aiokafka's own parser in Python, a few times slower, with names
decoded whatever they are. Kafka's protocol wants UTF-8 there, and its brokers do not check.
"""

import time

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

SECONDS = 5.0  # of reading loosely after a failure; when such records are still there, it fails and begins again

_strictly = fetcher.MemoryRecords


class OddName(str):
    """A header's name whose bytes are not UTF-8; they are spelled with backslashes."""

    __slots__ = ()


class Loose:
    """Switches between the two parsers; one per process, since aiokafka knows one at a time."""

    def __init__(self) -> None:
        self.used = False  # what was read loosely may still come a little later
        self._until = 0.0

    def begin(self) -> None:
        """Read loosely for a while; what was fetched before has to be fetched again."""
        self.used, self._until = True, time.monotonic() + SECONDS
        fetcher.MemoryRecords = _LooseRecords

    def end(self) -> None:
        """Read strictly again, once the while is over."""
        if self._until and time.monotonic() > self._until:
            self._until, fetcher.MemoryRecords = 0.0, _strictly

    @property
    def on(self) -> bool:
        """True while records are read loosely."""
        return self._until > 0


class _Bytes(bytearray):
    def __getitem__(self, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        found = super().__getitem__(at)
        return _Bytes(found) if isinstance(found, bytearray) else found

    def decode(self, *_: str) -> str:
        try:
            return super().decode()
        except UnicodeDecodeError:
            return OddName(super().decode(errors="backslashreplace"))


class _LooseBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
        super().__iter__()
        self._buffer: bytearray = _Bytes(self._buffer)  # uncompressed from here on
        return self


class _LooseRecords(_MemoryRecordsPy):  # type: ignore[misc]
    def next_batch(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
        batch = self._next_slice
        if batch is None or batch[self.MAGIC_OFFSET] < 2:
            return super().next_batch()
        self._cache_next()
        return _LooseBatch(batch)
