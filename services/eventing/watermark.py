"""How far a partition of a dead-letter topic is redriven, and how that fits into the metadata of a commit. No I/O.

Everything before the watermark is done; what was sent back ahead of it is remembered as ranges. Two forms of the
metadata, told apart by their first letters: `v1:100-200,305`, which a person can read, while it is short; else `z1:`
and the gaps and lengths of the ranges, compressed.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from eventing.errors import EventingError
from eventing.offset_ranges import OffsetRanges

MAX_METADATA = 4000  # bytes; a broker takes 4096 (offset.metadata.max.bytes) unless it is set lower
READABLE = 1000  # bytes up to which the readable form is kept
_MAX_UNPACKED = 1 << 20  # bytes; what we write is a hundred times smaller


@dataclass(frozen=True, slots=True)
class Watermark:
    """The first offset that is not done, and what is done ahead of it."""

    offset: int
    ahead: OffsetRanges = field(default_factory=OffsetRanges)

    @classmethod
    def read(cls, offset: int, metadata: str) -> Self:
        """Read what was committed.

        Raises:
            EventingError: the metadata was not written by this version; guessing would send letters again.
        """
        try:
            return cls(offset, OffsetRanges(_ranges(offset, metadata)))
        except (ValueError, zlib.error, IndexError):
            raise EventingError(
                f"metadata {metadata[:20]!r} at offset {offset} is not understood; use the version that wrote it"
            ) from None

    @property
    def metadata(self) -> str:
        """What to commit beside the offset; its length decides whether it can be committed."""
        if not len(self.ahead):
            return ""
        readable = f"v1:{self.ahead}"
        return readable if len(readable) <= READABLE else f"z1:{_packed(self)}"

    def __contains__(self, offset: int) -> bool:
        """Tell whether the letter at an offset is done."""
        return offset < self.offset or offset in self.ahead

    def after(self, done: Iterable[tuple[int, int]]) -> "Watermark":
        """Return the watermark once more ranges (first, last) are done."""
        offset, ahead = self.offset, []
        for first, last in OffsetRanges([*self.ahead, *done]):
            if first <= offset:
                offset = max(offset, last + 1)
            else:
                ahead.append((first, last))
        return Watermark(offset, OffsetRanges(ahead))


def _ranges(offset: int, metadata: str) -> Iterable[tuple[int, int]]:
    if not metadata:
        return ()
    form, _, text = metadata.partition(":")
    if form == "v1":
        return OffsetRanges.parse(text)
    if form == "z1":
        return _unpacked(offset, text)
    raise ValueError(form)


def _packed(mark: Watermark) -> str:
    """Pack each range as two numbers, distance from the end of the one before and length, seven bits to a byte."""
    numbers, position = bytearray(), mark.offset
    for first, last in mark.ahead:
        for number in (first - position, last - first):
            left = number
            while left > 127:
                numbers.append(left & 127 | 128)
                left >>= 7
            numbers.append(left)
        position = last
    return base64.b85encode(zlib.compress(bytes(numbers), 9)).decode()


def _unpacked(offset: int, text: str) -> Iterator[tuple[int, int]]:
    unpacking = zlib.decompressobj()
    numbers = _numbers(unpacking.decompress(base64.b85decode(text), _MAX_UNPACKED))
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("cut off, or with something behind it")
    position = offset
    for distance, length in zip(numbers, numbers, strict=True):
        yield position + distance, position + distance + length
        position += distance + length


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
