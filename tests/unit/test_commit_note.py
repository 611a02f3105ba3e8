"""What a commit says beside its offset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing import commit_note
from eventing.offset_ranges import OffsetRanges

FAILED = st.dictionaries(st.integers(0, 1 << 58), st.integers(1, 1 << 30), max_size=400)
DONE = st.lists(st.tuples(st.integers(0, 1 << 58), st.integers(0, 99)).map(lambda r: (r[0], sum(r))), max_size=400)


@given(FAILED, DONE)
def test_a_note_fits_and_says_what_lies_nearest_exactly(failed, done):
    note = commit_note.write(failed, done)
    attempts, ranges = commit_note.read(note, 0)
    assert len(note.encode()) <= 3 * 1024 + 10
    assert attempts == {offset: failed[offset] for offset in sorted(failed)[: len(attempts)]}
    known = list(ranges or ())
    assert known == list(OffsetRanges(done))[: len(known)]
    assert bool(known) == bool(done)


@given(FAILED, DONE, st.integers(0, 1 << 58))
def test_what_lies_before_the_position_is_forgotten(failed, done, position):
    attempts, ranges = commit_note.read(commit_note.write(failed, done), position)
    assert all(offset >= position for offset in attempts)
    assert all(last >= position for _, last in ranges or ())


@given(st.text())
def test_a_note_of_another_writer_says_nothing_and_breaks_nothing(note):
    assert commit_note.read(note, 0) == ({}, None) or note.startswith("v1:")


@given(st.text(alphabet="0123456789=,;-x"))
def test_a_damaged_note_breaks_nothing(note):
    commit_note.read(f"v1:{note}", 0)


def test_a_note_is_readable():
    assert commit_note.write({107: 1, 100: 2}, [(110, 110), (101, 106)]) == "v1:100=2,107=1;101-106,110"
    assert commit_note.write({}) == ""


def test_a_note_says_when_the_group_first_began_beside_all_else():
    note = commit_note.write({7: 2}, [(9, 10)], first=(6, 1767225600000))
    assert note == "v1:first=6@1767225600000,7=2;9-10"
    assert commit_note.first_start(note) == (6, 1767225600000)
    failed, done = commit_note.read(note, 0)
    assert failed == {7: 2}
    assert list(done) == [(9, 10)]
    assert commit_note.first_start(commit_note.write({}, first=(1, 2))) == (1, 2)


@pytest.mark.parametrize("note", ["", "v1:7=2;9-10", "v1:first=x@1", "first=6@1", "v2:first=6@1", "v1:7=2,first=6@1"])
def test_a_note_without_a_first_start_says_nothing_of_it(note):
    assert commit_note.first_start(note) is None
