from __future__ import annotations

import asyncio
from typing import Any

from api_gateway.measuring import FactMeter
from api_gateway.projecting import Projector
from api_gateway.projections.change import Fact
from api_gateway.waiting import Projected, Waiters
from kernel.clock import SystemClock
from kernel.domain.connection import ConnectionHealth, ConnectionLoginRecorded, LoginOutcome
from kernel.domain.ids import ConnectionId
from kernel.log.port import EventLog
from kernel.log.topics import Topic
from kernel.metrics import Metrics
from kernel.sql.port import Database
from tests.integration.gateway.test_projecting import life, say
from tests.support.eventually import until


class At(SystemClock):
    """A clock that stands at `ms`."""

    ms = 10_000

    def now_ms(self) -> int:
        return self.ms


def facts_of(run: str) -> list[Fact]:
    """A life in which each fact comes a second after the one before."""
    return [
        Fact(run, number, type(event).__name__, number * 1000, event, b"")
        for number, event in enumerate(life(run), start=1)
    ]


def batch(*facts: Fact, topic: Topic = Topic.JOB_RUNS) -> Projected:
    return Projected(topic, 0, 0, len(facts), facts)


def sample(measures: Metrics, name: str, **labels: str) -> Any:
    return measures.registry.get_sample_value(name, labels)


async def test_waits_and_durations_are_those_between_facts(db: Database) -> None:
    measures = Metrics()
    meter = FactMeter(measures, db, At())
    meter.projected(batch(*facts_of("r1")))
    assert sample(measures, "run_queue_wait_seconds_sum") == 1.0
    assert sample(measures, "run_duration_seconds_sum", outcome="completed") == 3.0
    assert sample(measures, "step_duration_seconds_sum", kind="finish", outcome="completed") == 0.004
    assert sample(measures, "event_to_projection_seconds_sum", projection="job_runs") == 9.0
    assert not meter._begun


async def test_what_began_elsewhere_is_measured_by_its_row(db: Database, log: EventLog) -> None:
    await say(log, "r1", life("r1")[:1])
    await Projector(log, db, Waiters(), SystemClock()).catch_up()
    measures = Metrics()
    meter = FactMeter(measures, db, At())
    meter.projected(batch(*facts_of("r1")[1:]))
    assert sample(measures, "run_queue_wait_seconds_count") == 0
    await meter.look()
    assert sample(measures, "run_queue_wait_seconds_sum") == 0.999
    assert sample(measures, "run_duration_seconds_sum", outcome="completed") == 2.999
    await meter.look()
    assert sample(measures, "run_queue_wait_seconds_count") == 1


async def test_a_rebuild_is_not_measured_as_if_it_happened_now(db: Database) -> None:
    measures, clock = Metrics(), At()
    clock.ms = 100 * 60 * 60 * 1000
    FactMeter(measures, db, clock).projected(batch(*facts_of("r1")))
    assert sample(measures, "run_queue_wait_seconds_count") == 0
    assert sample(measures, "event_to_projection_seconds_count", projection="job_runs") == 1


async def test_the_provider_of_a_login_is_found_by_its_connection(db: Database) -> None:
    await db.execute(
        "INSERT INTO connections (id, organization_id, subject_id, external_id, provider, health, created_ms)"
        " VALUES ('c', 'acme', 's', ?, 'gusto', 'healthy', 1)",
        (b"",),
    )
    recorded = ConnectionLoginRecorded(ConnectionId("c"), LoginOutcome.SUCCEEDED, ConnectionHealth.HEALTHY, 0, 1)
    measures = Metrics()
    meter = FactMeter(measures, db, At())
    meter.projected(batch(Fact("c", 1, "", 9000, recorded, b""), topic=Topic.DEFINITIONS))
    await meter.look()
    assert sample(measures, "login_outcome_total", provider="gusto", outcome="succeeded") == 1


async def test_runs_are_counted_by_state_over_the_whole_database(db: Database, log: EventLog) -> None:
    for number in range(4):
        await say(log, f"r{number}", life(f"r{number}")[: number + 1])
    await Projector(log, db, Waiters(), SystemClock()).catch_up()
    measures = Metrics()
    await FactMeter(measures, db, At()).count_runs()
    assert sample(measures, "runs_in_state", state="pending") == 1
    assert sample(measures, "runs_in_state", state="in_progress") == 2
    assert sample(measures, "runs_in_state", state="completed") is None


async def test_each_batch_is_measured_by_the_projector_that_commits_it(db: Database, log: EventLog) -> None:
    told: list[Projected] = []
    lines = [Projector(log, db, Waiters(), SystemClock(), measured=told.append) for _ in range(2)]
    tasks = [asyncio.create_task(line.run()) for line in lines]
    for run in ("r1", "r2", "r3"):
        await say(log, run, life(run))
    await until(lambda: sum(len(one.facts) for one in told) == 12)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert {one.next_offset for line in lines for one in line.standing() if one.topic == Topic.DEFINITIONS} == {0}
