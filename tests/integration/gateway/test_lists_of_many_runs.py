"""Lists and their totals against the plain answer: every row read, filtered, sorted and counted by hand."""

from __future__ import annotations

import random  # noqa: TID251 (seeded: the same runs in every test)
from typing import Any

from api_gateway import listing
from api_gateway.counting import COUNTED, Counted
from api_gateway.listing import Listed, Where, Window
from api_gateway.projecting import Projector
from api_gateway.waiting import Waiters
from kernel.clock import SystemClock
from kernel.domain.artifact import ArtifactCreated
from kernel.domain.ids import (
    ArtifactId,
    JobRunId,
    OrganizationId,
    ProviderSlug,
    RequestId,
    SubjectId,
    UserId,
    WorkflowId,
    WorkflowRunId,
)
from kernel.domain.values import Failure, Sealed, SealedBody
from kernel.domain.workflow_run import (
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunStarted,
    WorkflowRunStatus,
)
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.sql.port import Database
from tests.integration.gateway.conftest import PARTITIONS

ACME = "acme"
RUNS = 120


def life(chance: random.Random, number: int) -> list[Any]:
    """The facts of one run; a few are still under way."""
    id_ = WorkflowRunId(f"run-{number:04}")
    customer = chance.choice(["", "a", "b"])
    workflow = WorkflowId(chance.choice(["w1", "w2"]))
    organization = OrganizationId(chance.choice([ACME, ACME, "rival"]))
    job_run = JobRunId(chance.choice(["", f"job-run-{number % 7}"]))
    subject, external = SubjectId(f"s{customer}"), Sealed(SubjectId(f"s{customer}"), customer.encode())
    created = WorkflowRunCreated(
        id_, job_run, workflow, 1, ProviderSlug("p"), organization, subject, external,
        chance.random() < 0.2, UserId("u"), "", 0, RequestId(""),
    )  # fmt: skip
    kind = chance.choice(["trace", "screenshot"])
    name = ArtifactId(f"artifact-{number}")
    artifact = ArtifactCreated(
        name, id_, job_run, workflow, organization, subject, "a", kind, Sealed(), "m", 1, "x"
    )  # fmt: skip
    ends: list[Any] = [
        WorkflowRunCompleted(id_, WorkflowRunStatus.COMPLETED, SealedBody()),
        WorkflowRunFailed(id_, WorkflowRunStatus.FAILED, Failure("x")),
        WorkflowRunFailed(id_, WorkflowRunStatus.CANCELLED, Failure("x")),
    ]
    return [created, WorkflowRunStarted(id_, 1), artifact, chance.choice(ends)][: chance.choice([1, 3, 4, 4, 4])]


async def many_runs(db: Database, log: EventLog, seed: int) -> Projector:
    """A table full of runs, several made in the same millisecond, projected in batches of any size."""
    chance = random.Random(seed)
    projector = Projector(log, db, Waiters(), SystemClock())
    for number in range(RUNS):
        for sequence, event in enumerate(life(chance, number), start=1):
            key = event.workflow_run_id
            envelope = Envelope(f"{key}-{sequence}", 1000 + number // 3, sequence=sequence)
            partition = partition_of(key, PARTITIONS[Topic.JOB_RUNS.value])
            await log.append([encode(event, topic=Topic.JOB_RUNS, key=key, partition=partition, envelope=envelope)])
            if chance.random() < 0.1:
                await projector.catch_up()
    await projector.catch_up()
    return projector


async def listed_ids(db: Database, listed: Listed, where: Where, window: Window) -> tuple[list[str], int]:
    where = {"organization_id": ACME, **where}
    counted = await db.fetch_one(*listing.total(listed, where))
    assert counted is not None
    ask = listing.seen_values(listed, where)
    seen = [] if ask is None else [row[0] for row in await db.fetch_all(*ask)]
    if window.offset >= counted[0]:
        return [], counted[0]
    rows = await db.fetch_all(
        *listing.page(listed, "id", where, window, count=counted[0], dialect=db.dialect, seen=seen)
    )
    return [row[0] for row in rows], counted[0]


async def ids_by_hand(db: Database, table: str, where: Where) -> list[str]:
    columns = ["id", "created_ms", "organization_id", *where]
    rows = await db.fetch_all(f"SELECT {', '.join(columns)} FROM {table}")
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    for column, wanted in {"organization_id": ACME, **where}.items():
        choice = wanted if isinstance(wanted, tuple) else (wanted,)
        found = [row for row in found if row[column] in choice]
    return [row["id"] for row in sorted(found, key=lambda row: (row["created_ms"], row["id"]), reverse=True)]


FILTERS: list[tuple[Listed, Where]] = [
    (listing.WORKFLOW_RUNS, {}),
    (listing.WORKFLOW_RUNS, {"status": ("failed", "cancelled")}),
    (listing.WORKFLOW_RUNS, {"workflow_id": "w1", "status": ("completed",), "test_mode": 0}),
    (listing.WORKFLOW_RUNS, {"workflow_id": "w2", "test_mode": 1}),
    (listing.WORKFLOW_RUNS, {"subject_id": "sa", "status": ("completed",)}),
    (listing.WORKFLOW_RUNS, {"job_run_id": "job-run-3", "workflow_id": "w1"}),
    (listing.WORKFLOW_RUNS, {"workflow_id": "unknown"}),
    (listing.ARTIFACTS, {}),
    (listing.ARTIFACTS, {"type": "trace", "workflow_id": "w1"}),
    (listing.ARTIFACTS, {"workflow_id": "w2"}),
    (listing.ARTIFACTS, {"job_run_id": "job-run-1", "type": "screenshot"}),
]


async def test_pages_hold_what_reading_everything_would_and_the_total_is_exact(db: Database, log: EventLog) -> None:
    await many_runs(db, log, 1)
    for listed, where in FILTERS:
        expected = await ids_by_hand(db, listed.table, where)
        for offset in (0, 3, len(expected) // 2, len(expected) * 2 // 3, max(len(expected) - 2, 0), len(expected)):
            ids, total = await listed_ids(db, listed, where, Window(7, offset))
            assert (ids, total) == (expected[offset : offset + 7], len(expected)), (where, offset)


async def cells(db: Database, counted: Counted) -> set[Any]:
    """Of all partitions together, without those that have become zero."""
    keys = ", ".join(counted.keys)
    summed = f"SELECT {keys}, sum(number) AS number FROM {counted.cells} GROUP BY {keys}"
    return set(await db.fetch_all(f"SELECT * FROM ({summed}) AS summed WHERE number <> 0"))


async def counted_anew(db: Database, counted: Counted) -> set[Any]:
    keys = ", ".join(counted.keys)
    return set(await db.fetch_all(f"SELECT {keys}, count(*) FROM {counted.table} GROUP BY {keys}"))


async def test_cells_are_the_numbers_of_their_rows_after_writing_deleting_and_a_rebuild(
    db: Database, log: EventLog
) -> None:
    projector = await many_runs(db, log, 2)
    before = {counted: await cells(db, counted) for counted in COUNTED}
    assert before == {counted: await counted_anew(db, counted) for counted in COUNTED}
    await db.execute("DELETE FROM workflow_runs WHERE status = 'failed'")
    assert {counted: await cells(db, counted) for counted in COUNTED} == {
        counted: await counted_anew(db, counted) for counted in COUNTED
    }
    await projector.rebuild()
    assert {counted: await cells(db, counted) for counted in COUNTED} == before
