"""What a commit says beside its offset."""

from hypothesis import given
from hypothesis import strategies as st

from eventing import commit_note

FAILED = st.dictionaries(st.integers(0, 1 << 62), st.integers(1, 1 << 30), max_size=400)


@given(FAILED)
def test_a_note_fits_and_says_the_first_records_exactly(failed):
    note = commit_note.write(failed)
    read = commit_note.read(note, 0)
    assert len(note.encode()) <= commit_note.LIMIT
    assert read == {offset: failed[offset] for offset in sorted(failed)[: len(read)]}


@given(FAILED, st.integers(0, 1 << 62))
def test_what_lies_before_the_position_is_forgotten(failed, position):
    assert all(offset >= position for offset in commit_note.read(commit_note.write(failed), position))


@given(st.text())
def test_a_note_of_another_writer_says_nothing_and_breaks_nothing(note):
    assert commit_note.read(note, 0) == {} or note.startswith("v1:")


def test_a_few_attempts_are_readable():
    assert commit_note.write({107: 1, 100: 2}) == "v1:100=2,107=1"
