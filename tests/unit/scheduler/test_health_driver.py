"""How the health app's driver takes records and hands them on: as Faust's own, with less ado."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from faust.transport.drivers import aiokafka

from kernel.log.kafka.settings import KafkaSettings
from scheduler.health_app import make_app
from scheduler.health_driver import MANY_RECORDS, PAUSE_SECONDS


@pytest.fixture
async def consumer() -> AsyncIterator[Any]:
    """Of an app that is never started."""
    made = make_app(KafkaSettings("127.0.0.1:9092"), "health-1", "unused").consumer
    yield made
    made._thread.thread_loop.close()


async def test_what_need_not_wait_is_over_without_a_task(consumer: Any) -> None:
    async def hand_on() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    found = await consumer.wait_first(hand_on(), asyncio.Event().wait())
    assert (found.results, found.stopped) == ([asyncio.current_task()], False)


async def test_what_waits_goes_on_where_it_was(consumer: Any) -> None:
    room, seen = asyncio.Event(), []

    async def hand_on() -> str:
        seen.append("begun")
        await asyncio.sleep(0)
        await room.wait()
        return "handed on"

    waiting = asyncio.create_task(consumer.wait_first(hand_on(), asyncio.Event().wait()))
    await asyncio.sleep(0)
    assert not waiting.done()
    room.set()
    assert (await waiting).results == ["handed on"]
    assert seen == ["begun"]


async def test_what_waits_is_cut_off_when_partitions_move(consumer: Any) -> None:
    suspended, ended = asyncio.Event(), asyncio.Event()

    async def hand_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(consumer.wait_first(hand_on(), suspended.wait()))
    await asyncio.sleep(0)
    suspended.set()
    assert (await waiting).results == [True]
    async with asyncio.timeout(5):
        await ended.wait()


@pytest.mark.parametrize("waits_first", [False, True])
async def test_what_it_raises_is_raised(consumer: Any, *, waits_first: bool) -> None:
    async def hand_on() -> None:
        if waits_first:
            await asyncio.sleep(0)
        raise ValueError("no such record")

    with pytest.raises(ValueError, match="no such record"):
        await consumer.wait_first(hand_on(), asyncio.Event().wait())


async def test_it_pauses_after_some_records_and_neither_in_silence_nor_in_a_backlog(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, paused = iter([0, 3, 3, MANY_RECORDS, 1, 0]), []

    async def fetch(*_: object) -> dict[str, list[int]]:
        return {"job_runs": list(range(next(counts)))}

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(aiokafka.AIOKafkaConsumerThread, "getmany", fetch)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(6):
        await consumer._thread.getmany(set(), 1.0)
    assert paused == [0.0, 0.0, PAUSE_SECONDS, PAUSE_SECONDS, 0.0, PAUSE_SECONDS]
