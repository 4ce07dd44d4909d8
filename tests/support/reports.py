"""What stands in `task_reports` about one run, for those who ask the fence, and a clock to go by."""

from __future__ import annotations

import asyncio

from kernel.clock import Clock
from kernel.domain.decider import Event
from kernel.domain.ids import Incarnation, OrganizationId, SubjectId, TaskId, WorkflowRunId
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.task import Journal, TaskAssigned, TaskLeaseLapsed, TaskRequested, TaskSettled, TaskStarted
from kernel.domain.values import Pool, SealedBody, Token
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.port import Record
from kernel.log.topics import Topic, partition_of

ROOT = "root-1"
RUN = "run-1"
FIRST = Token(1, "a" * 32)
SECOND = Token(2, "b" * 32)

_NO_WORK = TaskRequested(
    task_id=TaskId(""),
    root_run_id="",
    workflow_run_id=WorkflowRunId(""),
    organization_id=OrganizationId(""),
    subject_id=SubjectId(""),
    token=Token(),
    pool=Pool.BROWSER,
    priority=0,
    workflow=PlannedWorkflow(),
    journal=Journal(SealedBody(), (), ()),
    answers=(),
    deadline_ms=0,
    requested_ms=0,
)


class TestClock:
    """Stands still until told; `sleep` moves it."""

    __test__ = False

    def __init__(self) -> None:
        self.ms = 1_000_000.0

    def now_ms(self) -> int:
        return int(self.ms)

    def boot_ms(self) -> float:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += seconds * 1000
        await asyncio.sleep(0)


def record(event: Event, root_run_id: str, clock: Clock, *, partitions: int) -> Record:
    """One event about `root_run_id` as it is appended now, to a topic of so many partitions."""
    return encode(
        event,
        topic=Topic.TASK_REPORTS,
        key=root_run_id,
        envelope=Envelope(id=f"e{clock.boot_ms()}", time_ms=clock.now_ms()),
        partition=partition_of(root_run_id, partitions),
    )


def assigned(token: Token, *, run: str = RUN, root: str = ROOT) -> TaskAssigned:
    return TaskAssigned(
        task_id=TaskId(f"task-{token.attempt}"),
        root_run_id=root,
        workflow_run_id=WorkflowRunId(run),
        token=token,
        incarnation=Incarnation("runner-1"),
        inbox_partition=0,
        lease_until_ms=0,
        request=_NO_WORK,
    )


def lapsed(token: Token, *, run: str = RUN, root: str = ROOT) -> TaskLeaseLapsed:
    return TaskLeaseLapsed(TaskId(f"task-{token.attempt}"), root, WorkflowRunId(run), token, "expired")


def settled(token: Token, *, root: str = ROOT) -> TaskSettled:
    return TaskSettled(TaskId(f"task-{token.attempt}"), root, token, Pool.BROWSER)


def started(token: Token, *, run: str = RUN, root: str = ROOT) -> TaskStarted:
    return TaskStarted(
        TaskId(f"task-{token.attempt}"), root, WorkflowRunId(run), token, 1, Incarnation("runner-1"), 0, "open"
    )
