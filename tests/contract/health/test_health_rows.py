"""Rows of outcomes in both databases: what is further stays, and the same counts make the same bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel import health_rows
from kernel.domain.health_windows import HealthRow, Tally
from kernel.sql.port import Database, migrate
from tests.support.databases import IMPLEMENTATIONS
from tests.support.health_facts import ACME, GUSTO, NOON, RIVAL, TOAST


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with IMPLEMENTATIONS[request.param](tmp_path) as database:
        await migrate(database, health_rows.migrations(database.dialect))
        yield database


def row(applied: int, succeeded: int, partition: int = 0) -> HealthRow:
    minutes = {29_166_667: Tally(succeeded, 1, 2, 3, 4, 5, {7: 1, 2: 9}), 29_166_660: Tally(failed=1)}
    return HealthRow(ACME, GUSTO, partition, applied, NOON, minutes)


async def test_a_row_is_read_as_it_was_kept(db: Database) -> None:
    await db.transaction([health_rows.keep(row(4, 1)), health_rows.keep(row(9, 2, partition=1))])
    assert await health_rows.row_of(db, ACME, GUSTO, 0) == row(4, 1)
    assert await health_rows.row_of(db, ACME, GUSTO, 2) is None
    found = await health_rows.rows_of(db, ACME, [GUSTO, TOAST])
    assert sorted(found, key=lambda each: each.partition) == [row(4, 1), row(9, 2, partition=1)]
    assert await health_rows.rows_of(db, RIVAL, [GUSTO]) == []
    assert await health_rows.rows_of(db, ACME, []) == []


async def test_a_row_that_is_not_further_replaces_nothing(db: Database) -> None:
    await db.transaction([health_rows.keep(row(4, 1))])
    assert await db.transaction([health_rows.keep(row(3, 7))]) == [0]
    assert await db.transaction([health_rows.keep(row(4, 7))]) == [0]
    assert await health_rows.row_of(db, ACME, GUSTO, 0) == row(4, 1)
    assert await db.transaction([health_rows.keep(row(5, 7))]) == [1]
    assert await health_rows.row_of(db, ACME, GUSTO, 0) == row(5, 7)


async def test_places_and_positions_are_found_again(db: Database) -> None:
    await db.transaction([health_rows.keep(row(4, 1)), health_rows.reached(0, "t1", 5)])
    await db.transaction([health_rows.reached(0, "t1", 8), health_rows.reached(1, "t1", 2)])
    assert await health_rows.positions(db) == {0: 8, 1: 2}
    assert await health_rows.places_since(db, NOON) == [(ACME, GUSTO)]
    assert await health_rows.places_since(db, NOON + 1) == []


async def test_what_was_counted_from_another_topic_goes(db: Database) -> None:
    assert not await health_rows.forget_others(db, "t1")
    await db.transaction([health_rows.keep(row(4, 1)), health_rows.reached(0, "t1", 5)])
    assert not await health_rows.forget_others(db, "t1")
    assert await health_rows.row_of(db, ACME, GUSTO, 0) == row(4, 1)
    assert await health_rows.forget_others(db, "t2")
    assert await health_rows.positions(db) == {}
    assert await health_rows.row_of(db, ACME, GUSTO, 0) is None
    assert not await health_rows.forget_others(db, "t2")
