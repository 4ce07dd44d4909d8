"""A scheduler that does what the test says: run requests become their first facts, the test tells the rest.

It keeps one sequence per root run and rejects what the real one rejects, but runs nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from kernel.clock import Clock
from kernel.domain.ids import RootRunId, WorkflowRunId
from kernel.domain.input_request import InputAnswerSubmitted, InputRequestAnswered
from kernel.domain.job_run import (
    JobRunCancelled,
    JobRunCreated,
    JobRunRequested,
    JobRunStarted,
    RunCancelAccepted,
    RunCancelRequested,
    RunRequestRejected,
)  # fmt: skip
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.values import Failure
from kernel.domain.workflow_run import (
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequested,
    WorkflowRunStarted,
    WorkflowRunStatus,
)
from kernel.ids import derived_id
from kernel.log.codec import decode, encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog, Record
from kernel.log.topics import Topic, partition_of

Start = JobRunRequested | WorkflowRunRequested


class ScriptedScheduler:
    """One writer of `job_runs`. `started` holds every start request by its root run, `answers` every answer."""

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self.started: dict[str, Start] = {}
        self.answers: list[InputAnswerSubmitted] = []
        self.ended: dict[str, WorkflowRunStatus] = {}
        self.answered: set[str] = set()
        self.is_silent = False
        """Takes requests and decides nothing."""
        self._log = log
        self._clock = clock
        self._sequences: defaultdict[str, int] = defaultdict(int)

    async def run(self) -> None:
        """Follow all partitions until cancelled."""
        async with asyncio.TaskGroup() as group:
            for partition in range(self._log.partitions(Topic.RUN_REQUESTS)):
                group.create_task(self._follow(partition))

    async def say(self, root: str, *events: Any, numbered: bool = True) -> None:
        """Append facts of a root run, in one batch."""
        partition = partition_of(root, self._log.partitions(Topic.JOB_RUNS))
        records = []
        for event in events:
            self._sequences[root] += numbered
            sequence = self._sequences[root] if numbered else 0
            envelope = Envelope(
                derived_id(root, str(sequence), type(event).__name__), self._clock.now_ms(), sequence=sequence,
                correlation_id=getattr(event, "request_id", ""),
            )  # fmt: skip
            records.append(encode(event, topic=Topic.JOB_RUNS, key=root, envelope=envelope, partition=partition))
        await self._log.append(records)

    async def say_what_nobody_knows(self, root: str, count: int) -> None:
        """Append so many facts of a root run of a type that is not invented yet."""
        partition = partition_of(root, self._log.partitions(Topic.JOB_RUNS))
        records = []
        for _ in range(count):
            self._sequences[root] += 1
            sequence = self._sequences[root]
            envelope = Envelope(derived_id(root, str(sequence)), self._clock.now_ms(), sequence=sequence)
            event = WorkflowRunStarted(WorkflowRunId(root), 1)
            known = encode(event, topic=Topic.JOB_RUNS, key=root, envelope=envelope, partition=partition)
            told = {**dict(known.headers), "ce_type": "towpath.workflow_run.dreamt.v1"}
            records.append(Record(known.topic, partition, root, tuple(told.items()), b""))
        await self._log.append(records)

    async def _follow(self, partition: int) -> None:
        offset = 0
        while True:
            for stored in await self._log.read(Topic.RUN_REQUESTS, partition, offset, wait_seconds=60.0):
                offset = stored.offset + 1
                message = decode(stored)
                if not self.is_silent:
                    await self._decide(message.key, message.event)

    async def _decide(self, root: str, request: Any) -> None:
        match request:
            case JobRunRequested() | WorkflowRunRequested():
                if root not in self.started:
                    self.started[root] = request
                    await self._start(root, request)
            case RunCancelRequested():
                await self._cancel(root, request)
            case InputAnswerSubmitted():
                if request.input_request_id in self.answered:
                    await self._reject(root, request, "input_already_answered")
                    return
                self.answered.add(request.input_request_id)
                self.answers.append(request)
                fact = InputRequestAnswered(request.input_request_id, request.answered_by, request.request_id)
                await self.say(root, fact)
            case _:
                raise AssertionError(request)

    async def _start(self, root: str, request: Start) -> None:
        if isinstance(request, WorkflowRunRequested):
            await self.say(root, created(request, request.workflow, ""))
            return
        order = tuple(workflow.workflow_id for workflow in request.plan)
        revisions = tuple(workflow.revision for workflow in request.plan)
        fact = JobRunCreated(
            request.job_run_id, request.job_id, request.organization_id, request.subject_id, request.external_id, order,
            revisions, request.test_mode, request.created_by, request.retry_of, request.request_id,
            request.first_position, tuple(workflow.inputs for workflow in request.plan),
        )  # fmt: skip
        first = created(request, request.plan[request.first_position], root, request.first_position)
        await self.say(root, fact, JobRunStarted(request.job_run_id), first)

    async def _cancel(self, root: str, request: RunCancelRequested) -> None:
        ended = self.ended.get(root)
        if ended is WorkflowRunStatus.CANCELLED:
            await self._reject(root, request, "already_cancelled")
        elif ended is not None:
            await self._reject(root, request, "run_already_ended")
        else:
            self.ended[root] = WorkflowRunStatus.CANCELLED
            start = self.started[root]
            plan = start.workflow if isinstance(start, WorkflowRunRequested) else start.plan[0]
            failure = Failure(code="cancelled")
            events: list[Any] = [
                RunCancelAccepted(request.request_id, root),
                WorkflowRunFailed(plan.workflow_run_id, WorkflowRunStatus.CANCELLED, failure),
            ]
            if isinstance(start, JobRunRequested):
                events.append(JobRunCancelled(start.job_run_id))
            await self.say(root, *events)

    async def _reject(self, root: str, request: Any, code: str) -> None:
        rejected = RunRequestRejected(request.request_id, RootRunId(root), code, code)
        await self.say(root, rejected, numbered=False)


def created(start: Start, plan: PlannedWorkflow, job_run_id: str, position: int = 0) -> WorkflowRunCreated:
    """The first fact of a planned workflow run."""
    return WorkflowRunCreated(
        plan.workflow_run_id, job_run_id, plan.workflow_id, plan.revision, plan.provider, start.organization_id,  # type: ignore[arg-type]  # the id is text
        start.subject_id, start.external_id, start.test_mode, start.created_by, plan.retry_of, position,
        start.request_id, plan.inputs, plan.connection_id, plan.pool, plan.options.stop_after_step,
        plan.options.keep_open_seconds, plan.options.trace,
    )  # fmt: skip
