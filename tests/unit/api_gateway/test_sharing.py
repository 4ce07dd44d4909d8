from __future__ import annotations

import asyncio

import pytest

from api_gateway.sharing import SharedReads


class Source:
    """A value that changes, and reads of it that end when they are let go."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.gate = asyncio.Event()

    async def read(self) -> int:
        found = self.value
        self.reads += 1
        await self.gate.wait()
        return found


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_alone_reads_at_once() -> None:
    source, shared = Source(), SharedReads[int]()
    source.gate.set()
    assert [await shared.read("a", source.read) for _ in range(3)] == [0, 0, 0]
    assert source.reads == 3


async def test_who_comes_while_a_read_is_under_way_shares_the_next_one_and_sees_what_was_written_before() -> None:
    source, shared = Source(), SharedReads[int]()
    first = asyncio.create_task(shared.read("a", source.read))
    await settle()
    source.value = 1
    later = [asyncio.create_task(shared.read("a", source.read)) for _ in range(10)]
    await settle()
    assert source.reads == 1
    source.gate.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [1] * 10
    assert source.reads == 2


async def test_other_keys_wait_for_nobody() -> None:
    source, other, shared = Source(), Source(), SharedReads[int]()
    other.gate.set()
    first = asyncio.create_task(shared.read("a", source.read))
    await settle()
    assert await shared.read("b", other.read) == 0
    source.gate.set()
    await first


async def test_who_gives_up_takes_the_read_from_nobody() -> None:
    source, shared = Source(), SharedReads[int]()
    tasks = [asyncio.create_task(shared.read("a", source.read)) for _ in range(4)]
    await settle()
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    source.gate.set()
    assert await asyncio.gather(*tasks[2:]) == [0, 0]


async def test_an_error_is_that_of_all_who_share_the_read_and_of_nobody_later() -> None:
    source, shared = Source(), SharedReads[int]()

    async def broken() -> int:
        await source.gate.wait()
        raise LookupError

    tasks = [asyncio.create_task(shared.read("a", broken)) for _ in range(3)]
    await settle()
    source.gate.set()
    assert all(isinstance(error, LookupError) for error in await asyncio.gather(*tasks, return_exceptions=True))
    with pytest.raises(LookupError):
        await shared.read("a", broken)
    assert await shared.read("a", source.read) == 0
