"""What becomes of calls when the server dies, hangs, is full or cut off: errors of the port only, and nothing half."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from cluster.components.postgres import LocalPostgres
from kernel.errors import ConstraintViolated, LogRefused, LogUnavailable, UnknownOutcome
from kernel.sql.port import Migration, migrate
from kernel.sql.postgres import PostgresDatabase, Timeouts
from tests.support.components import needs_postgres
from tests.support.cutting import Cut, CuttingProxy, cutting_proxy

pytestmark = needs_postgres
INSERT = "INSERT INTO notes (name) VALUES (?)"
SLEEP = ("SELECT pg_sleep(?)", (60.0,))
HASTY = Timeouts(acquire=1.0, statement=1.0, lock=0.3, idle_in_transaction=0.5, answer=2.0)


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    with LocalPostgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def server(own_server: LocalPostgres) -> Iterator[LocalPostgres]:
    yield own_server
    if own_server.pid is None:  # a test that failed between the two
        own_server.start()


@pytest.fixture
async def db(server: LocalPostgres) -> AsyncIterator[PostgresDatabase]:
    db = await PostgresDatabase.open(server.url)
    await db.execute("DROP TABLE IF EXISTS notes")
    await db.execute("CREATE TABLE notes (name TEXT PRIMARY KEY)")
    yield db
    await db.close()


@pytest.fixture
async def proxy(server: LocalPostgres) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def far(server: LocalPostgres, proxy: CuttingProxy, db: PostgresDatabase) -> AsyncIterator[PostgresDatabase]:
    """The same database, by way of the proxy."""
    far = await PostgresDatabase.open(re.sub(r":\d+/", f":{proxy.port}/", server.url), timeouts=HASTY)
    yield far
    proxy.flowing.set()
    await far.close()


async def notes(db: PostgresDatabase) -> list[str]:
    return [name for (name,) in await db.fetch_all("SELECT name FROM notes ORDER BY name")]


async def until_asked(db: PostgresDatabase, what: str, number: int = 1) -> None:
    """Until the server is at work on `what` for so many."""
    ask = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE ?"
    async with asyncio.timeout(10):
        while (await db.fetch_one(ask, (f"%{what}%",)) or (0,))[0] < number:  # noqa: ASYNC110 (the server has no event)
            await asyncio.sleep(0.01)


async def test_a_server_killed_in_a_transaction_has_written_nothing(
    server: LocalPostgres, db: PostgresDatabase
) -> None:
    write = asyncio.create_task(db.transaction([(INSERT, ("half",)), SLEEP]))
    await until_asked(db, "pg_sleep")
    server.kill()
    with pytest.raises(LogUnavailable):
        await write
    with pytest.raises(LogUnavailable):
        await db.fetch_all("SELECT 1")
    server.start()
    assert await notes(db) == []
    assert await db.execute(INSERT, ("after",)) == 1


async def test_rows_that_are_copied_come_with_all_of_their_transaction_or_not_at_all(db: PostgresDatabase) -> None:
    rows = [(f"copied {number}",) for number in range(1000)]
    copy = ("COPY notes (name) FROM STDIN", rows)
    assert await db.transaction([(INSERT, ("first",)), copy]) == [1, 1000]
    with pytest.raises(ConstraintViolated):
        await db.transaction([(INSERT, ("second",)), copy])
    assert await db.fetch_one("SELECT count(*) FROM notes") == (1001,)


async def test_a_copy_that_is_cut_short_leaves_no_locks_and_a_database_that_works(db: PostgresDatabase) -> None:
    rows = [(f"{number:0>1000}",) for number in range(100_000)]
    for pause in (0.0, 0.01, 0.05, 0.2):
        copying = asyncio.create_task(db.transaction([(INSERT, ("first",)), ("COPY notes (name) FROM STDIN", rows)]))
        await asyncio.sleep(pause)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        assert await db.execute(INSERT, (f"after {pause}",)) == 1
    async with asyncio.timeout(5.0):
        await db.execute("DROP TABLE notes")


async def test_nobody_notices_a_server_that_was_restarted_between_two_calls(
    server: LocalPostgres, db: PostgresDatabase
) -> None:
    await asyncio.gather(*(db.fetch_one("SELECT pg_sleep(0.05)") for _ in range(8)))
    server.stop()
    server.start()
    await asyncio.sleep(0)
    assert await asyncio.gather(*(db.fetch_one("SELECT 1") for _ in range(20))) == [(1,)] * 20
    assert await db.execute(INSERT, ("after",)) == 1


async def test_a_lone_write_whose_server_is_killed_is_of_unknown_outcome(
    server: LocalPostgres, db: PostgresDatabase
) -> None:
    slow = "INSERT INTO notes (name) SELECT ? FROM pg_sleep(60)"
    write = asyncio.create_task(db.execute(slow, ("a",)))
    await until_asked(db, "pg_sleep")
    server.kill()
    with pytest.raises(UnknownOutcome):
        await write
    server.start()
    assert await notes(db) == []


async def test_a_commit_that_never_arrives_is_of_unknown_outcome_and_was_not_done(
    far: PostgresDatabase, proxy: CuttingProxy
) -> None:
    proxy.cut_at = (b"COMMIT", Cut.BEFORE)
    with pytest.raises(UnknownOutcome):
        await far.transaction([(INSERT, ("a",)), (INSERT, ("b",))])
    assert await notes(far) == []


async def test_a_commit_whose_answer_is_lost_is_of_unknown_outcome_and_was_done(
    far: PostgresDatabase, proxy: CuttingProxy
) -> None:
    proxy.cut_at = (b"COMMIT", Cut.BEHIND)
    with pytest.raises(UnknownOutcome):
        await far.transaction([(INSERT, ("a",)), (INSERT, ("b",))])
    assert await notes(far) == ["a", "b"]


async def test_a_transaction_cut_before_its_commit_is_done_by_a_second_try(
    far: PostgresDatabase, proxy: CuttingProxy
) -> None:
    proxy.cut_at = (b"second", Cut.BEHIND)
    assert await far.transaction([(INSERT, ("first",)), (INSERT, ("second",))]) == [1, 1]
    assert await notes(far) == ["first", "second"]


async def test_a_reader_that_is_cut_off_asks_again(far: PostgresDatabase, proxy: CuttingProxy) -> None:
    proxy.cut_at = (b"whoever", Cut.BEHIND)
    assert await far.fetch_one("SELECT ?::text", ("whoever",)) == ("whoever",)


async def test_a_server_that_hangs_is_given_up_and_used_again(far: PostgresDatabase, proxy: CuttingProxy) -> None:
    await far.execute(INSERT, ("before",))
    proxy.flowing.clear()
    with pytest.raises(UnknownOutcome):
        await far.execute(INSERT, ("meanwhile",))
    with pytest.raises(LogUnavailable):
        await notes(far)
    proxy.flowing.set()
    assert "before" in await notes(far)


async def test_a_client_that_pauses_in_a_transaction_loses_its_locks(
    far: PostgresDatabase, proxy: CuttingProxy, db: PostgresDatabase
) -> None:
    await db.execute(INSERT, ("row",))
    proxy.cut_at = (b"never said", Cut.HANGING)
    take = ("UPDATE notes SET name = name WHERE name = ?", ("row",))
    paused = asyncio.create_task(far.transaction([take, (INSERT, ("never said",))]))
    async with asyncio.timeout(5):
        while proxy.flowing.is_set():  # noqa: ASYNC110 (the event is of the other direction)
            await asyncio.sleep(0.01)
    assert await db.execute("DELETE FROM notes WHERE name = ?", ("row",)) == 1
    with pytest.raises(LogUnavailable):
        await paused


async def test_a_full_pool_makes_callers_wait_and_then_tells_them(server: LocalPostgres, db: PostgresDatabase) -> None:
    small = await PostgresDatabase.open(server.url, pool_max=2, timeouts=replace(HASTY, acquire=0.2, statement=30.0))
    busy = [asyncio.create_task(small.fetch_one("SELECT 1 FROM pg_sleep(0.6)")) for _ in range(2)]
    await until_asked(db, "pg_sleep", 2)
    with pytest.raises(LogUnavailable):
        await small.execute(INSERT, ("too many",))
    assert await asyncio.gather(*busy) == [(1,), (1,)]
    assert await small.execute(INSERT, ("later",)) == 1
    await small.close()


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(server: LocalPostgres) -> None:
    hasty = await PostgresDatabase.open(server.url, timeouts=HASTY)
    with pytest.raises(LogUnavailable, match="statement timeout"):
        await hasty.execute(*SLEEP)
    await hasty.close()


async def test_a_row_that_stays_locked_is_told_in_time(server: LocalPostgres, db: PostgresDatabase) -> None:
    await db.execute(INSERT, ("row",))
    take = ("UPDATE notes SET name = name WHERE name = ?", ("row",))
    holder = asyncio.create_task(db.transaction([take, SLEEP]))
    await until_asked(db, "pg_sleep")
    hasty = await PostgresDatabase.open(server.url, timeouts=HASTY)
    with pytest.raises(LogUnavailable, match="lock timeout"):
        await hasty.execute(*take)
    holder.cancel()
    await asyncio.wait([holder])
    assert await hasty.execute(*take) == 1
    await hasty.close()


async def test_of_two_that_wait_for_each_other_one_may_try_again(db: PostgresDatabase) -> None:
    for name in "ab":
        await db.execute(INSERT, (name,))

    def take(name: str) -> tuple[str, tuple[str]]:
        return "UPDATE notes SET name = name WHERE name = ?", (name,)

    pause = ("SELECT pg_sleep(?)", (0.2,))
    both = (db.transaction([take(one), pause, take(other)]) for one, other in ("ab", "ba"))
    ended = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(end).__name__ for end in ended) == ["LogUnavailable", "list"]


async def test_a_caller_who_goes_away_leaves_a_connection_that_works(db: PostgresDatabase) -> None:
    gone = asyncio.create_task(db.transaction([(INSERT, ("half",)), SLEEP]))
    await until_asked(db, "pg_sleep")
    gone.cancel()
    await asyncio.wait([gone])
    assert gone.cancelled()
    assert await notes(db) == []


async def test_what_the_server_will_never_take_is_refused_at_once(server: LocalPostgres) -> None:
    for wrong in (re.sub(r":[^:@]+@", ":wrong@", server.url), server.url + "_no_such"):
        with pytest.raises(LogRefused):
            await PostgresDatabase.open(wrong)


async def test_tables_are_refused_in_a_schema_that_is_not_there(server: LocalPostgres) -> None:
    db = await PostgresDatabase.open(server.url, schema="no_such")
    try:
        with pytest.raises(LogRefused, match="no schema"):
            await migrate(db, [Migration("notes", 1, "begin", ("CREATE TABLE other (id TEXT)",))])
    finally:
        await db.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(LogUnavailable):
        await PostgresDatabase.open("postgresql://nobody@127.0.0.1:1/none")


async def test_an_opening_that_is_broken_off_leaves_no_connection_behind(
    server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, opened = asyncio.Event(), []

    async def asks_for_ever(database: PostgresDatabase, _sql: str) -> None:
        opened.append((await database._lender._taken())._con)
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(PostgresDatabase, "fetch_one", asks_for_ever)
    opening = asyncio.create_task(PostgresDatabase.open(server.url))
    await asked.wait()
    opening.cancel()
    await asyncio.wait([opening])
    assert [connection.is_closed() for connection in opened] == [True]


async def test_a_closed_database_refuses_and_may_be_closed_again(server: LocalPostgres) -> None:
    db = await PostgresDatabase.open(server.url)
    await db.close()
    await db.close()
    with pytest.raises(LogRefused, match="closed"):
        await db.fetch_all("SELECT 1")


async def test_no_password_stands_in_an_error(server: LocalPostgres) -> None:
    secret = re.sub(r":[^:@]+@", ":hunter2hunter2@", server.url)
    with pytest.raises(LogRefused) as refusal:
        await PostgresDatabase.open(secret)
    assert "hunter2" not in str(refusal.value)
