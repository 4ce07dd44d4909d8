"""Short messages between the processes of one database, by LISTEN and NOTIFY. Contract in `kernel.sql.port.Signals`.

A notification rides in the transaction that it tells of and goes out with its commit. It may be missed while nobody is
connected, so each new connection says `heard("")` first: look for yourself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import asyncpg
import structlog

from kernel.errors import LogUnavailable
from kernel.sql.port import Statement
from kernel.sql.postgres.failing import DRIVER_ERRORS, translated

PING_SECONDS = 5.0
RETRY_SECONDS = 0.2
_NAME_MAX = 63
_log = structlog.get_logger("kernel.sql.signals")


class PostgresSignals:
    """`Signals` of one schema; every schema has channels of its own."""

    def __init__(self, dsn: str, *, schema: str | None = None) -> None:
        self._dsn = dsn
        self._schema = schema

    def notification(self, channel: str, payload: str) -> Statement:
        return "SELECT pg_notify(?, ?)", (self._full(channel), payload)

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        """As the port says. A server that is away is asked again and again; `LogRefused` when it refuses the user."""
        while True:
            try:
                await self._listen(channel, heard)
            except DRIVER_ERRORS as error:
                known = translated(error, "PostgreSQL")
                if not isinstance(known, LogUnavailable):
                    raise known from error
                _log.warning("signals.retry", channel=channel, error=str(known))
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, channel: str, heard: Callable[[str], None]) -> None:
        def told(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            heard(str(payload))

        settings = {"application_name": "towpath signals"}
        connection = await asyncpg.connect(
            self._dsn, timeout=PING_SECONDS, command_timeout=PING_SECONDS, server_settings=settings
        )
        try:
            await connection.add_listener(self._full(channel), told)
            heard("")
            while True:
                await asyncio.sleep(PING_SECONDS)
                await connection.execute("SELECT 1")  # a connection that was cut silently is found out here
        finally:
            connection.terminate()

    def _full(self, channel: str) -> str:
        name = f"{self._schema}.{channel}" if self._schema else channel
        if len(name.encode()) <= _NAME_MAX:
            return name
        return hashlib.sha256(name.encode()).hexdigest()[:_NAME_MAX]
