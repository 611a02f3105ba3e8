"""What a redrive sends, in what order, and what it keeps and why."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.letter import PARKED
from eventing.selection import HELD, MAX_REDRIVES, NO_BODY, TOO_OFTEN, IncompleteKeys, Place, select


def place(offset, *, id=None, key=None, origin=None, reason="exhausted", redrives=0, wanted=True, obstacle=""):  # noqa: A002
    return Place(
        partition=0,
        offset=offset,
        size=10,
        id=(id or f"id{offset}").encode(),
        key=key and key.encode(),
        topic="users",
        origin=(0, offset if origin is None else origin),
        reason=reason,
        redrives=redrives,
        obstacle=obstacle,
        wanted=wanted,
    )


def offsets(selection):
    return [place.offset for place in selection.chosen]


def parked(wanted):
    """Return a parked key's letters, `+` for one that is wanted: the first exhausted, the others behind it."""
    return [place(n, key="k", reason=PARKED if n else "exhausted", wanted=w == "+") for n, w in enumerate(wanted)]


def test_letters_go_in_the_order_of_the_topic():
    assert offsets(select([place(n, key=f"k{n % 3}") for n in range(9)])) == list(range(9))


def test_only_what_is_wanted_goes():
    found = select([place(0), place(1, wanted=False), place(2)])
    assert (offsets(found), found.unmatched, found.waiting) == ([0, 2], 1, 3)


def test_the_letters_of_a_key_go_in_the_order_their_records_first_came():
    again = place(3, key="k", origin=0, redrives=1)
    found = select([place(0, key="k", origin=1), place(1, key="other"), place(2, key="k", origin=2), again])
    assert offsets(found) == [3, 1, 0, 2]


def test_letters_without_a_key_stay_where_they_are():
    assert offsets(select([place(0, origin=5), place(1, origin=4)])) == [0, 1]


def test_a_filter_that_would_tear_a_parked_key_is_refused_with_the_count_and_the_remedy():
    with pytest.raises(IncompleteKeys, match=r"1 parked key and leaves out 2;.*--whole-keys"):
        select(parked("+--"))


def test_whole_keys_widens_the_selection_to_the_keys_it_touches():
    found = select([*parked("+--"), place(7, wanted=False)], whole_keys=True)
    assert (offsets(found), found.unmatched) == ([0, 1, 2], 1)
    assert found.keys == Counter({b"k": 3})


def test_a_parked_key_that_is_not_touched_stays_without_complaint():
    assert offsets(select([*parked("--"), place(5)])) == [5]


def test_a_key_that_is_not_parked_may_be_torn():
    assert offsets(select([place(0, key="k"), place(1, key="k", wanted=False)])) == [0]


def test_of_several_letters_of_one_event_the_newest_goes_and_the_older_are_done_with_it():
    found = select([place(0, id="a"), place(1, id="b"), place(2, id="a", redrives=1), place(3, id="a")])
    assert (offsets(found), found.superseded, found.waiting) == ([1, 2], 2, 4)
    assert {old.offset for old in found.older[b"a"]} == {0, 3}


def test_an_older_letter_that_is_wanted_is_not_sent_in_place_of_a_newer_one_that_is_not():
    found = select([place(0, id="a", wanted=True), place(1, id="a", wanted=False)])
    assert (offsets(found), found.unmatched) == ([], 1)


def test_what_came_back_too_often_stays_unless_forced():
    waiting = [place(0, redrives=MAX_REDRIVES), place(1, redrives=MAX_REDRIVES - 1)]
    found = select(waiting)
    assert (offsets(found), found.kept) == ([1], Counter({TOO_OFTEN: 1}))
    assert offsets(select(waiting, force=True)) == [0, 1]


def test_a_parked_letter_was_never_tried_so_its_coming_back_is_no_loop():
    assert offsets(select([place(0, key="k"), place(1, key="k", reason=PARKED, redrives=9)])) == [0, 1]


def test_a_pointer_stays_whatever_is_asked():
    found = select([place(0, obstacle=NO_BODY)], force=True)
    assert (offsets(found), found.kept) == ([], Counter({NO_BODY: 1}))


def test_a_parked_key_waits_for_a_letter_of_it_that_stays():
    head = place(0, key="k", redrives=MAX_REDRIVES)
    found = select([head, *parked("++")[1:], place(5)])
    assert (offsets(found), found.kept) == ([5], Counter({TOO_OFTEN: 1, HELD: 1}))


def test_a_limit_never_tears_a_parked_key():
    waiting = [*parked("+++"), *(place(n) for n in range(5, 9))]
    found = select(waiting, limit=2)
    assert (offsets(found), found.over_limit) == ([5, 6], 5)
    assert offsets(select(waiting, limit=4)) == [0, 1, 2, 5]


LETTERS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from([None, None, None, "a", "b"]),
            "key": st.sampled_from([None, "x", "y", "z"]),
            "origin": st.integers(0, 30),
            "reason": st.sampled_from(["exhausted", "permanent", PARKED]),
            "redrives": st.integers(0, 4),
            "wanted": st.booleans(),
            "obstacle": st.sampled_from(["", "", "", NO_BODY]),
        }
    ),
    max_size=25,
)


@given(LETTERS, st.booleans(), st.one_of(st.none(), st.integers(1, 10)))
def test_whatever_waits_order_and_wholeness_hold_and_every_letter_is_accounted_for(letters, force, limit):
    waiting = [place(n, **known) for n, known in enumerate(letters)]
    found = select(waiting, whole_keys=True, force=force, limit=limit)
    assert len(found.chosen) <= (limit or 25)
    assert len({p.id for p in found.chosen}) == len(found.chosen)
    older = sum(map(len, found.older.values()))
    assert len(found.chosen) + found.unmatched + found.kept.total() + found.over_limit + older == len(waiting)
    sent = defaultdict(list)
    for p in found.chosen:
        sent[p.key].append(p)
    newest = [p for p in waiting if p not in [old for olds in found.older.values() for old in olds]]
    for key in {p.key for p in newest if p.reason == PARKED and p.key}:
        assert len(sent[key]) in (0, sum(p.key == key for p in newest)), "all of a parked key, or none"
    for key, places in sent.items():
        if key is not None:
            assert [p.origin for p in places] == sorted(p.origin for p in places)


@given(LETTERS)
def test_without_whole_keys_a_selection_is_the_same_or_refused(letters):
    waiting = [place(n, **known) for n, known in enumerate(letters)]
    widened = select(waiting, whole_keys=True)
    try:
        strict = select(waiting)
    except IncompleteKeys:
        return
    assert strict.chosen == widened.chosen
