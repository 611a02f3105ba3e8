"""Fixed identities: a quick restart keeps its place, and two members cannot have the same one."""

import asyncio

import pytest
from tests.contract.desk import Ticked, on_desk

from eventing.errors import Misconfigured


def noting(desk, seen, name):
    consumer = desk.consumer()

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        seen.append((name, tick.n))

    return consumer


def assignments(runtime):
    """Note every time the member is given partitions."""
    noted, assigned = [], runtime.intake.assigned

    def note(places):
        noted.append(places)
        assigned(places)

    runtime.intake.assigned = note
    return noted


@on_desk
async def test_a_quick_restart_disturbs_nobody_and_keeps_its_place(kafka):
    seen = []
    steady = noting(kafka, seen, "steady")
    async with kafka.running(steady, consumer_instance_id="steady") as other:
        await kafka.until(lambda: other.state == "consuming")
        async with kafka.running(noting(kafka, seen, "first"), consumer_instance_id="restarted") as first:
            await kafka.until(lambda: first.lanes.partitions and len(other.lanes.partitions) == 2)
            had = set(first.lanes.partitions)
            disturbed = assignments(other)
        await kafka.publish(*((f"k{n}", n) for n in range(20)))
        async with kafka.running(noting(kafka, seen, "second"), consumer_instance_id="restarted") as second:
            await kafka.until(lambda: len(seen) == 20)
            assert set(second.lanes.partitions) == had
    assert disturbed == []
    assert {name for name, _ in seen} <= {"steady", "second"}
    assert sorted(n for _, n in seen) == list(range(20))


async def replace(kafka, seen, disturbed):
    """Start a second member with the identity of the first."""
    async with kafka.running(noting(kafka, seen, "older"), consumer_instance_id="same") as older:
        await kafka.until(lambda: older.state == "consuming" and older.lanes.partitions)
        async with kafka.running(noting(kafka, seen, "newer"), consumer_instance_id="same") as newer:
            await kafka.until(lambda: newer.lanes.partitions)
            await kafka.until(lambda: older.state == "stopped")
            disturbed.append(assignments(newer))
            await kafka.publish(*((f"k{n}", n) for n in range(10)))
            await kafka.until(lambda: len(seen) >= 10)


@on_desk
async def test_of_two_members_with_one_identity_the_older_one_ends_and_says_so(kafka):
    seen, disturbed = [], []
    with pytest.raises(Misconfigured, match=r"another member of group .* has the identity 'same'; give each its own"):
        await replace(kafka, seen, disturbed)
    assert {name for name, _ in seen} == {"newer"}
    assert disturbed == [[]]


@on_desk
async def test_a_member_whose_session_is_over_comes_back_under_its_identity(kafka):
    seen = []
    settings = {"consumer_instance_id": "sleepy", "consumer_session_timeout": 1.5}
    async with kafka.running(noting(kafka, seen, "sleepy"), **settings) as runtime:
        await kafka.until(lambda: runtime.lanes.partitions)
        coordinator, rejoined = runtime.client._consumer._coordinator, assignments(runtime)
        beat, late = coordinator._do_heartbeat, [4.0]

        async def oversleep():
            await asyncio.sleep(late.pop() if late else 0)
            return await beat()

        coordinator._do_heartbeat = oversleep
        await kafka.until(lambda: rejoined, 15)
        await kafka.publish(("k", 1))
        await kafka.until(lambda: seen)
    assert seen == [("sleepy", 1)]
