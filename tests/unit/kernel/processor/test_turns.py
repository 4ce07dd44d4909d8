"""A takeover beside many keys gives way to everything else in the process, and leads to what it would in one go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from kernel.log.memory import MemoryLog
from kernel.processor import Bounds
from kernel.processor.partition import filled_state
from kernel.processor.turns import KEYS_A_TURN, ends_turn, giving_way
from tests.support.hand_ledgers import HandLedger, at_once
from tests.support.processing import Bench, CuttingLog, HandClock, run_to_idle
from tests.support.toy_decider import ASKED, TOPICS, Asked, ObjectCodec, Thing, ToyDecider, asked

TURNS = 3
MANY = TURNS * KEYS_A_TURN + 1
"""Keys: so many whole turns, and a rest."""


@asynccontextmanager
async def somebody_else() -> AsyncIterator[Callable[[], int]]:
    """Another task of the loop that is always ready, and how often it had a turn."""
    had = 0

    async def work() -> None:
        nonlocal had
        while True:
            had += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    try:
        yield lambda: had
    finally:
        task.cancel()


def a_long_ledger() -> HandLedger:
    """A snapshot of many things, then a decision about each; some have gone before, and every other one goes after."""
    ledger = HandLedger()
    start = ledger.claim("one")
    for number in range(MANY):
        ledger.chunk("one", 0, Thing(1, "live") if number % 5 else None, key=f"thing {number}")
    ledger.completed("one", start)
    for number in range(MANY):
        what = "forgot" if number % 2 else "signalled"
        ledger.did("one", what, 2 if number % 5 else 1, key=f"thing {number}", cause=number)
    return ledger


async def test_the_fold_of_many_keys_lets_others_run_and_equals_the_fold_in_one_go() -> None:
    ledger = a_long_ledger()
    async with somebody_else() as turns:
        restored = await giving_way(ledger.fold())
        assert turns() == 2 * TURNS, "as often while chunks are read as while decisions are folded"
    assert restored == ledger.restore()
    assert restored is not None
    assert restored.values.keys() == {f"thing {number}" for number in range(0, MANY, 2)}
    assert len(restored.underived) == MANY


async def test_a_state_of_many_keys_is_filled_in_turns_and_equals_the_one_that_was_filled_in_one_go() -> None:
    values, decider = {f"thing {number}": Thing(number, "live") for number in range(MANY)}, ToyDecider(ASKED)
    async with somebody_else() as turns:
        state = await giving_way(filled_state(decider, values))
        assert turns() == TURNS
    assert dict(state.items()) == dict(at_once(filled_state(decider, values)).items()) == values


async def test_a_few_keys_are_one_turn() -> None:
    ledger = HandLedger()
    ledger.claim("one")
    ledger.did("one", "started", 1)
    async with somebody_else() as turns:
        restored = await giving_way(ledger.fold())
        assert turns() == 0
    assert restored is not None
    assert restored.values == {"A": Thing(1, "live")}
    assert [number for number in range(2 * KEYS_A_TURN + 1) if ends_turn(number + 1)] == [
        KEYS_A_TURN - 1,
        2 * KEYS_A_TURN - 1,
    ]


async def test_an_owner_that_restores_many_keys_lets_others_run() -> None:
    clock = HandClock()
    log = MemoryLog(dict.fromkeys(TOPICS, 1), clock)
    bench = Bench(CuttingLog(log), ObjectCodec(), clock, bounds=Bounds())
    for number in range(MANY):
        await log.append([asked(bench.codec, Asked("start"), f"thing {number}")])
    former, latter = bench.owner(), bench.owner()
    await run_to_idle(former)
    await latter.claim()
    async with somebody_else() as turns:
        await latter.restore()
        assert turns() >= 2 * TURNS, "of folding decisions and of filling the state; this log answers at once"
    assert dict(latter.partition.state.items()) == dict(former.partition.state.items())
