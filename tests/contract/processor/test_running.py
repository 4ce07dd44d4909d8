"""Owners that run by themselves: due times, draining, standing down, back-off, what cannot be decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from kernel.domain.decider import Decision, Derived, Event
from kernel.domain.owner import OwnerClaimed
from kernel.errors import LogUnavailable
from kernel.log.envelope import Envelope
from kernel.log.limits import RECORD_BYTES_MAX
from kernel.log.port import Position, Record
from kernel.processor import Action, Bounds, run_decider, run_partition
from tests.support.crash_points import MakeBench
from tests.support.eventually import until
from tests.support.processing import START_MS, Bench, Cut, by_sequence, decisions, map_of, run_to_idle
from tests.support.toy_decider import (
    ASKED,
    FACTS,
    LEDGER,
    REPORTED,
    Asked,
    Did,
    ObjectCodec,
    Thing,
    ToyDecider,
    asked,
)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[asyncio.Event]:
    """The toy decider runs; afterwards it is drained."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_decider(bench.decider, bench.ports(), stop))
        try:
            yield stop
        finally:
            stop.set()


async def ask(bench: Bench, what: Asked | str, key: str = "A") -> None:
    await bench.log.inner.append([asked(bench.codec, what, key)])


async def facts(bench: Bench, count: int) -> None:
    """Wait until that many facts are told."""
    while await bench.log.end_offset(FACTS, 0) < count:  # noqa: ASYNC110 (the log has no event for a test to wait on)
        await asyncio.sleep(0)


async def test_inputs_are_decided_as_they_come(bench: Bench) -> None:
    async with running(bench):
        await ask(bench, "start")
        await facts(bench, 1)
        await ask(bench, "signal")
        await facts(bench, 2)
    assert by_sequence(await bench.read(FACTS)) == {"A": [Did("started", 1), Did("signalled", 2)]}


async def test_a_drained_owner_leaves_a_checkpoint_of_everything(bench: Bench) -> None:
    bench.bounds = Bounds()
    async with running(bench):
        await ask(bench, "start")
        await ask(bench, "nothing")
        await facts(bench, 1)
        await until(lambda: bench.watcher.transitions == 1)
    successor = bench.owner()
    await successor.step()
    await successor.step()
    assert successor.partition.positions[ASKED] >= 1
    assert not successor._outbox


async def test_a_due_time_is_decided_when_it_comes(bench: Bench) -> None:
    async with running(bench):
        await ask(bench, "start")
        await ask(bench, Asked("sleep", due_ms=START_MS + 5000))
        await facts(bench, 2)
        await asyncio.sleep(0.02)
        bench.clock.advance(4000)
        await asyncio.sleep(0.02)
        assert await bench.log.end_offset(FACTS, 0) == 2
        bench.clock.advance(1000)
        await facts(bench, 3)
    assert by_sequence(await bench.read(FACTS))["A"][-1] == Did("woke", 3)
    assert bench.watcher.late_ms == [0]


async def test_before_a_due_time_is_decided_the_inputs_up_to_it_are(bench: Bench) -> None:
    owner = bench.owner()
    await ask(bench, "start")
    await ask(bench, Asked("sleep", due_ms=START_MS + 100))
    await run_to_idle(owner)
    bench.clock.advance(100)
    for _ in range(5):
        await ask(bench, "signal")
    await run_to_idle(owner)
    story = by_sequence(await bench.read(FACTS))["A"]
    assert [did.what for did in story] == ["started", "slept", *["signalled"] * 5]
    assert map_of(owner) == {"A": Thing(7, "live")}, "the first signal ended the sleep, so nothing is due any more"


async def test_a_due_time_is_decided_behind_the_marks_of_a_foreign_transaction(bench: Bench) -> None:
    owner = bench.owner()
    await ask(bench, "start")
    await ask(bench, Asked("sleep", due_ms=START_MS + 100))
    await run_to_idle(owner)
    bench.log.marks = dict.fromkeys(owner.decider.inputs, 2)
    bench.clock.advance(100)
    await run_to_idle(owner)
    assert [did.what for did in by_sequence(await bench.read(FACTS))["A"]] == ["started", "slept", "woke"]
    assert all(
        [position >= await bench.log.end_offset(topic, 0) for topic, position in owner.partition.positions.items()]
    )


async def test_a_decider_that_leaves_its_due_time_as_it_is_does_not_spin(bench: Bench) -> None:
    bench.decider = _Sleepless()
    await ask(bench, "start")
    await ask(bench, Asked("sleep", due_ms=START_MS))
    owner = bench.owner()
    await run_to_idle(owner, 40)
    assert owner.sleep_ms() == 1000
    await run_to_idle(owner, 1)
    bench.clock.advance(1000)
    assert await owner.step() is Action.TAKE_INPUTS


class _Sleepless(ToyDecider):
    """Never decides a due time."""

    def decide(self, state: object, cause: object, context: object) -> list[object]:  # type: ignore[override]
        answer = super().decide(state, cause, context) if type(cause).__name__ == "Input" else []  # type: ignore[arg-type]
        return list(answer)


async def test_what_cannot_be_decoded_or_decided_is_parked_and_the_partition_goes_on(bench: Bench) -> None:
    later = ("ce_type", "towpath.thing.of_a_later_version.v1")
    await bench.log.inner.append([Record(ASKED, 0, "A", (later,), b"no number")])
    for what in ("start", "fail", "signal"):
        await ask(bench, what)
    owner = bench.owner()
    await run_to_idle(owner)
    assert map_of(owner) == {"A": Thing(2, "live")}
    parked = [(record.offset, record.error) for record in bench.watcher.parked_records]
    assert parked == [(0, "ValueError"), (2, "RuntimeError")]
    assert [record.type for record in bench.watcher.parked_records] == [later[1], ""]
    assert all(len(record.sha256) == 64 for record in bench.watcher.parked_records)


async def test_a_decision_too_long_for_the_log_is_parked_and_leaves_the_map_alone(bench: Bench) -> None:
    await ask(bench, "start")
    await bench.log.inner.append([asked(bench.codec, Asked("burst", times=40, padding=30_000))])
    await ask(bench, "signal")
    owner = bench.owner()
    await run_to_idle(owner)
    assert map_of(owner) == {"A": Thing(2, "live")}
    assert [record.error for record in bench.watcher.parked_records] == ["ValueError"]


class _LongSources(ObjectCodec):
    """What is derived weighs a little more than the decision that it repeats."""

    def encode(
        self, event: Event, *, topic: str, key: str, envelope: Envelope, partition: int, value: bytes = b""
    ) -> Record:
        record = super().encode(event, topic=topic, key=key, envelope=envelope, partition=partition)
        return record if envelope.source is None else structs.replace(record, headers=(("source", "x" * 200),))


async def test_a_decision_whose_derived_record_the_log_would_refuse_does_not_stop_the_partition(bench: Bench) -> None:
    bench.codec = _LongSources()
    await ask(bench, "start")
    await ask(bench, Asked("start", padding=RECORD_BYTES_MAX - 100), "B")
    await ask(bench, "signal")
    owner = bench.owner()
    await run_to_idle(owner)
    assert map_of(owner) == {"A": Thing(2, "live")}
    assert [record.error for record in bench.watcher.parked_records] == ["ValueError"]


async def test_a_decision_for_a_partition_that_does_not_exist_does_not_stop_its_own(bench: Bench) -> None:
    bench.decider = _Astray()
    for what, key in (("start", "A"), ("start", "astray"), ("signal", "A")):
        await ask(bench, what, key)
    owner = bench.owner()
    await run_to_idle(owner)
    assert map_of(owner) == {"A": Thing(2, "live")}
    assert [record.error for record in bench.watcher.parked_records] == ["ValueError"]


class _Astray(ToyDecider):
    """Sends the nudges of one thing to a partition that somebody made up."""

    def derive(self, decision: Decision) -> Sequence[Derived]:
        fact, nudge = super().derive(decision)
        return [fact, structs.replace(nudge, partition=99 if decision.key == "astray" else 0)]


async def test_what_one_input_decides_lands_whole_or_not_at_all(bench: Bench) -> None:
    await ask(bench, "start")
    await run_to_idle(bench.owner())
    await ask(bench, Asked("burst", times=7))
    owner = bench.owner()
    while await owner.step() is not Action.TAKE_INPUTS:
        pass
    bench.log.cuts[bench.log.appends] = Cut.DROPPED
    await owner.step()
    assert len(decisions(await bench.ledger())) == 1
    await run_to_idle(owner)
    assert len(by_sequence(await bench.read(FACTS))["A"]) == 8


async def test_an_unavailable_log_is_asked_again(bench: Bench) -> None:
    append, refusals = bench.log.append, iter(range(3))

    async def sometimes(records: list[Record]) -> list[Position]:
        if next(refusals, None) is not None:
            bench.clock.advance(200)
            raise LogUnavailable("not now", 0.0)
        return await append(records)

    bench.log.append = sometimes  # type: ignore[method-assign,assignment]  # the one thing that changes
    async with running(bench):
        await ask(bench, "start")
        while await bench.log.end_offset(FACTS, 0) < 1:
            bench.clock.advance(100)
            await asyncio.sleep(0)
    assert bench.watcher.failures == []


async def test_an_owner_that_is_superseded_claims_again_while_it_is_proposed(bench: Bench) -> None:
    async with running(bench):
        await ask(bench, "start")
        await facts(bench, 1)
        other = bench.owner()
        await other.claim()
        await ask(bench, "signal")
        # Repetitions apart: the new claim may derive the first fact again before the signal is decided.
        while len(by_sequence(await bench.read(FACTS))["A"]) < 2:
            bench.clock.advance(100)
            await asyncio.sleep(0)
    assert bench.watcher.stand_downs == 1
    assert by_sequence(await bench.read(FACTS)) == {"A": [Did("started", 1), Did("signalled", 2)]}


async def test_stopping_while_waiting_to_claim_again_ends_at_once(bench: Bench) -> None:
    stop = asyncio.Event()
    stop.set()
    await run_partition(bench.decider, 0, bench.ports(), stop)
    assert await bench.log.end_offset(LEDGER, 0) == 0


async def test_an_idle_partition_writes_nothing(bench: Bench) -> None:
    async with running(bench):
        await until(lambda: bench.watcher.restores == 1)
        bench.clock.advance(600_000)
        await asyncio.sleep(0.01)
        assert await bench.log.end_offset(LEDGER, 0) == 1


async def test_a_snapshot_of_a_large_map_is_not_followed_by_another_one_at_once(bench: Bench) -> None:
    owner = bench.owner()
    for number in range(60):
        await ask(bench, "start", f"K{number}")
    await run_to_idle(owner)
    before = await _snapshots(bench)
    for number in range(50):
        await ask(bench, "signal", f"K{number}")
        await run_to_idle(owner)
    assert await _snapshots(bench) - before <= 2, "one for as many decisions as the map has keys"


async def test_a_takeover_of_a_large_map_makes_no_snapshot_of_what_a_snapshot_holds(bench: Bench) -> None:
    owner = bench.owner()
    for number in range(60):
        await ask(bench, "start", f"K{number}")
    await run_to_idle(owner)
    for number in range(60):
        await ask(bench, "signal", f"K{number}")
    await run_to_idle(owner)
    before = await bench.log.end_offset(LEDGER, 0)
    for _ in range(3):
        await run_to_idle(bench.owner())
    assert await bench.log.end_offset(LEDGER, 0) - before < 60, "three claims, and a checkpoint each at most"


async def test_a_snapshot_that_had_to_rest_is_made_although_nothing_more_comes(bench: Bench) -> None:
    bench.bounds = Bounds(snapshot_records=4, snapshot_rest_seconds=30.0)
    async with running(bench):
        await ask(bench, "start")
        for _ in range(8):
            await ask(bench, "signal")
        await facts(bench, 9)
        bench.clock.advance(29_000)
        await asyncio.sleep(0.02)
        assert await _snapshots(bench) == 1, "the claim that everything began with"
        bench.clock.advance(1000)
        async with asyncio.timeout(20):
            while await _snapshots(bench) == 1:  # noqa: ASYNC110 (the log has no event for this)
                await asyncio.sleep(0.01)


async def _snapshots(bench: Bench) -> int:
    """How many were begun so far: each begins with a claim."""
    return sum(isinstance(message.event, OwnerClaimed) for message in await bench.ledger())


async def test_the_time_of_decisions_never_falls_at_a_takeover(bench: Bench) -> None:
    await ask(bench, "start")
    await run_to_idle(bench.owner())
    bench.clock.wall_ms -= 60_000
    await ask(bench, "signal")
    owner = bench.owner()
    await run_to_idle(owner)
    assert owner.partition.behind_ms == 60_000
    times = [message.envelope.time_ms for message in decisions(await bench.ledger())]
    assert times == [START_MS, START_MS]


async def test_a_takeover_is_decided_first(bench: Bench) -> None:
    bench.decider = ToyDecider(ASKED, REPORTED, greets=True)
    await run_to_idle(bench.owner())
    owner = bench.owner()
    await run_to_idle(owner)
    assert map_of(owner) == {"greeting": Thing(2, "live")}
    causes = [message.envelope.cause for message in decisions(await bench.ledger())]
    assert all(cause is not None and cause.topic == "" for cause in causes)
    ids = {message.envelope.id for message in decisions(await bench.ledger())}
    assert len(ids) == 2


@pytest.mark.parametrize("hint", [None, 1, 3, 10_000])
async def test_a_wrong_hint_costs_time_and_nothing_else(make: MakeBench, hint: int | None) -> None:
    bench = await make()
    for what in ("start", *["signal"] * 9):
        await ask(bench, what)
    await run_to_idle(bench.owner())
    bench.hint.starts.clear()
    if hint is not None:
        bench.hint.starts[LEDGER, 0] = hint
    successor = bench.owner()
    await run_to_idle(successor)
    assert map_of(successor) == {"A": Thing(10, "live")}


async def test_appends_that_stay_unknown_are_repeated_ever_more_slowly(bench: Bench) -> None:
    bench.log.cuts = dict.fromkeys(range(5), Cut.DROPPED)
    async with running(bench):
        await ask(bench, "start")
        await until(lambda: len(bench.watcher.unknown) == 2)
        await asyncio.sleep(0.02)
        assert bench.watcher.unknown == ["claim", "claim"], "it waits"
        while await bench.log.end_offset(FACTS, 0) < 1:
            bench.clock.advance(100)
            await asyncio.sleep(0)
    assert bench.watcher.unknown == ["claim"] * 5
