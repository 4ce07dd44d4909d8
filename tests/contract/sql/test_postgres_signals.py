"""Messages between processes by the database: with the commit, in order, and never missed in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from cluster.components.postgres import LocalPostgres
from kernel.errors import ConstraintViolated, LogRefused
from kernel.sql.postgres import PostgresDatabase, PostgresSignals
from tests.support.components import needs_postgres, unique_name
from tests.support.databases import schema_of_its_own
from tests.support.eventually import until

pytestmark = needs_postgres
INSERT = "INSERT INTO notes (name) VALUES (?)"


@asynccontextmanager
async def listening(signals: PostgresSignals, channel: str) -> AsyncIterator[list[str]]:
    """What is heard, from when listening has begun."""
    heard: list[str] = []
    task = asyncio.create_task(signals.listen(channel, heard.append))
    try:
        await until(lambda: heard == [""])
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_a_transaction_says_is_heard_when_it_is_committed_and_not_otherwise() -> None:
    async with schema_of_its_own() as (url, schema):
        db, signals = await PostgresDatabase.open(url, schema=schema), PostgresSignals(url, schema=schema)
        await db.execute("CREATE TABLE notes (name TEXT PRIMARY KEY)")
        async with listening(signals, "facts") as heard:
            await db.transaction([(INSERT, ("a",)), signals.notification("facts", "one")])
            with pytest.raises(ConstraintViolated):
                await db.transaction([signals.notification("facts", "never"), (INSERT, ("a",))])
            await db.transaction([(INSERT, ("b",)), signals.notification("facts", "two ü")])
            await until(lambda: len(heard) == 3)
            assert heard == ["", "one", "two ü"]
        await db.close()


async def test_schemas_and_channels_do_not_hear_each_other() -> None:
    async with schema_of_its_own() as (url, schema):
        db = await PostgresDatabase.open(url, schema=schema)
        here, there = PostgresSignals(url, schema=schema), PostgresSignals(url, schema=unique_name("x" * 50))
        async with listening(here, "facts") as heard, listening(there, "facts") as heard_there:
            for statement in (there.notification("facts", "there"), here.notification("other", "o")):
                await db.transaction([statement])
            await db.transaction([here.notification("facts", "here")])
            await until(lambda: "here" in heard and "there" in heard_there)
            assert (heard, heard_there) == (["", "here"], ["", "there"])
        await db.close()


async def test_a_listener_says_when_it_may_have_missed_something(tmp_path: Path) -> None:
    with LocalPostgres(tmp_path, durable=False) as server:
        signals = PostgresSignals(server.url)
        async with listening(signals, "facts") as heard:
            server.stop()
            server.start()
            await until(lambda: heard == ["", ""])
            db = await PostgresDatabase.open(server.url)
            await db.transaction([signals.notification("facts", "again")])
            await until(lambda: heard == ["", "", "again"])
            await db.close()


async def test_a_listener_that_is_refused_ends() -> None:
    async with schema_of_its_own() as (url, _):
        with pytest.raises(LogRefused):
            await PostgresSignals(f"{url}_no_such").listen("facts", print)
