"""Dispatch and runner in one hand: what `advance` asks for is taken, and the test says what became of it."""

from __future__ import annotations

import asyncio
from typing import Any

from kernel.clock import Clock
from kernel.domain.task import TaskRequested
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.log.codec import decode, encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.runs import Attempt, assigned


class HandRunner:
    """Takes tasks from the `dispatch` topic; beside it, only `advance` runs."""

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._taken: set[str] = set()
        self._said = 0

    async def takes(self, workflow_run_id: str) -> Attempt:
        """The next task of this workflow run, assigned and started."""
        attempt = Attempt(await self.sees(workflow_run_id))
        self._taken.add(attempt.task.task_id)
        await self.says(attempt, assigned(attempt.task, now_ms=self._clock.now_ms()), attempt.started())
        return attempt

    async def sees(self, workflow_run_id: str) -> TaskRequested:
        """The next task of this workflow run that was not taken yet; waits for it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for partition in range(self._log.partitions(Topic.DISPATCH)):
                    for stored in await self._log.read(Topic.DISPATCH, partition, 0):
                        event = decode(stored).event
                        is_task = isinstance(event, TaskRequested) and event.task_id not in self._taken
                        if is_task and event.workflow_run_id == workflow_run_id:
                            task: TaskRequested = event
                            return task
                await asyncio.sleep(0.002)

    async def ends(self, workflow_run_id: str, status: WorkflowRunStatus, code: str = "") -> None:
        """The workflow run is taken and ends with its first attempt."""
        attempt = await self.takes(workflow_run_id)
        await self.says(attempt, attempt.ended(status, code))

    async def says(self, attempt: Attempt, *reports: Any) -> None:
        """Append reports of this attempt."""
        root = attempt.task.root_run_id
        partition = partition_of(root, self._log.partitions(Topic.TASK_REPORTS))
        records = []
        for report in reports:
            self._said += 1
            envelope = Envelope(f"{root}/{self._said}", self._clock.now_ms(), correlation_id=root)
            records.append(encode(report, topic=Topic.TASK_REPORTS, key=root, envelope=envelope, partition=partition))
        await self._log.append(records)
