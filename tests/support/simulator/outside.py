"""An outside reader: it follows the public topics as any subscriber would, and compares with the ledgers.

It dedupes by sequence, insists on no gaps, folds the domain's aggregates, and never looks at a decider's state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from kernel.domain import input_request, job_run, workflow_run
from kernel.domain.artifact import ArtifactCreated
from kernel.domain.owner import OwnerClaimed
from kernel.domain.task import (
    RunnerSeen,
    StepAccepted,
    TaskAssigned,
    TaskDropped,
    TaskLeaseLapsed,
    TaskRequested,
    TaskSettled,
)
from kernel.log import codec
from kernel.log.envelope import Message
from kernel.log.memory import MemoryLog
from kernel.log.topics import Topic
from tests.support.simulator.world import Violation, World

JOB_ENDS = (job_run.JobRunCompleted, job_run.JobRunFailed, job_run.JobRunCancelled)
JOB_FACTS = (job_run.JobRunCreated, job_run.JobRunStarted, *JOB_ENDS)
RUN_ENDS = (workflow_run.WorkflowRunCompleted, workflow_run.WorkflowRunFailed)


class Outside:
    """Follows everything; `look` raises `Violation`."""

    def __init__(self, log: MemoryLog, world: World) -> None:
        self.log, self.world = log, world
        self._offsets: dict[tuple[str, int], int] = defaultdict(int)
        self.facts: dict[str, list[Any]] = defaultdict(list)
        """Root run to its public facts, in order, each once."""
        self.rejections: list[Any] = []
        self.questions: dict[str, tuple[str, Any]] = {}
        """Open input requests: id to (root run, fact)."""
        self.runs: dict[str, workflow_run.WorkflowRun] = {}
        self.jobs: dict[str, job_run.JobRun] = {}
        self.claims: dict[tuple[str, int], str] = {}
        self.leases: dict[str, str] = {}
        self.working: dict[str, tuple[str, str, str]] = {}
        """Assigned task to pool, organization and provider."""
        self.waiting: set[str] = set()
        """Tasks that hold a page for a person."""
        self.closed_at: dict[str, int] = {}
        """Token to the offset of its first lapse or settling in `task_reports`."""
        self.first_report: dict[tuple[str, int], int] = {}
        self.effective: dict[str, list[Any]] = defaultdict(list)

    async def look(self) -> None:
        """Read what is new and check it."""
        for topic, read in (
            (Topic.TASK_REPORTS, self._report),
            (Topic.RUN_LEDGER, self._run_decision),
            (Topic.DISPATCH_LEDGER, self._dispatch_decision),
            (Topic.JOB_RUNS, self._fact),
        ):
            for partition in range(self.log.partitions(topic)):
                async for message in self._new(topic, partition):
                    read(message)

    async def _new(self, topic: Topic, partition: int) -> Any:
        while batch := await self.log.read(topic, partition, self._offsets[topic, partition]):
            for stored in batch:
                self._offsets[topic, partition] = stored.offset + 1
                yield codec.decode(stored)

    # ------------------------------------------------------------ public facts

    def _fact(self, message: Message) -> None:
        event, sequence, known = message.event, message.envelope.sequence, self.facts[message.key]
        if sequence == 0:
            self.rejections.append(event)
            return
        if sequence <= len(known):
            if known[sequence - 1] != event:
                raise Violation(f"{message.key} {sequence} was {known[sequence - 1]}, now {event}")
            return
        if sequence != len(known) + 1:
            raise Violation(f"GAP in {message.key}: {sequence} after {len(known)}")
        if known and isinstance(known[-1], JOB_ENDS):
            raise Violation(f"{message.key}: {event} after its end")
        known.append(event)
        self._fold(message.key, event)

    def _fold(self, root: str, event: Any) -> None:
        if isinstance(event, JOB_FACTS):
            before = self.jobs.get(root, job_run.JobRun())
            self.jobs[root] = after = job_run.evolve(before, event)
            self._moves(before.status, after.status, job_run.TRANSITIONS, event)
        elif isinstance(event, input_request.InputRequestOpened):
            self._opened(root, event)
        elif isinstance(
            event,
            input_request.InputRequestAnswered
            | input_request.InputRequestExpired
            | input_request.InputRequestCancelled,
        ):
            self.questions.pop(event.input_request_id, None)
        elif isinstance(event, ArtifactCreated):
            if event.artifact_id not in {a for accepted in self.effective[root] for a in _artifacts(accepted)}:
                raise Violation(f"{event.artifact_id} of an attempt that was not accepted")
        elif hasattr(event, "workflow_run_id"):
            self._fold_workflow_run(root, event)

    def _opened(self, root: str, event: Any) -> None:
        """A question counts the answers that were rejected, and nothing else."""
        refused = [
            fact
            for fact in self.facts[root]
            if isinstance(fact, workflow_run.WorkflowRunStepFinished)
            and fact.workflow_run_id == event.workflow_run_id
            and fact.status is workflow_run.StepStatus.FAILED
        ]
        if event.attempt != len(refused) + 1:
            raise Violation(f"question {event.attempt} of {event.workflow_run_id} after {len(refused)} rejections")
        self.questions[event.input_request_id] = (root, event)

    def _fold_workflow_run(self, root: str, event: Any) -> None:
        id_ = event.workflow_run_id
        if isinstance(event, workflow_run.WorkflowRunCreated) and event.position > 0:
            earlier = [e for e in self.facts[root] if isinstance(e, workflow_run.WorkflowRunCompleted)]
            if len(earlier) != event.position - self._first_position(root):
                raise Violation(f"{id_} was created before the workflow before it ended well")
        before = self.runs.get(id_, workflow_run.WorkflowRun())
        self.runs[id_] = after = workflow_run.evolve(before, event)
        self._moves(before.status, after.status, workflow_run.TRANSITIONS, event)
        if isinstance(event, RUN_ENDS):
            self.world.site.ended[id_] = after.status

    def _first_position(self, root: str) -> int:
        created = [fact for fact in self.facts[root] if isinstance(fact, job_run.JobRunCreated)]
        return created[0].first_position if created else 0

    def _moves(self, before: Any, after: Any, table: Any, event: Any) -> None:
        if before != after and after not in table[before]:
            raise Violation(f"{before} -> {after} by {event}")

    # ------------------------------------------------------------ ledgers and reports

    def _effective(self, message: Message) -> bool:
        place = (message.topic, message.partition)
        if isinstance(message.event, OwnerClaimed):
            self.claims[place] = message.event.claim_id
            return False
        return message.envelope.claim == self.claims.get(place)

    def _report(self, message: Message) -> None:
        event = message.event
        if isinstance(event, TaskLeaseLapsed | TaskSettled):
            self.closed_at.setdefault(event.token.nonce, message.offset)
        elif hasattr(event, "number"):
            self.first_report.setdefault((event.token.nonce, event.number), message.offset)

    def _run_decision(self, message: Message) -> None:
        """No result is accepted that stands behind the lapse or settling of its token."""
        event = message.event
        if not self._effective(message) or not isinstance(event, StepAccepted):
            return
        report = event.report
        stands = self.first_report[report.token.nonce, report.number]
        if stands > self.closed_at.get(report.token.nonce, stands):
            raise Violation(f"{report.task_id} report {report.number} was accepted under a closed token")
        self.effective[message.key].append(event)

    def _dispatch_decision(self, message: Message) -> None:
        """No two live leases for one workflow run."""
        event = message.event
        if not self._effective(message):
            return
        if isinstance(event, TaskAssigned):
            held = self.leases.get(event.workflow_run_id)
            if held is not None:
                raise Violation(f"{event.task_id} is assigned while {held} is")
            self.leases[event.workflow_run_id] = event.task_id
            self._take_place(event)
        elif isinstance(event, TaskLeaseLapsed | TaskDropped):
            self.leases = {run: task for run, task in self.leases.items() if task != event.task_id}
            self.working.pop(event.task_id, None)
        elif isinstance(event, RunnerSeen):
            self.waiting = (self.waiting - set(event.held)) | set(event.waiting)

    def _take_place(self, assigned: TaskAssigned) -> None:
        """No more at once than the provider takes; who waits for a person does not count."""
        place, limit = _place(assigned.request), assigned.request.workflow.concurrency
        busy = [id_ for id_, its in self.working.items() if its == place and id_ not in self.waiting]
        if limit and len(busy) >= limit:
            raise Violation(f"{assigned.task_id} is assigned while {busy} are, and the limit of {place} is {limit}")
        self.working[assigned.task_id] = place

    def ended(self, root: str) -> bool:
        """Whether the outside was told the end of this run."""
        facts = self.facts.get(root, [])
        return bool(facts) and isinstance(facts[-1], (*JOB_ENDS, *RUN_ENDS)) and self._is_last(root, facts[-1])

    def _is_last(self, root: str, event: Any) -> bool:
        is_job = any(isinstance(fact, job_run.JobRunCreated) for fact in self.facts[root])
        return isinstance(event, JOB_ENDS) if is_job else isinstance(event, RUN_ENDS)


def _place(request: TaskRequested) -> tuple[str, str, str]:
    return (request.pool, request.organization_id, request.workflow.provider)


def _artifacts(accepted: Any) -> Iterator[str]:
    for staged in accepted.report.artifacts:
        yield staged.artifact_id
