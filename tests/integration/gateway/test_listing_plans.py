"""Lists of a busy organization: no combination of filters scans a table or sorts an organization's rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import chain, combinations
from pathlib import Path

import pytest

from api_gateway import listing
from api_gateway.listing import Listed, Value, Wanted, Where, Window
from api_gateway.migrations import migrations
from kernel.sql.port import Database, Statement, migrate
from tests.support.databases import sqlite

COUNT = 1000
FILTERS: dict[str, dict[str, Wanted]] = {
    "workflows": {"provider": "p", "type": "USER_DEFINED", "name": "n", "deleted_ms": 0},
    "jobs": {"provider": "p", "workflow_ids LIKE": '%"w"%', "deleted_ms": 0},
    "job_runs": {"job_id": "j", "status": ("failed", "cancelled"), "subject_id": "s", "test_mode": 1},
    "workflow_runs": {
        "workflow_id": "w",
        "job_run_id": "r",
        "status": ("failed", "timed_out"),
        "subject_id": "s",
        "test_mode": 0,
    },
    "artifacts": {"workflow_run_id": "r", "workflow_id": "w", "job_run_id": "j", "type": "trace"},
    "input_requests": {"status": "open", "workflow_run_id": "r"},
}
"""Everything that a surface filters by, at once."""
OF_ONE_RUN = frozenset({"workflow_run_id", "job_run_id"})
"""A run's rows are few and may be sorted."""
SEEN: tuple[Value, ...] = ("trace", "screenshot")


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database with the gateway's tables; without statistics its plans are those of a full one."""
    async with sqlite(tmp_path) as database:
        await migrate(database, migrations(database.dialect))
        yield database


def every_filter(listed: Listed) -> Iterator[Where]:
    filters = FILTERS[listed.table]
    for names in chain.from_iterable(combinations(filters, size) for size in range(len(filters) + 1)):
        yield {"organization_id": "acme", **{name: filters[name] for name in names}}


async def plan(db: Database, statement: Statement) -> list[tuple[int, str]]:
    """(parent, what is done) of each node."""
    sql, params = statement
    return [(row[1], row[3]) for row in await db.fetch_all(f"EXPLAIN QUERY PLAN {sql}", params)]


def statements(listed: Listed, where: Where) -> Iterator[Statement]:
    yield listing.total(listed, where)
    if ask := listing.seen_values(listed, where):
        yield ask
    for offset in (0, 100, COUNT - 1):
        yield listing.page(listed, "id", where, Window(50, offset), count=COUNT, dialect="sqlite", seen=SEEN)


@pytest.mark.parametrize("listed", listing.LISTED.values(), ids=lambda listed: listed.table)
async def test_no_filter_makes_a_list_scan_a_table(db: Database, listed: Listed) -> None:
    for where in every_filter(listed):
        for statement in statements(listed, where):
            scans = [what for _, what in await plan(db, statement) if what.startswith("SCAN") and what != "SCAN page"]
            assert not scans, (where, statement)


@pytest.mark.parametrize("listed", listing.LISTED.values(), ids=lambda listed: listed.table)
async def test_only_the_rows_of_one_page_or_of_one_run_are_sorted(db: Database, listed: Listed) -> None:
    for where in every_filter(listed):
        if not OF_ONE_RUN & where.keys():
            for statement in statements(listed, where):
                sorts = [parent for parent, what in await plan(db, statement) if "TEMP B-TREE FOR ORDER" in what]
                assert sorts in ([], [0]), (where, statement)


@pytest.mark.parametrize("table", ["job_runs", "workflow_runs", "artifacts", "input_requests"])
async def test_walks_to_a_page_touch_index_entries_only(db: Database, table: str) -> None:
    listed = listing.LISTED[table]
    for where in every_filter(listed):
        if not where.keys() & {narrow.column for narrow in listed.narrow}:
            steps = [
                what
                for _, what in await plan(
                    db, listing.page(listed, "*", where, Window(50, 0), count=COUNT, dialect="sqlite", seen=SEEN)
                )
            ]
            walks = [what for what in steps if what.startswith(f"SEARCH {table}") and "(id=?)" not in what]
            assert walks, where
            assert all("COVERING INDEX" in walk for walk in walks), (where, walks)
