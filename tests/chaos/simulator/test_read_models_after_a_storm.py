"""Read models equal the fold: after a simulated storm, rows are what an outside reader folds from the public topics.

The simulator leaves a log with doubled, late and interleaved derived records. What stands in its public topics is
written to the log of each form as it is, and projected there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api_gateway.migrations import migrations
from api_gateway.projecting import PUBLIC_TOPICS, Projector
from api_gateway.waiting import Waiters
from kernel.clock import SystemClock
from kernel.log.port import EventLog
from kernel.sql.port import migrate
from tests.support.grounds import FORMS, ground_in
from tests.support.simulator.simulation import Scenario, simulate


async def copy(simulated: EventLog, log: EventLog) -> None:
    """The same records, in the same partitions and order."""
    for topic in PUBLIC_TOPICS:
        for partition in range(simulated.partitions(topic)):
            stored = await simulated.read(topic, partition, 0, max_records=100_000)
            for begin in range(0, len(stored), 100):
                await log.append([one.record for one in stored[begin : begin + 100]])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(6))
async def test_rows_are_what_an_outsider_folds(seed: int, form: str, tmp_path: Path) -> None:
    simulation = await simulate(seed, Scenario(faults=30))
    outside, clock, (database, log_kind) = simulation.outside, SystemClock(), FORMS[form]
    partitions = {topic.value: simulation.log.partitions(topic) for topic in PUBLIC_TOPICS}
    ground = ground_in(tmp_path, clock, database=database, log=log_kind, partitions=partitions)
    async with ground as (db, log):
        await migrate(db, migrations(db.dialect))
        await copy(simulation.log, log)
        assert await Projector(log, db, Waiters(), clock).catch_up() > 0
        jobs: dict[Any, Any] = dict(await db.fetch_all("SELECT id, status FROM job_runs"))
        runs = {row[0]: row[1:] for row in await db.fetch_all("SELECT id, status, attempt FROM workflow_runs")}
        open_questions = await db.fetch_all("SELECT id FROM input_requests WHERE status = 'open'")
        events = await db.fetch_all("SELECT root_run_id, COUNT(*) FROM run_events GROUP BY root_run_id")
    assert jobs == {id_: run.status.value for id_, run in outside.jobs.items()}
    assert runs == {id_: (run.status.value, run.attempt) for id_, run in outside.runs.items()}
    assert [row[0] for row in open_questions] == sorted(outside.questions)
    assert dict(events) == {root: len(facts) for root, facts in outside.facts.items()}
