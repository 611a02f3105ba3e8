"""Sets of offsets as ranges, written `100-200,305` with both ends included. No I/O."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Self

PATTERN = r"^[0-9]{1,18}(-[0-9]{1,18})?(,[0-9]{1,18}(-[0-9]{1,18})?)*$"  # 18 digits always fit into Kafka's 64 bits


class OffsetRanges:
    """An immutable set of offsets, kept as ascending ranges that neither overlap nor touch."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Take ranges of (first, last) in any order; overlapping and touching ones become one."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(ranges):
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `100-200,305`.

        Raises:
            ValueError: naming the text, or the range that ends before it begins.
        """
        if not re.fullmatch(PATTERN, text):
            raise ValueError(f"{text[:40]!r} is no list of offsets; write 305, 100-200 or 100-200,305")
        ranges = [(int(first), int(last or first)) for first, _, last in (r.partition("-") for r in text.split(","))]
        for first, last in ranges:
            if first > last:
                raise ValueError(f"range {first}-{last} ends before it begins")
        return cls(ranges)

    def __str__(self) -> str:
        """Write what `parse` reads; the empty set is the empty text, which `parse` refuses."""
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over the ranges (first, last), ascending."""
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """Return the number of ranges, not of offsets."""
        return len(self._firsts)

    def __contains__(self, offset: int) -> bool:
        """Tell whether an offset is in one of the ranges."""
        at = bisect_right(self._firsts, offset) - 1
        return at >= 0 and offset <= self._lasts[at]

    def __eq__(self, other: object) -> bool:
        """Compare as sets."""
        return isinstance(other, OffsetRanges) and (self._firsts, self._lasts) == (other._firsts, other._lasts)

    def __hash__(self) -> int:
        """Hash as a set."""
        return hash((tuple(self._firsts), tuple(self._lasts)))

    def __repr__(self) -> str:
        """Show the ranges."""
        return f"OffsetRanges({self})"
