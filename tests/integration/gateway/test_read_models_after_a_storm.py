"""Read models equal the fold: after a simulated storm, rows are what an outside reader folds from the public topics.

What: the simulator leaves a log with doubled, late and interleaved derived records; the projector reads it as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api_gateway.migrations import migrations
from api_gateway.projecting import Projector
from api_gateway.waiting import Waiters
from kernel.sql.port import migrate
from tests.support.databases import sqlite
from tests.support.simulator.simulation import Scenario, simulate
from tests.support.simulator.world import WorldClock


@pytest.mark.parametrize("seed", range(6))
async def test_rows_are_what_an_outsider_folds(seed: int, tmp_path: Path) -> None:
    simulation = await simulate(seed, Scenario(faults=30))
    outside = simulation.outside
    async with sqlite(tmp_path) as db:
        await migrate(db, migrations(db.dialect))
        projector = Projector(simulation.log, db, Waiters(), WorldClock(simulation.world))
        assert await projector.catch_up() > 0
        jobs: dict[Any, Any] = dict(await db.fetch_all("SELECT id, status FROM job_runs"))
        runs = {row[0]: row[1:] for row in await db.fetch_all("SELECT id, status, attempt FROM workflow_runs")}
        open_questions = await db.fetch_all("SELECT id FROM input_requests WHERE status = 'open'")
        events = await db.fetch_all("SELECT root_run_id, COUNT(*) FROM run_events GROUP BY root_run_id")
    assert jobs == {id_: run.status.value for id_, run in outside.jobs.items()}
    assert runs == {id_: (run.status.value, run.attempt) for id_, run in outside.runs.items()}
    assert [row[0] for row in open_questions] == sorted(outside.questions)
    assert dict(events) == {root: len(facts) for root, facts in outside.facts.items()}
