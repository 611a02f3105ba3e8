"""A stand-in for a record that the client cannot return, so that it can be dead-lettered like any other."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Unreadable:
    """Stands for a record the client cannot return: its place is known, its bytes stay in the source topic.

    One whose header names alone are at fault (`pointer` is False) has its bytes, and those names spelled out.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes]] = ()
    pointer: bool = True
