"""A million finished runs in little time: synthetic facts through the real projections, into a folder's own tables.

Each run has the facts of its beginning and its end and none of its steps; what lists and reads touch is what a real run
leaves there. Nothing is appended to the log, so this is for measuring reads, not for a rebuild.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 (seeded: the same rows in every measurement)
from typing import Any
from uuid import UUID

from api_gateway.projections.change import Fact
from api_gateway.row_writing import statements_of
from kernel.domain.ids import (
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
from kernel.log.messages import write_message
from kernel.log.topics import TYPES
from kernel.sql.port import Database

RUNS_PER_TRANSACTION = 10_000
FIRST_MS = 1_700_000_000_000
RUN_MS = 250
"""From one run to the next: a million take three days."""
_PENDING = WorkflowRunStatus.IN_PROGRESS
_ENDS = (WorkflowRunStatus.COMPLETED,) * 92 + (WorkflowRunStatus.FAILED,) * 6 + (WorkflowRunStatus.CANCELLED, _PENDING)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose runs they are, and of which workflows."""

    organization_id: OrganizationId
    workflow_ids: Sequence[str]


async def load_runs(db: Database, owner: Owner, count: int, *, seed: int = 1) -> str:
    """Write the rows of `count` runs, oldest first; the id of one in the middle. Another `seed`, other runs."""
    chance = Random(seed)
    middle = ""
    writing: asyncio.Task[list[int]] | None = None
    for begin in range(0, count, RUNS_PER_TRANSACTION):
        facts: list[Fact] = []
        for number in range(begin, min(begin + RUNS_PER_TRANSACTION, count)):
            facts += _facts(chance, owner, FIRST_MS + number * RUN_MS)
        if begin <= count // 2:
            middle = facts[0].key
        statements = statements_of(facts, db.dialect, loads=db.dialect == "postgres")
        if writing is not None:
            await writing
        writing = asyncio.create_task(db.transaction(statements))
        await asyncio.sleep(0)  # lets the writer begin: it works while the next facts are made
    if writing is not None:
        await writing
    return middle


def _facts(chance: Random, owner: Owner, time_ms: int) -> Iterator[Fact]:
    id_ = str(UUID(int=chance.getrandbits(128), version=4))
    for sequence, event in enumerate(_life(chance, owner, WorkflowRunId(id_)), start=1):
        wire = TYPES[type(event)].wire
        yield Fact(id_, sequence, wire, time_ms + sequence, event, write_message(event))


def _life(chance: Random, owner: Owner, id_: WorkflowRunId) -> Iterator[Any]:
    yield WorkflowRunCreated(
        workflow_run_id=id_,
        job_run_id=JobRunId(""),
        workflow_id=WorkflowId(chance.choice(owner.workflow_ids)),
        revision=1,
        provider=ProviderSlug("bench"),
        organization_id=owner.organization_id,
        subject_id=SubjectId(owner.organization_id),
        external_id=Sealed(),
        test_mode=chance.random() < 0.01,
        created_by=UserId("bench"),
        retry_of="",
        position=0,
        request_id=RequestId(""),
    )
    yield WorkflowRunStarted(id_, 1)
    status = chance.choice(_ENDS)
    if status is WorkflowRunStatus.COMPLETED:
        yield WorkflowRunCompleted(id_, status, SealedBody())
    elif status is not _PENDING:
        yield WorkflowRunFailed(id_, status, Failure("navigation_failed"))
