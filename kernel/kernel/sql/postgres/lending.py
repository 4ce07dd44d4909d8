"""Connections of a pool, lent to one call at a time and handed on from call to call.

The pool of the driver makes connections and bounds how many there are. To lend one takes it longer than a short query
runs, and more so when somebody waits: so what comes back in good order is not given back to it, but to whoever has
waited longest, or kept for the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from kernel.errors import LogRefused
from kernel.sql.postgres.failing import DRIVER_ERRORS, translated

T = TypeVar("T")
Connection = Any
"""A connection of the pool, or what the pool puts around it."""


class Lender:
    """Lends the connections of `pool`, `most` at a time. All calls on its event loop."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], name: str, *, most: int, wait_seconds: float) -> None:
        """`pool` holds up to `most`; `wait_seconds`: for one that is free, and to make one."""
        self._pool = pool
        self._name = name
        self._most = most
        self._wait_seconds = wait_seconds
        self._lent = 0
        self._spare: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._is_closed = False
        self._cuts = 0
        """How often connections were cut. What was lent before that is not lent again."""

    async def lend(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """What `call` returns with a connection that nobody else has meanwhile.

        Raises what the port does when there is none in time, and what `call` raises.
        """
        connection, cuts, is_good = await self._taken(), self._cuts, False
        try:
            done = await call(connection)
            is_good = _is_open(connection) and not connection.is_in_transaction()
            return done
        finally:
            if cuts != self._cuts:
                _end(connection)  # whoever ends it in good order may wait for a server that no longer hears
            await self._given_back(connection, is_good=is_good and cuts == self._cuts)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Connection]:
        """As `lend`, for the length of a block."""
        connection, cuts, is_good = await self._taken(), self._cuts, False
        try:
            yield connection
            is_good = _is_open(connection) and not connection.is_in_transaction()
        finally:
            if cuts != self._cuts:
                _end(connection)  # whoever ends it in good order may wait for a server that no longer hears
            await self._given_back(connection, is_good=is_good and cuts == self._cuts)

    async def cut(self, connection: Connection) -> None:
        """This one broke: neither it nor its likes are lent again."""
        _end(connection)
        self._cuts += 1
        await self._pool.expire_connections()
        while self._spare:
            spare = self._spare.pop()
            _end(spare)
            await self._released(spare)

    async def close(self) -> None:
        """Lend no more, and end what is not lent; what is lent has a moment to end. Idempotent."""
        self._is_closed = True
        while self._hand(None):
            pass
        try:
            async with asyncio.timeout(self._wait_seconds):
                while self._spare:
                    await self._released(self._spare.pop())
                await self._pool.close()
        except DRIVER_ERRORS:
            self._pool.terminate()

    async def _taken(self) -> Connection:
        self._refuse_when_closed()
        while self._spare:
            spare = self._spare.pop()
            if _is_open(spare):
                self._lent += 1
                return spare
            await self._released(spare)
        try:
            while self._lent >= self._most:
                handed = await self._handed()
                if handed is not None:
                    return handed
                self._refuse_when_closed()
            return await self._acquired()
        except DRIVER_ERRORS as error:
            raise translated(error, self._name) from error

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise LogRefused(f"{self._name} is closed")

    async def _given_back(self, connection: Connection, *, is_good: bool) -> None:
        """`is_good`: it can be lent again as it is."""
        if is_good and not self._is_closed:
            if not self._hand(connection):
                self._lent -= 1
                self._spare.append(connection)
            return
        try:
            await self._released(connection)
        finally:
            self._lent -= 1
            self._hand(None)

    async def _acquired(self) -> Connection:
        self._lent += 1
        try:
            return await self._pool.acquire(timeout=self._wait_seconds)
        except BaseException:
            self._lent -= 1
            self._hand(None)
            raise

    async def _handed(self) -> Connection | None:
        """What somebody gives back; None: there is room for another one."""
        place: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await place
        except BaseException:
            # It may have come at the same moment.
            if place.done() and not place.cancelled():
                await self._passed_on(place.result())
            else:
                with suppress(ValueError):  # whoever hands something on steps over what is done
                    self._waiting.remove(place)
            raise

    async def _passed_on(self, connection: Connection | None) -> None:
        if connection is None:
            self._hand(None)
        else:
            await self._given_back(connection, is_good=_is_open(connection))

    def _hand(self, connection: Connection | None) -> bool:
        """Give it to who has waited longest; whether anybody has."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(connection)
                return True
        return False

    async def _released(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection)
        except DRIVER_ERRORS:  # a pool that is closed takes nothing back
            _end(connection)


def _end(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # the pool may have taken it back already
        connection.terminate()


def _is_open(connection: Connection) -> bool:
    """Whether it can be used, as far as this side knows. One that breaks while it is lent goes back by itself."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False
