from __future__ import annotations

import asyncio
from typing import Any, cast

import asyncpg
import pytest

from kernel.errors import LogRefused, LogUnavailable
from kernel.sql.postgres.lending import Lender


class Line:
    """What a lender knows of a connection."""

    def __init__(self) -> None:
        self.is_cut = False

    def is_closed(self) -> bool:
        return self.is_cut

    def is_in_transaction(self) -> bool:
        return False

    def terminate(self) -> None:
        self.is_cut = True


class Pool:
    """A pool that counts what it lends."""

    def __init__(self) -> None:
        self.lent = 0
        self.acquired = 0
        self.is_closed = False

    async def acquire(self, *, timeout: float) -> Line:  # noqa: ASYNC109 (shaped by the driver)
        self.lent += 1
        self.acquired += 1
        return Line()

    async def release(self, _line: Line) -> None:
        if self.is_closed:
            raise asyncpg.InterfaceError("pool is closed")
        self.lent -= 1

    async def expire_connections(self) -> None:
        pass

    async def close(self) -> None:
        self.is_closed = True


def lender(pool: Pool, most: int = 1, wait_seconds: float = 5.0) -> Lender:
    return Lender(cast("Any", pool), "PostgreSQL", most=most, wait_seconds=wait_seconds)


async def quietly(_line: Line) -> None:
    await asyncio.sleep(0)


async def test_calls_that_wait_are_handed_the_same_connection_in_turn() -> None:
    pool, order = Pool(), []
    lends = lender(pool)

    async def call(number: int) -> None:
        async def note(_line: Line) -> None:
            await asyncio.sleep(0)
            order.append(number)

        await lends.lend(note)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))
    assert (pool.acquired, pool.lent) == (1, 1)


async def test_a_connection_that_was_cut_goes_back_and_who_waits_gets_another() -> None:
    pool = Pool()
    lends = lender(pool)

    async def breaking(line: Line) -> None:
        await asyncio.sleep(0)
        await lends.cut(line)
        raise ConnectionError

    results = await asyncio.gather(lends.lend(breaking), lends.lend(quietly), return_exceptions=True)
    assert isinstance(results[0], ConnectionError)
    assert results[1] is None
    assert (pool.acquired, pool.lent) == (2, 1)


async def test_who_waits_too_long_is_told_and_takes_nothing_from_the_next() -> None:
    lends = lender(Pool(), wait_seconds=0.01)
    async with lends.lent():
        with pytest.raises(LogUnavailable):
            await lends.lend(quietly)
    await lends.lend(quietly)


async def test_a_connection_handed_to_who_is_cancelled_at_that_moment_is_handed_on() -> None:
    pool = Pool()
    lends = lender(pool)
    async with lends.lent():
        doomed = asyncio.create_task(lends.lend(quietly))
        await asyncio.sleep(0)
        patient = asyncio.create_task(lends.lend(quietly))
        await asyncio.sleep(0)
    doomed.cancel()  # it has been handed the connection, and has not run since
    async with asyncio.timeout(5):
        await asyncio.wait([patient, doomed])
    assert doomed.cancelled()
    assert patient.exception() is None
    assert (pool.acquired, pool.lent) == (1, 1)


async def test_nothing_is_lent_after_the_close() -> None:
    lends = lender(Pool())
    await lends.close()
    with pytest.raises(LogRefused):
        await lends.lend(quietly)


async def test_who_waits_at_the_close_is_refused_at_once_though_nothing_came_back() -> None:
    lends = lender(Pool())
    async with lends.lent():
        waiting = asyncio.create_task(lends.lend(quietly))
        await asyncio.sleep(0)
        await lends.close()
        with pytest.raises(LogRefused):
            async with asyncio.timeout(2):
                await waiting


async def test_a_connection_that_comes_back_after_the_close_is_ended() -> None:
    lends = lender(Pool())
    async with lends.lent() as line:
        await lends.close()
    assert line.is_cut


async def test_a_connection_that_was_lent_when_another_broke_is_ended_at_once() -> None:
    lends = lender(Pool(), most=2)
    async with lends.lent() as line:
        async with lends.lent() as broken:
            await lends.cut(broken)
        assert not line.is_cut, "it may still be heard"
    assert line.is_cut
