"""Lanes and watermarks: order per key, no more than one run per key, commits that name only what is finished."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from eventing.lanes import Lanes

PLACE = ("user-events", 0)


@dataclass(frozen=True)
class R:
    offset: int
    key: bytes | None = b"k"
    topic: str = "user-events"
    partition: int = 0
    timestamp: int = 0
    value: bytes | None = b"{}"
    headers: tuple = ()


def opened(*records, position=0):
    lanes = Lanes()
    lanes.open(PLACE, position)
    lanes.deliver(PLACE, records)
    return lanes


def done(lanes, entry):
    assert lanes.ended(entry)
    lanes.finish(entry)
    lanes.release(entry.lane)


def test_records_of_one_key_run_one_after_another():
    lanes = opened(R(0), R(1))
    first = lanes.take()
    assert lanes.take() is None
    done(lanes, first)
    assert lanes.take().record.offset == 1


def test_another_key_overtakes_a_resting_one():
    lanes = opened(R(0, b"a"), R(1, b"a"), R(2, b"b"))
    resting = lanes.take()
    lanes.ended(resting)
    lanes.rest(resting)
    assert lanes.take().record.offset == 2
    assert lanes.take() is None
    lanes.again(resting)
    assert lanes.take() is resting


def test_records_without_a_key_run_side_by_side():
    lanes = opened(R(0, None), R(1, None))
    assert {lanes.take().record.offset, lanes.take().record.offset} == {0, 1}


def test_the_watermark_stays_before_the_first_unfinished_record():
    lanes = opened(R(5, b"a"), R(6, b"b"), position=5)
    first, second = lanes.take(), lanes.take()
    done(lanes, second)
    assert lanes.partitions[PLACE].watermark == 5
    assert lanes.uncommitted() == {PLACE: (5, "v1:;6")}, "the one ahead is known, and the offset stays"
    done(lanes, first)
    assert lanes.uncommitted() == {PLACE: (7, "")}


def test_gaps_between_offsets_do_not_stall_the_watermark():
    lanes = opened(R(3, b"a"), R(90, b"b"))
    for _ in range(2):
        done(lanes, lanes.take())
    assert lanes.partitions[PLACE].watermark == 91


def test_a_completion_after_revocation_changes_nothing():
    lanes = opened(R(0), R(1))
    running = lanes.take()
    lanes.close(PLACE)
    lanes.open(PLACE, 0)
    assert not lanes.ended(running)
    assert lanes.uncommitted() == {}


def test_a_key_waits_for_its_stale_attempt_after_reassignment():
    lanes = opened(R(0))
    stale = lanes.take()
    lanes.close(PLACE)
    lanes.open(PLACE, 0)
    lanes.deliver(PLACE, [R(0)])
    assert lanes.take() is None
    lanes.ended(stale)
    again = lanes.take()
    assert again is not stale
    assert again.record.offset == 0


def test_a_revoked_partition_frees_its_memory():
    lanes = opened(R(0), R(1, b"b"))
    lanes.take()
    lanes.close(PLACE)
    assert (lanes.records, lanes.bytes) == (0, 0)


def test_partitions_take_turns():
    lanes = Lanes()
    for number in range(2):
        lanes.open(("t", number), 0)
        lanes.deliver(("t", number), [R(i, f"{i}".encode(), "t", number) for i in range(3)])
    assert [lanes.take().record.partition for _ in range(6)] == [0, 1, 0, 1, 0, 1]


def test_a_full_partition_is_polled_again_when_it_is_down_to_half():
    lanes = opened(*(R(i, f"{i}".encode()) for i in range(10)))
    assert lanes.admit(20, 1 << 20) == []
    for _ in range(4):
        done(lanes, lanes.take())
    assert lanes.admit(20, 1 << 20) == []
    done(lanes, lanes.take())
    assert lanes.admit(20, 1 << 20) == [PLACE]


def test_a_partition_that_is_held_up_leaves_the_others_their_room():
    lanes = opened()
    lanes.open(("user-events", 1), 0)
    offset = 0
    while PLACE in lanes.admit(100, 1 << 20):
        offset += lanes.deliver(PLACE, [R(offset + n, f"{offset + n}".encode()) for n in range(lanes.share(100))])
    assert lanes.records < 100
    assert lanes.admit(100, 1 << 20) == [("user-events", 1)]


def test_bytes_are_bounded_too():
    lanes = opened(R(0, value=b"x" * 1000))
    assert lanes.admit(10, 1000) == []


def test_records_before_the_position_are_ignored():
    lanes = opened(R(0), R(1), position=1)
    assert lanes.take().record.offset == 1


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["a", "b", "c", None])), max_size=40), st.randoms())
def test_any_order_of_completions_keeps_order_and_loses_nothing(deliveries, random):
    offset, records = 0, []
    for gap, key in deliveries:
        offset += gap
        records.append(R(offset, key.encode() if key else None))
    lanes, running, finished = opened(*records), [], []
    while True:
        while (entry := lanes.take()) is not None:
            assert entry.record.key is None or entry.record.key not in [e.record.key for e in running]
            running.append(entry)
        if not running:
            break
        entry = running.pop(random.randrange(len(running)))
        done(lanes, entry)
        finished.append(entry.record)
        undone = [r.offset for r in records if r not in finished]
        assert lanes.partitions[PLACE].watermark <= min(undone, default=offset + 1)
    assert sorted(r.offset for r in finished) == [r.offset for r in records]
    for key in {r.key for r in records} - {None}:
        of_key = [r.offset for r in finished if r.key == key]
        assert of_key == sorted(of_key)
    assert (lanes.records, lanes.bytes, lanes.partitions[PLACE].lanes) == (0, 0, {})


def test_without_an_order_records_of_one_key_run_side_by_side():
    lanes = Lanes(ordered=False)
    lanes.open(PLACE, 0)
    lanes.deliver(PLACE, [R(0), R(1)])
    assert {lanes.take().record.offset, lanes.take().record.offset} == {0, 1}


def test_a_batch_takes_lanes_from_their_first_record_on():
    lanes = opened(R(0, b"a"), R(1, b"b"), R(2, b"a"), R(3, b"b"))
    assert [entry.record.offset for entry in lanes.take_many(3)] == [0, 2, 1]
    assert lanes.take_many(3) == []


def test_a_record_that_is_only_to_be_written_elsewhere_comes_alone():
    lanes = opened(R(0), R(1))
    entry = lanes.take()
    entry.verdict = "decided"
    lanes.ended(entry)
    lanes.rest(entry)
    lanes.again(entry)
    assert lanes.take_many(10) == [entry]


def test_failed_attempts_are_committed_and_counted_on_by_the_next_owner():
    lanes = opened(R(0, b"a"), R(1, b"b"))
    entry = lanes.take()
    lanes.ended(entry)
    entry.attempt += 1
    lanes.rest(entry)
    offset, note = lanes.uncommitted()[PLACE]
    assert offset == 0
    successor = Lanes()
    successor.open(PLACE, offset, note)
    successor.deliver(PLACE, [R(0, b"a"), R(1, b"b")])
    assert [successor.take().attempt, successor.take().attempt] == [2, 1]


def test_what_is_finished_is_no_longer_in_the_note():
    lanes = Lanes()
    lanes.open(PLACE, 0, "v1:0=3")
    lanes.deliver(PLACE, [R(0), R(1)])
    done(lanes, lanes.take())
    assert lanes.uncommitted() == {PLACE: (1, "")}


def test_offsets_without_records_at_the_end_are_stepped_over_only_when_nothing_is_pending():
    lanes = opened(R(0))
    lanes.passed(PLACE, 9)
    assert lanes.uncommitted() == {}
    done(lanes, lanes.take())
    lanes.passed(PLACE, 9)
    assert lanes.uncommitted() == {PLACE: (9, "")}


def test_a_held_partition_is_polled_when_it_is_due():
    lanes = opened()
    lanes.hold(PLACE, 5.0)
    assert lanes.admit(10, 1 << 20, 4.9) == []
    assert lanes.admit(10, 1 << 20, 5.0) == [PLACE]


def test_what_is_finished_ahead_of_the_watermark_does_not_run_again_at_the_next_owner():
    lanes = opened(R(0, b"slow"), R(1, b"a"), R(5, b"b"), R(6, b"slow"), R(7, b"c"))
    lanes.take()
    for _ in range(3):
        done(lanes, lanes.take())
    assert lanes.uncommitted() == {PLACE: (0, "v1:;1-5,7")}
    assert lanes.uncommitted(noted=False) == {}, "no watermark has moved"
    successor = Lanes()
    successor.open(PLACE, 0, "v1:;1-5,7")
    assert successor.deliver(PLACE, [R(0, b"slow"), R(1, b"a"), R(5, b"b"), R(6, b"slow"), R(7, b"c"), R(8)]) == 3
    assert successor.uncommitted() == {}, "the same note still holds"
    for _ in range(2):
        done(successor, successor.take())
    assert successor.uncommitted()[PLACE][0] == 6
