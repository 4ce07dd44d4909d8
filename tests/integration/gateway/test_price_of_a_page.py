"""What a page costs in steps of SQLite's virtual machine: as much beside many runs as beside few."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from api_gateway import listing
from api_gateway.listing import Where, Window
from api_gateway.migrations import migrations
from kernel.domain.ids import OrganizationId
from kernel.sql.port import Statement, migrate
from tests.bench.loading import Owner, load_runs
from tests.support.databases import sqlite

ACME = OrganizationId("acme")
WORKFLOWS = ["w1", "w2", "w3"]
FEW, MANY = 2_000, 12_000
NOISE = 1.3
"""Cells and the depth of an index still grow a little."""


def steps_of(path: Path, statement: Statement) -> int:
    """How many steps of the virtual machine a question takes."""
    steps = 0

    def tick() -> int:
        nonlocal steps
        steps += 1
        return 0

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(tick, 1)
        connection.execute(*statement).fetchall()
    return steps


FILTERS: list[Where] = [
    {},
    {"status": ("failed", "cancelled", "timed_out")},
    {"workflow_id": "w2"},
    {"workflow_id": "w3", "status": ("failed",), "test_mode": 0},
    {"test_mode": 1},
]


def prices(path: Path) -> list[int]:
    """Of the total and of the first page, under each filter."""
    found = []
    for filters in FILTERS:
        where = {"organization_id": ACME, **filters}
        found.append(steps_of(path, listing.total(listing.WORKFLOW_RUNS, where)))
        page = listing.page(listing.WORKFLOW_RUNS, "id, status", where, Window(10, 0), count=FEW, dialect="sqlite")
        found.append(steps_of(path, page))
    return found


async def test_six_times_the_runs_leave_the_price_of_total_and_first_page(tmp_path: Path) -> None:
    path = tmp_path / "towpath.db"
    async with sqlite(tmp_path) as db:
        await migrate(db, migrations(db.dialect))
        await load_runs(db, Owner(ACME, WORKFLOWS), FEW, seed=1)
        beside_few = prices(path)
        await load_runs(db, Owner(ACME, WORKFLOWS), MANY - FEW, seed=2)
        beside_many = prices(path)
    assert all(many <= few * NOISE for few, many in zip(beside_few, beside_many, strict=True)), beside_many
