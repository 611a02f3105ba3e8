"""Sets of offsets as ranges."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.offset_ranges import OffsetRanges

RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20)).map(lambda r: (r[0], r[0] + r[1])), max_size=30)


@given(RANGES)
def test_it_holds_exactly_the_offsets_of_its_ranges(ranges):
    expected = {offset for first, last in ranges for offset in range(first, last + 1)}
    found = OffsetRanges(ranges)
    assert {offset for offset in range(330) if offset in found} == expected
    assert {offset for first, last in found for offset in range(first, last + 1)} == expected


@given(RANGES)
def test_its_ranges_neither_overlap_nor_touch_so_equal_sets_are_equal(ranges):
    found = list(OffsetRanges(ranges))
    assert all(after > last + 1 for (_, last), (after, _) in pairwise(found))
    apart = [(n, n) for first, last in ranges for n in range(first, last + 1)]
    assert OffsetRanges(apart) == OffsetRanges(ranges)
    assert hash(OffsetRanges(apart)) == hash(OffsetRanges(ranges))


@given(RANGES.filter(bool))
def test_what_it_writes_it_reads(ranges):
    assert OffsetRanges.parse(str(OffsetRanges(ranges))) == OffsetRanges(ranges)


def test_it_writes_as_a_person_would():
    assert str(OffsetRanges([(305, 305), (100, 150), (151, 200)])) == "100-200,305"


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1,", "1 - 2", "1-2-3", "\u0661", "1" * 19, "1\n"])
def test_what_is_no_list_of_offsets_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="100-200,305"):
        OffsetRanges.parse(text)


def test_a_range_that_ends_before_it_begins_is_refused_by_name():
    with pytest.raises(ValueError, match="200-100 ends before it begins"):
        OffsetRanges.parse("5,200-100")
