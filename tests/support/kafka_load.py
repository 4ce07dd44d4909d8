"""Load for a log that is disturbed, and whether everything of it stands once and in order."""

from __future__ import annotations

import asyncio

from kernel.log.port import EventLog
from tests.support.logs import keys, record


async def append_batches(log: EventLog, count: int, pause_seconds: float = 0.0) -> list[str]:
    """Batches of three to two partitions, eight at a time, in order per partition; what went wrong."""
    failed: list[str] = []
    calls: list[asyncio.Task[object]] = []
    for number in range(count):
        batch = [record(f"{number}.{part}", b"x" * 300, partition=p) for p in (0, 1) for part in range(3)]
        calls.append(asyncio.create_task(log.append(batch)))
        if pause_seconds or number % 8 == 7:
            await asyncio.sleep(pause_seconds)
        if len(calls) >= 64:
            await asyncio.wait(calls[:32])
            failed += [repr(call.exception()) for call in calls[:32] if call.exception() is not None]
            del calls[:32]
    await asyncio.wait(calls)
    return failed + [repr(call.exception()) for call in calls if call.exception() is not None]


async def check_batches(log: EventLog, count: int) -> None:
    """Both partitions hold each batch whole, once, in order."""
    wanted = [f"{number}.{part}" for number in range(count) for part in range(3)]
    assert await keys(log, partition=0) == wanted
    assert await keys(log, partition=1) == wanted


async def follow(log: EventLog, count: int) -> list[str]:
    """The keys of the first `count` records of the first partition, as a reader who waits gets them."""
    found: list[str] = []
    while len(found) < count:
        found += [stored.record.key for stored in await log.read("facts", 0, len(found), wait_seconds=60)]
    return found
