"""A model of a runner: takes what `dispatch` gives it and ends it when told, without doing any of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kernel.clock import Clock, SystemClock
from kernel.domain.ids import Incarnation
from kernel.domain.task import HeldTask, RunnerHeartbeat, TaskAssigned, TaskEnded, TaskStarted
from kernel.domain.values import Failure, Pool, SealedBody, pool_key
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.ids import SystemEntropy
from kernel.log import codec
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from tests.bench.asking import Asking

_BEAT_SECONDS = 1.0


class ModelRunner:
    """Of the light pool, with so many `slots`, on a log whose topics have so many `partitions`."""

    def __init__(self, log: EventLog, asking: Asking, partitions: int, slots: int) -> None:
        self._log = log
        self._asking = asking
        self._slots = slots
        self._clock: Clock = SystemClock()
        self._incarnation = Incarnation(SystemEntropy().uuid())
        self._held: deque[TaskAssigned] = deque()
        self._inbox = partition_of(self._incarnation, partitions)
        self._offset = 0

    @property
    def holds(self) -> int:
        """How many tasks it holds."""
        return len(self._held)

    async def beat_for_ever(self) -> None:
        """Say once a second that it is there, and what it holds."""
        self._offset = await self._log.end_offset(Topic.RUNNER_INBOX, self._inbox)
        while True:
            held = tuple(HeldTask(task.task_id, task.request.token, waiting=False) for task in self._held)
            now_ms = self._clock.now_ms()
            beat = RunnerHeartbeat(
                self._incarnation, "bench", Pool.LIGHT, self._inbox, self._slots, False, held, now_ms
            )  # fmt: skip
            await self._log.append([self._asking.record(beat, Topic.DISPATCH, pool_key(Pool.LIGHT))])
            await asyncio.sleep(_BEAT_SECONDS)

    async def take(self, most: int = 1) -> int:
        """Wait for assignments and hold them, `most` of them at the most; how many those were."""
        taken = 0
        while not taken:
            batch = await self._log.read(
                Topic.RUNNER_INBOX, self._inbox, self._offset, max_records=most, wait_seconds=10.0
            )
            for stored in batch:
                self._offset = stored.offset + 1
                event = codec.decode(stored).event
                if isinstance(event, TaskAssigned) and event.incarnation == self._incarnation:
                    self._held.append(event)
                    taken += 1
        return taken

    async def end(self, count: int = 1) -> None:
        """Report the beginning and the end of the tasks that are held longest."""
        reports = [report for _ in range(count) for report in self._ended(self._held.popleft())]
        await self._log.append(
            [self._asking.record(report, Topic.TASK_REPORTS, report.root_run_id) for report in reports]
        )

    def _ended(self, task: TaskAssigned) -> tuple[TaskStarted, TaskEnded]:
        whose = (task.task_id, task.root_run_id, task.workflow_run_id, task.request.token)
        return (
            TaskStarted(*whose, 1, self._incarnation, self._inbox, "first"),
            TaskEnded(*whose, 2, WorkflowRunStatus.COMPLETED, SealedBody(), Failure(), ()),
        )


@asynccontextmanager
async def model_runner(log: EventLog, asking: Asking, partitions: int, slots: int) -> AsyncIterator[ModelRunner]:
    """One that beats while the block lasts."""
    runner = ModelRunner(log, asking, partitions, slots)
    beating = asyncio.create_task(runner.beat_for_ever())
    try:
        yield runner
    finally:
        beating.cancel()
