"""The failures that the log in memory plays on order, each as a caller and a reader see it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.log.memory import Fault, MemoryLog
from kernel.log.port import Position, Record
from tests.support.logs import TOPICS, StillClock, keys, record


def failing_once(fault: Fault) -> MemoryLog:
    """A log whose first append meets `fault`."""
    faults = iter([fault])

    def policy(records: Sequence[Record]) -> Fault:
        assert records
        return next(faults, Fault.NONE)

    return MemoryLog(TOPICS, StillClock(), policy)


async def test_a_refused_append_writes_nothing() -> None:
    log = failing_once(Fault.REFUSED)
    with pytest.raises(LogUnavailable):
        await log.append([record("a")])
    await log.append([record("b")])
    assert await keys(log) == ["b"]


async def test_an_append_whose_answer_is_lost_has_landed() -> None:
    log = failing_once(Fault.ANSWER_LOST)
    with pytest.raises(UnknownOutcome):
        await log.append([record("a")])
    assert await keys(log) == ["a"]


async def test_an_append_that_timed_out_may_land_behind_later_ones() -> None:
    log = failing_once(Fault.TIMED_OUT)
    with pytest.raises(UnknownOutcome):
        await log.append([record("late")])
    await log.append([record("next")])
    assert await keys(log) == ["next"]
    assert log.in_flight[0].land() == [Position("facts", 0, 1)]
    assert await keys(log) == ["next", "late"]
    assert log.in_flight == []


async def test_an_append_that_timed_out_may_be_lost() -> None:
    log = failing_once(Fault.TIMED_OUT)
    with pytest.raises(UnknownOutcome):
        await log.append([record("lost")])
    log.in_flight[0].drop()
    assert await keys(log) == []
    assert log.in_flight == []


async def test_a_delayed_append_answers_when_it_lands() -> None:
    log = failing_once(Fault.DELAYED)
    waiting = asyncio.create_task(log.append([record("slow")]))
    await asyncio.sleep(0)
    await log.append([record("fast")])
    assert not waiting.done()
    log.in_flight[0].land()
    assert await waiting == [Position("facts", 0, 1)]


async def test_a_delayed_append_that_is_dropped_has_an_unknown_outcome() -> None:
    log = failing_once(Fault.DELAYED)
    waiting = asyncio.create_task(log.append([record("slow")]))
    await asyncio.sleep(0)
    log.in_flight[0].drop()
    with pytest.raises(UnknownOutcome):
        await waiting


async def test_a_doubled_append_stands_twice_and_answers_once() -> None:
    log = failing_once(Fault.DOUBLED)
    assert await log.append([record("a"), record("b")]) == [Position("facts", 0, 0), Position("facts", 0, 1)]
    assert await keys(log) == ["a", "b", "a", "b"]
