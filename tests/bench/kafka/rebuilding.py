"""How fast read models are made anew: from public facts at a broker into tables of PostgreSQL, swapped in at the end.

The facts are those of finished runs of three steps, in all partitions, as `advance` derives them; the served tables are
empty before. What is timed is `python -m api_gateway rebuild` from its first line to its last one: reading,
projecting, indexes, swap.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from api_gateway.migrations import migrations
from cluster.components.postgres import LocalPostgres
from cluster.layout import PARTITIONS
from kernel.domain.ids import OrganizationId, ProviderSlug, RequestId, SubjectId, UserId, WorkflowId, WorkflowRunId
from kernel.domain.values import Effect, Failure, Sealed, SealedBody
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)
from kernel.ids import SystemEntropy, derived_id
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.port import Record
from kernel.log.topics import Topic, partition_of
from kernel.sql.port import migrate
from kernel.sql.postgres import PostgresDatabase
from tests.bench.figures import Figure, figure, tell
from tests.bench.kafka.broker import Grounds, running_broker
from tests.bench.kafka.raw import raw_kafka
from tests.bench.processes import cpu_ms
from tests.bench.runs import Effort

FACTS = 240_000
_STEPS = 3
_FACTS_A_RUN = _STEPS + 3
_RUNS_PER_APPEND = 100
_WORKFLOWS = 20
_LINES = 4
"""Projecting, making indexes, served, projected."""
_FIRST_MS = 1_700_000_000_000


async def kafka_rebuild(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Facts a second, and the CPU of the process, of the broker and of PostgreSQL for a thousand of them."""
    runs = effort.many(FACTS) // _FACTS_A_RUN
    facts = runs * _FACTS_A_RUN
    async with running_broker(folder) as broker, broker.grounds("rebuild") as grounds, _tables(folder) as (server, db):
        tell(f"{facts} facts are appended")
        await _append(grounds, runs)
        async with raw_kafka(broker.bootstrap, 1) as raw:
            await raw.produced(facts)
            consumed = await raw.consumed(facts)
        seconds, spent = await _rebuilt(grounds, server, facts)
        found = await db.fetch_one("SELECT (SELECT count(*) FROM run_events), (SELECT count(*) FROM workflow_runs)")
    if found != (facts, runs):
        raise RuntimeError(f"{facts} facts of {runs} runs became {found}")
    detail = {f"{name}_cpu_ms_per_1000": cpu / facts * 1000 for name, cpu in spent.items()}
    baseline = ("bare aiokafka, records consumed", consumed.per_s)
    yield figure("kafka_rebuild_facts_per_s", facts / seconds, "facts/s", baseline, facts, **detail)


async def _rebuilt(grounds: Grounds, server: LocalPostgres, facts: int) -> tuple[float, dict[str, float]]:
    """Let the command run; seconds and CPU (ms) of who takes part, between its first line and its last but one."""
    told = {
        "TOWPATH_KAFKA": grounds.settings.bootstrap,
        "TOWPATH_TOPIC_PREFIX": grounds.settings.prefix,
        "TOWPATH_POSTGRES_URL": server.url,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")} | told
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api_gateway", "rebuild"), stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    parts = {"rebuild": process.pid, "broker": grounds.broker_pid, "postgres": server.pid or 0}
    lines: list[tuple[float, dict[str, float]]] = []
    async for line in process.stdout:
        lines.append((perf_counter(), {name: cpu_ms(pid) for name, pid in parts.items()}))
        tell(line.decode().strip())
    if await process.wait() or len(lines) < _LINES:
        raise RuntimeError(f"the rebuild of {facts} facts ended with {process.returncode}")
    (began, before), (ended, after) = lines[0], lines[-2]
    return ended - began, {name: after[name] - before[name] for name in parts}


@asynccontextmanager
async def _tables(folder: Path) -> AsyncIterator[tuple[LocalPostgres, PostgresDatabase]]:
    """A server of its own, which waits for its disk, with empty tables."""
    server = LocalPostgres(folder / "postgres")
    await asyncio.to_thread(server.start)
    try:
        db = await PostgresDatabase.open(server.url)
        try:
            await migrate(db, migrations(db.dialect))
            yield server, db
        finally:
            await db.close()
    finally:
        await asyncio.to_thread(server.stop)


async def _append(grounds: Grounds, runs: int) -> None:
    entropy = SystemEntropy()
    for begin in range(0, runs, _RUNS_PER_APPEND):
        numbers = range(begin, min(begin + _RUNS_PER_APPEND, runs))
        await grounds.log.append([record for number in numbers for record in _records(entropy.uuid(), number)])


def _records(run: str, number: int) -> Iterator[Record]:
    partition, time_ms = partition_of(run, PARTITIONS), _FIRST_MS + number * 250
    for sequence, event in enumerate(_life(WorkflowRunId(run), number), start=1):
        envelope = Envelope(f"{run}-{sequence}", time_ms + sequence, sequence=sequence)
        yield codec.encode(event, topic=Topic.JOB_RUNS, key=run, envelope=envelope, partition=partition)


def _life(id_: WorkflowRunId, number: int) -> Iterator[Any]:
    organization = OrganizationId(f"00000000-0000-4000-8000-{number % 10:012}")
    yield WorkflowRunCreated(
        workflow_run_id=id_,
        job_run_id="",  # type: ignore[arg-type]  # a run that stands alone
        workflow_id=WorkflowId(f"00000000-0000-4000-9000-{number % _WORKFLOWS:012}"),
        revision=1,
        provider=ProviderSlug("bench"),
        organization_id=organization,
        subject_id=SubjectId(organization),
        external_id=Sealed(),
        test_mode=False,
        created_by=UserId("bench"),
        retry_of="",
        position=0,
        request_id=RequestId(derived_id("request", id_)),
    )
    yield WorkflowRunStarted(id_, 1)
    for step in range(_STEPS):
        yield WorkflowRunStepFinished(
            id_, 1, f"step_{step}", f"step_{step}", "wait", "assert", Effect.READ, StepStatus.COMPLETED, 1, 5, 9,
            SealedBody(), Failure(), "", "",
        )  # fmt: skip
    yield WorkflowRunCompleted(id_, WorkflowRunStatus.COMPLETED, SealedBody())
