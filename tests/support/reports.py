"""A `task_reports` topic in memory whose answers a test can hold back, fail and count, with a clock to go by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kernel.domain.decider import Event
from kernel.domain.ids import Incarnation, OrganizationId, SubjectId, TaskId, WorkflowRunId
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.task import Journal, TaskAssigned, TaskLeaseLapsed, TaskRequested, TaskSettled, TaskStarted
from kernel.domain.values import Pool, SealedBody, Token
from kernel.errors import LogUnavailable
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.port import Position, Record, Stored
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


class ReportsLog:
    """An `EventLog` with the one topic. `hold` stops every question about the end until `release`."""

    def __init__(self, clock: TestClock, partitions: int = 4) -> None:
        self.clock = clock
        self.stored: list[list[Stored]] = [[] for _ in range(partitions)]
        self.starts = [0] * partitions
        self.marks = 0
        """Behind the last record of each partition stands so much that no reader sees."""
        self.asked_ends: list[int] = []
        self.read_records = 0
        self.is_down = False
        self.is_cut_off = False
        """It answers, but nobody can say whether with the end of today."""
        self._free = asyncio.Event()
        self._free.set()
        self._grown = asyncio.Event()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def put(self, event: Event, root_run_id: str = ROOT) -> int:
        """Append one event about `root_run_id` now; its offset."""
        partition = partition_of(root_run_id, len(self.stored))
        record = encode(
            event,
            topic=Topic.TASK_REPORTS,
            key=root_run_id,
            envelope=Envelope(id=f"e{self.clock.ms}", time_ms=self.clock.now_ms()),
            partition=partition,
        )
        offset = len(self.stored[partition])
        self.stored[partition].append(Stored(record, offset, self.clock.now_ms()))
        self._grown.set()
        self._grown = asyncio.Event()
        return offset

    def partitions(self, topic: str) -> int:
        assert topic == Topic.TASK_REPORTS
        return len(self.stored)

    async def append(self, records: Sequence[Record]) -> list[Position]:
        raise NotImplementedError

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        self._check()
        offset = max(offset, self.starts[partition])
        if wait_seconds and offset >= len(self.stored[partition]):
            await self._grown.wait()
        found = self.stored[partition][offset : offset + min(max_records, 3)]
        self.read_records += len(found)
        return found

    async def end_offset(self, topic: str, partition: int) -> int:
        self.asked_ends.append(partition)
        end = len(self.stored[partition]) + self.marks
        await self._free.wait()
        await asyncio.sleep(0)
        self._check()
        return end

    async def confirmed_end(self, topic: str, partition: int) -> int:
        end = await self.end_offset(topic, partition)
        if self.is_cut_off:
            raise LogUnavailable("not known whether it leads")
        return end

    async def start_offset(self, topic: str, partition: int) -> int:
        self._check()
        return self.starts[partition]

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        self._check()
        end = len(self.stored[partition])
        return max(offset, self.starts[partition], end + self.marks if offset >= end else 0)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self.starts[partition] = offset

    async def topic_id(self, topic: str) -> str:
        return "reports"

    async def close(self) -> None:
        self.release()

    def _check(self) -> None:
        if self.is_down:
            raise LogUnavailable("down")


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
