"""How far a partition of a dead-letter topic is redriven, and what of it fits into a commit."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.errors import EventingError
from eventing.offset_ranges import OffsetRanges
from eventing.watermark import MAX_METADATA, Watermark

OFFSETS = st.sets(st.integers(0, 5000), max_size=300)


def single(offsets):
    return [(offset, offset) for offset in offsets]


@given(st.integers(0, 5000), OFFSETS)
def test_what_was_committed_is_read_again(offset, done):
    mark = Watermark(offset).after(single(done))
    assert Watermark.read(mark.offset, mark.metadata) == mark


@given(OFFSETS, OFFSETS)
def test_exactly_what_is_done_is_done_in_whatever_order(first, second):
    mark = Watermark(0).after(single(first)).after(single(second))
    assert mark == Watermark(0).after(single(second | first))
    assert {offset for offset in range(5002) if offset in mark} == first | second
    assert mark.offset not in mark


def test_the_watermark_steps_over_what_was_done_ahead_of_it():
    mark = Watermark(100).after([(102, 110), (112, 112)])
    assert (mark.offset, mark.metadata) == (100, "v1:102-110,112")
    mark = mark.after([(100, 101)])
    assert (mark.offset, mark.metadata) == (111, "v1:112")
    assert mark.after([(111, 111)]) == Watermark(113)


def test_single_offsets_as_earlier_versions_wrote_them_are_understood():
    assert Watermark.read(50, "v1:100,101,305").ahead == OffsetRanges([(100, 101), (305, 305)])


def test_many_ranges_are_compressed_and_read_again():
    mark = Watermark(10**9).after((10**9 + 2 * n, 10**9 + 2 * n) for n in range(1, 5000))
    assert mark.metadata.startswith("z1:")
    assert len(mark.metadata) < 100
    assert Watermark.read(mark.offset, mark.metadata) == mark


def test_every_second_letter_at_random_of_sixteen_thousand_fits_into_a_commit():
    chosen = random.Random(1).sample(range(1, 16_000), 8_000)
    mark = Watermark(10**9).after((10**9 + n, 10**9 + n) for n in chosen)
    assert len(mark.metadata) <= MAX_METADATA
    assert Watermark.read(mark.offset, mark.metadata) == mark


@pytest.mark.parametrize("metadata", ["v2:1-2", "v1:", "v1:x", "v1:1,,2", "z1:", "z1:!!", "z1:00", "free text"])
def test_metadata_of_somebody_else_is_refused_for_guessing_would_send_again(metadata):
    with pytest.raises(EventingError, match="at offset 7 is not understood"):
        Watermark.read(7, metadata)


@given(st.text(max_size=50), st.booleans())
def test_any_metadata_is_read_or_refused(text, packed):
    with contextlib.suppress(EventingError):
        Watermark.read(7, f"z1:{text}" if packed else text)
