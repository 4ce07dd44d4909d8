"""What every database promises. An implementation joins by its name in `tests.support.databases.IMPLEMENTATIONS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernel.errors import ConstraintViolated, Permanent
from kernel.sql.port import Database, Migration, migrate
from tests.support.databases import IMPLEMENTATIONS

INSERT = "INSERT INTO runs (id, status, version) VALUES (?, ?, ?)"


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with IMPLEMENTATIONS[request.param](tmp_path) as database:
        await database.execute(
            "CREATE TABLE runs (id TEXT PRIMARY KEY, status TEXT, version BIGINT NOT NULL CHECK (version > 0))"
        )
        yield database


async def versions(db: Database) -> dict[str, int]:
    return dict(await db.fetch_all("SELECT id, version FROM runs ORDER BY id"))


async def test_a_row_is_seen_by_a_query_after_its_write(db: Database) -> None:
    assert await db.execute(INSERT, ("a", "running", 2**60)) == 1
    assert await db.fetch_all("SELECT * FROM runs") == [("a", "running", 2**60)]
    assert await db.fetch_one("SELECT status FROM runs WHERE id = ?", ("a",)) == ("running",)
    assert await db.fetch_one("SELECT status FROM runs WHERE id = ?", ("b",)) is None
    assert await db.fetch_all("SELECT status FROM runs WHERE id = ?", ("b",)) == []


async def test_values_come_back_as_they_went(db: Database) -> None:
    binary = {"sqlite": "BLOB", "postgres": "BYTEA"}[db.dialect]
    await db.execute(f"CREATE TABLE kinds (t TEXT, n BIGINT, f DOUBLE PRECISION, b {binary}, none TEXT)")
    values = ("a ? 'quoted' Gänse\n", -1, 0.5, bytes(range(256)), None)
    await db.execute("INSERT INTO kinds VALUES (?, ?, ?, ?, ?)", values)
    assert await db.fetch_one("SELECT t, n, f, b, none FROM kinds") == values


async def test_a_conditional_write_tells_whether_it_was_done(db: Database) -> None:
    await db.execute(INSERT, ("a", "running", 1))
    change = "UPDATE runs SET version = version + 1 WHERE id = ? AND version = ?"
    assert await db.execute(change, ("a", 1)) == 1
    assert await db.execute(change, ("a", 1)) == 0
    once = INSERT + " ON CONFLICT (id) DO NOTHING"
    assert [await db.execute(once, (id_, "x", 1)) for id_ in ("a", "b", "b")] == [0, 1, 0]


async def test_of_many_conditional_writes_at_once_one_is_done(db: Database) -> None:
    await db.execute(INSERT, ("a", "running", 1))
    change = "UPDATE runs SET version = 2, status = ? WHERE id = 'a' AND version = 1"
    assert sorted(await asyncio.gather(*(db.execute(change, (str(n),)) for n in range(20)))) == [0] * 19 + [1]


async def test_a_transaction_reports_each_statement(db: Database) -> None:
    changed = await db.transaction(
        [
            (INSERT, ("a", "running", 1)),
            (INSERT, ("b", "running", 1)),
            ("UPDATE runs SET status = ?", ("done",)),
            ("DELETE FROM runs WHERE id = ?", ("nobody",)),
        ]
    )
    assert changed == [1, 1, 2, 0]


async def test_a_transaction_that_breaks_a_constraint_changes_nothing(db: Database) -> None:
    for refused in (("a", "running", 1), ("c", "running", 0)):
        with pytest.raises(ConstraintViolated):
            await db.transaction([(INSERT, ("a", "running", 1)), (INSERT, refused)])
    assert await versions(db) == {}


async def test_a_guarded_transaction_stops_at_its_condition(db: Database) -> None:
    await db.execute(INSERT, ("position", "", 7))
    advance = "UPDATE runs SET version = ? WHERE id = 'position' AND version < ?"
    assert await db.transaction([(advance, (9, 9)), (INSERT, ("a", "x", 1))], guarded=True) == [1, 1]
    assert await db.transaction([(advance, (8, 8)), (INSERT, ("b", "x", 1))], guarded=True) == [0]
    assert await versions(db) == {"position": 9, "a": 1}


async def test_many_rows_are_written_all_or_none(db: Database) -> None:
    assert await db.executemany(INSERT, [(f"r{n}", "x", 1) for n in range(500)]) == 500
    with pytest.raises(ConstraintViolated):
        await db.executemany(INSERT, [("new", "x", 1), ("r7", "x", 1)])
    assert len(await versions(db)) == 500
    assert await db.executemany(INSERT, []) == 0
    assert await db.transaction([]) == []


async def test_readers_and_writers_may_run_at_once(db: Database) -> None:
    async def write(n: int) -> None:
        await db.transaction([(INSERT, (f"a{n}", "x", 1)), (INSERT, (f"b{n}", "x", 1))])
        found = await db.fetch_all("SELECT id FROM runs WHERE id IN (?, ?)", (f"a{n}", f"b{n}"))
        assert len(found) == 2

    async def look() -> None:
        count = await db.fetch_one("SELECT count(*) FROM runs")
        assert count is not None
        assert count[0] % 2 == 0

    await asyncio.gather(*(write(n) for n in range(50)), *(look() for _ in range(50)))


# Migrations.

FIRST = Migration("gateway", 1, "jobs", ("CREATE TABLE jobs (id TEXT)", "INSERT INTO jobs VALUES ('a')"))
SECOND = Migration("gateway", 2, "names", ("ALTER TABLE jobs ADD COLUMN name TEXT",))
OTHER = Migration("vault", 1, "secrets", ("CREATE TABLE secrets (id TEXT)",))


async def test_missing_migrations_are_applied_in_order_and_once(db: Database) -> None:
    assert await migrate(db, [FIRST]) == [FIRST]
    assert await migrate(db, [FIRST, SECOND, OTHER]) == [SECOND, OTHER]
    assert await migrate(db, [FIRST, SECOND, OTHER]) == []
    assert await db.fetch_all("SELECT id, name FROM jobs") == [("a", None)]


async def test_a_check_tells_what_is_missing_and_applies_nothing(db: Database) -> None:
    await migrate(db, [FIRST])
    assert await migrate(db, [FIRST, SECOND], check=True) == [SECOND]
    assert await migrate(db, [FIRST, SECOND], check=True) == [SECOND]


async def test_two_starts_at_once_apply_each_migration_once(db: Database) -> None:
    await asyncio.gather(migrate(db, [FIRST, SECOND]), migrate(db, [FIRST, SECOND]))
    assert await db.fetch_all("SELECT id, name FROM jobs") == [("a", None)]


async def test_an_older_build_works_on_tables_to_which_a_newer_one_has_only_added(db: Database) -> None:
    await migrate(db, [FIRST, replace(SECOND, oldest=0)])
    assert await migrate(db, [FIRST]) == []
    assert await migrate(db, [FIRST], check=True) == []
    await db.execute("INSERT INTO jobs (id) VALUES ('b')")
    assert await migrate(db, [FIRST, SECOND]) == []


async def test_tables_that_have_lost_something_name_the_oldest_migration_that_a_build_must_know(db: Database) -> None:
    dropped = Migration("gateway", 3, "no_names", ("ALTER TABLE jobs DROP COLUMN name",), oldest=2)
    added = Migration("gateway", 4, "owners", ("ALTER TABLE jobs ADD COLUMN owner TEXT",), oldest=0)
    await migrate(db, [FIRST, SECOND, dropped, added])
    assert await migrate(db, [FIRST, SECOND]) == []
    with pytest.raises(
        Permanent, match="to 4, which takes a version that knows gateway 2; this one knows 1"
    ) as refusal:
        await migrate(db, [FIRST])
    assert refusal.value.code == "migration_unknown"


async def test_a_migration_that_fails_leaves_nothing_behind(db: Database) -> None:
    broken = replace(SECOND, statements=("CREATE TABLE half (id TEXT)", "INSERT INTO runs VALUES ('a', 'x', 0)"))
    with pytest.raises(ConstraintViolated):
        await migrate(db, [FIRST, broken])
    assert await migrate(db, [FIRST, SECOND], check=True) == [SECOND]
    await db.execute("CREATE TABLE half (id TEXT)")


@pytest.mark.parametrize(
    ("migrations", "code"),
    [
        ([replace(FIRST, statements=("CREATE TABLE jobs (id INTEGER)",)), SECOND], "migration_changed"),
        ([FIRST], "migration_unknown"),
        ([FIRST, replace(SECOND, number=3)], "migration_gap"),
    ],
)
async def test_a_history_that_does_not_fit_is_refused(db: Database, migrations: list[Migration], code: str) -> None:
    await migrate(db, [FIRST, SECOND])
    with pytest.raises(Permanent) as refusal:
        await migrate(db, migrations)
    assert refusal.value.code == code
