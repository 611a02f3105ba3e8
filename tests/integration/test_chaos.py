"""Members that come, go, die, freeze and are cut off while events flow; then every event is accounted for.

`--chaos-minutes 30` runs the storm that long instead of half a minute, `--chaos-seed` repeats one.
"""

import json
from collections import Counter

import pytest
from tests.integration.chaos_rig import CONCURRENCY, KINDS, Crew, Parts
from tests.integration.chaos_schedule import CALM, SESSION, STORM, schedule
from tests.integration.chaos_source import RATE, Source

from eventing import headers
from workbench.home import Home

SHORT = 30.0  # seconds of a run without --chaos-minutes
COMMITS = 1.0  # seconds between two commits of a member


class Run:
    """A run that is over: what was on the topics, what was done, what was given up."""

    def __init__(self, audit, records, letters, effects, statuses):
        self.audit, self.records, self.letters, self.effects = audit, records, letters, effects
        self.statuses = statuses  # of the members that were asked to leave

    def places(self, kind, *, fatal=False):
        """Return the places of a topic's events that can be handled, or of those that cannot."""
        return [(r.topic, r.partition, r.offset) for r in self.records[kind] if is_fatal(r) is fatal]

    @property
    def repeated(self):
        """Repetitions of events that were not told to fail."""
        return list(self.audit.repeated())


def is_fatal(record):
    return json.loads(record.value)["failures"] < 0


async def run_of(weights, seed, seconds):
    """Let events flow through a schedule, wait until all are done, and collect what there is to know."""
    async with Home.open() as home:
        crew = await Crew.gather(await Parts.start(home), "chaos")
        source = Source(crew, seed)
        async with source.flowing():
            await crew.follow(schedule(seed, seconds, weights))
        await crew.finished()
        await crew.disband()
        records = {kind: await crew.records(kind) for kind in KINDS}
        letters = {kind: await crew.letters(kind) for kind in KINDS}
        assert sum(map(len, records.values())) >= source.accepted > 0
        return Run(crew.audit(), records, letters, await crew.effects(), crew.statuses)


def summary(run, seed):
    """Return what happened in one line."""
    faults = Counter(fault.what if fault.who != "broker" else f"broker {fault.what}" for fault in run.audit.faults)
    events = sum(map(len, run.records.values()))
    return f"chaos seed {seed}: {events} events, {dict(faults)}, {len(run.repeated)} repetitions"


@pytest.fixture(scope="module")
async def calm(broker, seed, say):
    """Only joins and leaves; `broker` proves that Kafka is to be had."""
    run = await run_of(CALM, seed, SHORT)
    say(summary(run, seed))
    return run


@pytest.fixture(scope="module")
async def storm(broker, seed, say, request):
    """Everything that can happen."""
    run = await run_of(STORM, seed, request.config.getoption("--chaos-minutes") * 60 or SHORT)
    say(summary(run, seed))
    return run


@pytest.fixture(params=["calm", "storm"])
def run(request):
    return request.getfixturevalue(request.param)


def test_no_event_is_lost(run):
    assert [place for kind in KINDS for place in run.audit.lost(run.places(kind))] == []


def test_the_order_of_a_key_is_kept(run):
    assert list(run.audit.disordered()) == []


def test_an_effect_in_our_database_happens_once(run):
    expected = sorted(dict(record.headers)["ce_id"].decode() for record in run.records["owned"])
    assert sorted(run.effects) == expected


def test_no_key_is_handled_twice_at_once_in_one_process(run):
    assert [pair for pair in run.audit.overlapping() if pair[0].who == pair[1].who] == []


def test_across_processes_only_a_member_that_was_frozen_or_cut_off_overlaps(run):
    assert [pair for pair in run.audit.overlapping() if run.audit.reason(pair) is None] == []


def test_members_that_only_join_and_leave_repeat_nothing(calm):
    assert calm.repeated == []


def test_members_that_are_asked_to_leave_do_so_in_order(run):
    assert set(run.statuses.values()) == {0}


def test_every_repetition_has_its_fault_and_their_number_is_bounded(storm):
    audit = storm.audit
    assert [pair for pair in storm.repeated if audit.reason(pair) is None and not audit.ahead(pair)] == []
    assert len(storm.repeated) <= sum(map(unfinished, audit.faults))


def unfinished(fault):
    """Return how many events a fault may leave in flight, or finished but not committed."""
    return CONCURRENCY + RATE * (COMMITS + SESSION + fault.until - fault.since)


def test_what_was_told_to_fail_for_ever_is_in_the_dead_letters_byte_for_byte_and_nothing_else_is(run):
    assert (run.letters["plain"], run.letters["owned"]) == ([], [])
    fatal = {(r.partition, r.offset): r for r in run.records["threaded"] if is_fatal(r)}
    found = {}
    for letter in run.letters["threaded"]:
        known = dict(letter.headers)
        source = fatal[letter.partition, int(known[headers.ORIGIN_OFFSET])]
        assert (letter.key, letter.value) == (source.key, source.value)
        assert set(source.headers) <= set(letter.headers)
        found.setdefault(source.offset + (source.partition << 40), set()).add(known[headers.DLQ_ID])
    assert len(found) == len(fatal)
    assert {len(ids) for ids in found.values()} <= {1}, "one event, one dlq-id"
