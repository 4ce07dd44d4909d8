"""The known traps of the protocol that concern one owner of a ledger, each by its number in the reference."""

from __future__ import annotations

import pytest

from kernel.errors import LogRefused, NotOwner
from kernel.log.envelope import Envelope, Source
from kernel.processor import Action, Owner
from tests.support.hand_ledgers import HandLedger, check_that_a_late_checkpoint_is_not_trusted
from tests.support.processing import (
    Bench,
    Cut,
    by_key,
    by_sequence,
    by_watermark,
    decisions,
    effective,
    map_of,
    run_to_idle,
)
from tests.support.toy_decider import ASKED, FACTS, LEDGER, NUDGES, REPORTED, Did, Thing, asked

STARTED, SIGNALLED = Did("started", 1), Did("signalled", 2)


async def ask(bench: Bench, *whats: str, key: str = "A", topic: str = ASKED, source: Source | None = None) -> None:
    for what in whats:
        await bench.log.inner.append([asked(bench.codec, what, key, topic=topic, source=source)])


async def until(owner: Owner, action: Action) -> None:
    """Step until `action` was taken."""
    while await owner.step() is not action:
        assert action is not Action.IDLE


async def test_trap_01_two_owners_with_equal_claims(bench: Bench) -> None:
    await ask(bench, "start")
    one, two = bench.owner(), bench.owner()
    for owner in (one, two):
        await owner.claim()
    for owner in (one, two):
        await owner.restore()
        await owner.take_inputs()
        await owner.append_decisions()
    await run_to_idle(two)
    with pytest.raises(NotOwner):
        await run_to_idle(one)
    assert by_key(decisions(await bench.ledger())) == {"A": [STARTED]}
    assert by_sequence(await bench.read(FACTS)) == {"A": [STARTED]}


@pytest.mark.parametrize("lands_after", [0, 1, 2, 3, 5, 8])
async def test_trap_02_an_append_of_unknown_outcome_is_answered_by_a_claim(bench: Bench, lands_after: int) -> None:
    await ask(bench, "start", "signal")
    bench.log.cuts[1] = Cut.LATE
    owner = bench.owner()
    await until(owner, Action.APPEND)
    assert owner.enabled() == [Action.CLAIM]
    for _ in range(lands_after):
        await owner.step()
    await bench.log.land()
    await run_to_idle(owner)
    assert by_key(decisions(await bench.ledger())) == {"A": [STARTED, SIGNALLED]}
    assert by_sequence(await bench.read(FACTS)) == {"A": [STARTED, SIGNALLED]}


async def test_trap_03_late_state_of_a_former_owner(bench: Bench) -> None:
    await ask(bench, "start")
    former = bench.owner()
    await run_to_idle(former)
    await former.snapshot_step()
    await former.read_back()
    owner = bench.owner()
    await run_to_idle(owner)
    await ask(bench, "signal")
    await run_to_idle(owner)
    await former.snapshot_step()
    with pytest.raises(NotOwner):
        await former.read_back()
    successor = bench.owner()
    await run_to_idle(successor)
    assert map_of(successor) == {"A": Thing(2, "live")}


@pytest.mark.parametrize("make", ["memory", "sqlite"], indirect=True)  # as one append there is nothing in between
async def test_trap_07_one_tail_for_several_derived_topics(bench: Bench) -> None:
    await ask(bench, "start", "signal")
    bench.log.cuts[2] = Cut.FIRST_TARGET
    owner = bench.owner()
    await until(owner, Action.DERIVE)
    assert (await bench.log.end_offset(FACTS, 0), await bench.log.end_offset(NUDGES, 0)) == (2, 0)
    await owner.checkpoint()
    await owner.read_back()
    await run_to_idle(bench.owner())
    for topic in (FACTS, NUDGES):
        assert by_watermark(await bench.read(topic)) == [STARTED, SIGNALLED]


async def test_trap_08_position_counted_from_ineffective_records(bench: Bench) -> None:
    await ask(bench, "start", "signal", "signal")
    former, owner = bench.owner(), bench.owner()
    await former.claim()
    await former.restore()
    await former.take_inputs()
    await owner.claim()
    await former.append_decisions()
    await run_to_idle(owner)
    assert by_key(decisions(await bench.ledger())) == {"A": [STARTED, SIGNALLED, Did("signalled", 3)]}


async def test_trap_09_a_former_owners_checkpoint_is_not_trusted(bench: Bench) -> None:
    check_that_a_late_checkpoint_is_not_trusted()
    await ask(bench, "start")
    former, owner = bench.owner(), bench.owner()
    await run_to_idle(former)
    await owner.claim()
    await former.checkpoint()
    await run_to_idle(owner)
    with pytest.raises(NotOwner):
        await former.read_back()


async def test_trap_10_a_request_appended_twice_meets_a_tombstone(bench: Bench) -> None:
    await ask(bench, "start", "end")
    await run_to_idle(bench.owner())
    await ask(bench, "start")
    await run_to_idle(bench.owner())
    assert by_key(decisions(await bench.ledger())) == {"A": [STARTED, Did("ended", 2)]}


async def test_trap_16_a_snapshot_begins_with_a_claim_so_that_deletion_keeps_the_claim_in_force(bench: Bench) -> None:
    await ask(bench, *["start", *["signal"] * 20])
    owner = bench.owner()
    await run_to_idle(owner)
    start = await bench.log.start_offset(LEDGER, 0)
    assert start > 0, "something was deleted"
    kept = await bench.ledger()
    assert kept[0].offset == start
    assert len(effective(kept)) > 0
    bench.hint.starts.clear()
    successor = bench.owner()
    await run_to_idle(successor)
    assert map_of(successor) == {"A": Thing(21, "live")}


def test_trap_16_a_ledger_that_does_not_begin_with_a_whole_snapshot_is_no_state() -> None:
    ledger = HandLedger(base=10)
    ledger.did("unknown", "signalled", 2)
    ledger.chunk("unknown", 9, Thing(1, "live"))
    ledger.completed("unknown", 10)
    assert ledger.restore() is None


async def test_trap_17_positions_outlive_the_decisions_that_are_deleted(bench: Bench) -> None:
    await ask(bench, *["start", *["signal"] * 20])
    await run_to_idle(bench.owner())
    successor = bench.owner()
    await until(successor, Action.RESTORE)
    assert successor.partition.positions == {ASKED: 21, REPORTED: 0}
    assert by_sequence(await bench.read(FACTS))["A"][-1].number == 21


@pytest.mark.parametrize("make", ["memory", "sqlite"], indirect=True)  # as one append there is nothing in between
async def test_trap_18_a_snapshot_waits_for_what_is_not_derived(bench: Bench) -> None:
    await ask(bench, "start")
    owner = bench.owner()
    await until(owner, Action.READ_BACK)
    for _ in range(2):
        assert await owner.snapshot_step() is Action.SNAPSHOT
        await owner.read_back()
    assert await owner.snapshot_step() is Action.IDLE
    await owner.derive_next()
    assert await owner.snapshot_step() is Action.SNAPSHOT


async def test_trap_19_two_records_derived_from_one_decision_are_both_accepted(bench: Bench) -> None:
    await ask(bench, "start")
    await ask(bench, "signal", source=Source("elsewhere", 0, 5, 0))
    await ask(bench, "signal", source=Source("elsewhere", 0, 5, 1))
    await ask(bench, "signal", source=Source("elsewhere", 0, 5, 0))
    owner = bench.owner()
    await run_to_idle(owner)
    assert map_of(owner) == {"A": Thing(3, "live")}


async def test_trap_19_one_source_feeds_two_input_topics_whose_marks_are_apart(bench: Bench) -> None:
    await ask(bench, "start")
    await ask(bench, "signal", source=Source("elsewhere", 0, 9, 0))
    await ask(bench, "start", key="B", topic=REPORTED, source=Source("elsewhere", 0, 4, 0))
    owner = bench.owner()
    await run_to_idle(owner)
    assert map_of(owner) == {"A": Thing(2, "live"), "B": Thing(1, "live")}


async def test_trap_20_after_an_unknown_outcome_deriving_goes_on_at_the_first_unacknowledged_record(
    bench: Bench,
) -> None:
    await ask(bench, "start", "signal", "signal", "signal")
    bench.log.cuts[2] = Cut.LATE
    owner = bench.owner()
    await run_to_idle(owner)
    await bench.log.land()
    wanted = [STARTED, SIGNALLED, Did("signalled", 3), Did("signalled", 4)]
    assert by_sequence(await bench.read(FACTS)) == {"A": wanted}
    assert by_watermark(await bench.read(NUDGES)) == wanted


def test_trap_21_a_chunk_that_was_copied_early_is_folded_in_two_passes() -> None:
    ledger = HandLedger()
    ledger.claim("one")
    created = ledger.did("one", "started", 1, cause=0)
    start = ledger.claim("two")
    ledger.did("two", "signalled", 2, cause=1)
    ledger.did("two", "ended", 3, cause=2)
    ledger.did("two", "forgot", 4, cause=3)
    ledger.chunk("two", created, Thing(1, "live"))
    ledger.completed("two", start, position=1)
    assert ledger.restored().values == {}, "the old chunk does not revive the key"


async def test_inputs_that_led_to_nothing_still_raise_the_watermark_of_a_successor(bench: Bench) -> None:
    first = Source("elsewhere", 0, 5, 0)
    await ask(bench, "signal", source=first)
    await ask(bench, "start")
    await run_to_idle(bench.owner())
    await ask(bench, "signal", source=first)
    successor = bench.owner()
    await run_to_idle(successor)
    assert map_of(successor) == {"A": Thing(1, "live")}


async def test_a_recreated_input_topic_is_refused(bench: Bench) -> None:
    await ask(bench, "start", "signal", "signal", "signal", "signal")
    await run_to_idle(bench.owner())
    topic_id = bench.log.topic_id

    async def another(topic: str) -> str:
        return "another" if topic == ASKED else await topic_id(topic)

    bench.log.topic_id = another  # type: ignore[method-assign]  # the one thing that changes
    with pytest.raises(LogRefused):
        await run_to_idle(bench.owner())


async def test_an_empty_ledger_is_refused_when_others_were_told_of_decisions_in_another_one(bench: Bench) -> None:
    """The ledger was deleted and made anew: whoever began in it would decide again what stands in the inputs."""
    await ask(bench, "start")
    envelope = Envelope(id="before", time_ms=1, source=Source("a ledger that is gone", 0, 5, 0))
    codec = bench.codec
    await bench.log.append([codec.encode(SIGNALLED, topic=FACTS, key="A", envelope=envelope, partition=0)])
    for _ in range(2):
        with pytest.raises(LogRefused, match="run_ledger was recreated"):
            await run_to_idle(bench.owner())
    assert len(await bench.read(FACTS)) == 1


async def test_an_empty_ledger_is_begun_in_where_nobody_was_told_of_anything(bench: Bench) -> None:
    await bench.owner().step()  # a claim alone
    await ask(bench, "start")
    await run_to_idle(bench.owner())
    assert by_sequence(await bench.read(FACTS)) == {"A": [STARTED]}
