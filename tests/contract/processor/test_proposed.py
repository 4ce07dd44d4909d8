"""Partitions that are owned as somebody proposes them, and the other owner that may come at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kernel.processor import run_proposed
from kernel.proposals import Proposals
from tests.support.eventually import until
from tests.support.processing import Bench, by_sequence, check_outside
from tests.support.toy_decider import FACTS, Did, asked


@asynccontextmanager
async def member(bench: Bench, proposals: Proposals) -> AsyncIterator[asyncio.Event]:
    """A process that owns what it is proposed; afterwards it is drained."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_proposed(bench.decider, bench.ports(), stop, proposals))
        try:
            yield stop
        finally:
            stop.set()


async def ask(bench: Bench, what: str) -> None:
    await bench.log.inner.append([asked(bench.codec, what, "A")])


async def told(bench: Bench, count: int) -> None:
    """Wait until that many facts of A are told, repetitions apart: a new owner may derive again."""
    while len(by_sequence(await bench.read(FACTS)).get("A", ())) < count:  # noqa: ASYNC110 (the log has no event for this)
        await asyncio.sleep(0)


async def test_nothing_is_owned_before_it_is_proposed(bench: Bench) -> None:
    proposals = Proposals()
    async with member(bench, proposals):
        await ask(bench, "start")
        await asyncio.sleep(0.02)
        assert await bench.ledger() == []
        proposals.propose([0])
        await told(bench, 1)


async def test_what_is_proposed_no_more_is_drained_and_owned_again_when_it_comes_back(bench: Bench) -> None:
    proposals = Proposals([0])
    async with member(bench, proposals):
        await ask(bench, "start")
        await told(bench, 1)
        proposals.propose([])
        proposals.propose([0])
        await ask(bench, "signal")
        await told(bench, 2)
        assert bench.watcher.restores == 1, "it did not end before it was proposed again"
        proposals.propose([])
        await asyncio.sleep(0.02)
        await ask(bench, "signal")
        await asyncio.sleep(0.02)
        assert len(by_sequence(await bench.read(FACTS))["A"]) == 2
        proposals.propose([0])
        await told(bench, 3)
        assert bench.watcher.restores == 2
    await check_outside(bench, {"A": [Did("started", 1), Did("signalled", 2), Did("signalled", 3)]})


async def test_what_is_withheld_goes_on_until_somebody_else_claims_it_and_is_not_claimed_back(bench: Bench) -> None:
    here, there = Proposals([0]), Proposals()
    async with member(bench, here), member(bench, there):
        await ask(bench, "start")
        await told(bench, 1)
        here.withhold()
        await ask(bench, "signal")
        await told(bench, 2)
        assert bench.watcher.restores == 1
        there.propose([0])
        await until(lambda: bench.watcher.restores == 2)
        await ask(bench, "signal")
        await told(bench, 3)
        await until(lambda: bench.watcher.stand_downs == 1)
        await asyncio.sleep(0.05)
        assert bench.watcher.restores == 2, "it does not claim what nobody proposes to it"
        there.propose([])
        here.propose([0])
        bench.clock.advance(10_000)
        await until(lambda: bench.watcher.restores == 3)
    await check_outside(bench, {"A": [Did("started", 1), Did("signalled", 2), Did("signalled", 3)]})


async def test_the_new_owner_does_not_wait_for_the_former_one(bench: Bench) -> None:
    here, there = Proposals([0]), Proposals()
    async with member(bench, here), member(bench, there):
        await ask(bench, "start")
        await told(bench, 1)
        there.propose([0])
        await until(lambda: bench.watcher.restores == 2)
        await ask(bench, "signal")
        here.propose([])
        await told(bench, 2)
    assert by_sequence(await bench.read(FACTS)) == {"A": [Did("started", 1), Did("signalled", 2)]}


async def test_a_process_that_is_told_to_end_drains_all_that_it_owns(bench: Bench) -> None:
    async with member(bench, Proposals([0])):
        await ask(bench, "start")
        await told(bench, 1)
    successor = bench.owner()
    await successor.step()
    await successor.step()
    assert not successor._outbox


async def test_whoever_waits_for_another_proposal_is_told_of_the_newest_only() -> None:
    proposals = Proposals([1])
    waiting = asyncio.create_task(proposals.other_than(frozenset({1})))
    await asyncio.sleep(0)
    proposals.propose([1])
    await asyncio.sleep(0)
    assert not waiting.done()
    proposals.propose([2])
    proposals.propose([2, 3])
    assert await waiting == {2, 3}
