"""What `advance` remembers of a root run, and how its own decisions change that. Pure.

One key per root run: a `LiveRun`, then a `Tombstone`. The journal inside is bounded, because a runner stages it as a
blob when it outgrows 16 KiB and names that blob in its report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kernel.building import quickly_made, replace
from kernel.domain.decider import Decision
from kernel.domain.ids import Incarnation, InputRequestId, RequestId, TaskId, WorkflowRunId
from kernel.domain.input_request import InputRequestAnswered, InputRequestCancelled, InputRequestExpired
from kernel.domain.job_run import RunCancelAccepted, RunForgotten, RunPlanned, RunTombstoned
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.task import (
    Answer,
    AnswerKept,
    AttemptAssigned,
    AttemptLapsed,
    AttemptParked,
    AttemptSettling,
    DeadlineMoved,
    HoldStarted,
    JournalEntry,
    RunEnding,
    StepAccepted,
    StepUnknownCleared,
    TaskParkRequested,
    TaskRequested,
)
from kernel.domain.values import SealedBody, Token
from kernel.domain.workflow_run import (
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunResumed,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepStarted,
)
from scheduler.timers import DEADLINE_SLACK_MS, PARK_MS, DueIndex


class Phase(StrEnum):
    """Where the newest attempt of the current workflow run stands."""

    QUEUED = "queued"
    """Asked for; dispatch has it."""
    ASSIGNED = "assigned"
    """A runner has it and has not spoken yet."""
    RUNNING = "running"
    """The runner reports."""
    HELD = "held"
    """The runner holds a page for a person."""
    PARKING = "parking"
    """The hold is over; the runner was told to park."""
    PARKED = "parked"
    """No attempt; waits for an answer or for a time."""
    FENCED = "fenced"
    """Its lapse was read; waits until nothing of it can reach the outside."""
    CLOSING = "closing"
    """Settled without the runner's word; waits for the read-back of `settled`, then for the fence."""


ACTIVE = frozenset({Phase.QUEUED, Phase.ASSIGNED, Phase.RUNNING, Phase.HELD, Phase.PARKING})
WITH_RUNNER = frozenset({Phase.ASSIGNED, Phase.RUNNING, Phase.HELD, Phase.PARKING})


@dataclass(frozen=True, slots=True)
class Question:
    """The open input request."""

    input_request_id: InputRequestId
    path: str
    expires_ms: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Current:
    """The workflow run under way."""

    workflow_run_id: WorkflowRunId
    status: WorkflowRunStatus = WorkflowRunStatus.PENDING
    phase: Phase = Phase.PARKED
    task_id: TaskId = TaskId("")
    token: Token = field(default_factory=Token)
    incarnation: Incarnation = Incarnation("")
    inbox_partition: int = 0
    reports: int = 0
    """Number of the last report accepted under `token`."""
    wait_until_ms: int = 0
    """End of FENCED or CLOSING; 0 in CLOSING until `settled` was read back."""
    hold_until_ms: int = 0
    resume_ms: int = 0
    """PARKED until then; 0: only an answer resumes it."""
    question: Question | None = None
    answers: tuple[Answer, ...] = ()
    last_answer_request: RequestId = RequestId("")
    last_cancel_request: RequestId = RequestId("")
    deadline_ms: int = 0
    """0 until the first assignment."""
    remaining_ms: int = 0
    """What was left to the deadline when a person was asked."""
    staged: SealedBody = field(default_factory=SealedBody)
    entries: tuple[JournalEntry, ...] = ()
    unknown: tuple[str, ...] = ()
    lapses: int = 0
    ending: RunEnding | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class LiveRun:
    """A root run that has not ended."""

    planned: RunPlanned
    sequence: int = 0
    position: int = -1
    current: Current | None = None

    @property
    def workflow(self) -> PlannedWorkflow:
        """The workflow under way."""
        return self.planned.plan[self.position]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An ended root run, remembered for a while."""

    root_run_id: str
    organization_id: str
    outcome: str
    sequence: int
    expires_ms: int
    request_id: RequestId = RequestId("")
    """What asked for the run; empty in what an earlier version has kept."""


RunValue = LiveRun | Tombstone


def due_ms(run: RunValue) -> int | None:
    """When this run next needs a wake-up; None when only an input can move it."""
    if isinstance(run, Tombstone):
        return run.expires_ms
    current = run.current
    if current is None:
        return None
    times = [time for time in _times(current) if time > 0]
    return min(times) if times else None


def _times(current: Current) -> Iterator[int]:
    phase = current.phase
    if phase in {Phase.FENCED, Phase.CLOSING}:
        yield current.wait_until_ms
        return
    if current.ending is not None:
        if phase in ACTIVE:
            yield current.ending.due_ms
        return
    if current.question is not None:
        yield current.question.expires_ms
    if phase is Phase.HELD:
        yield current.hold_until_ms
    elif phase is Phase.PARKED:
        yield current.resume_ms
    elif phase is Phase.PARKING:
        yield current.hold_until_ms + PARK_MS
    elif current.deadline_ms:
        yield current.deadline_ms + DEADLINE_SLACK_MS


class AdvanceState:
    """The keyed map of a partition, with its index by due time."""

    def __init__(self) -> None:
        self._runs: dict[str, RunValue] = {}
        self.due = DueIndex()

    def get(self, key: str) -> RunValue | None:
        """The run under `key`."""
        return self._runs.get(key)

    def put(self, key: str, value: RunValue | None) -> None:
        """Set or remove."""
        if value is None:
            self._runs.pop(key, None)
            self.due.put(key, None)
        else:
            self._runs[key] = value
            self.due.put(key, due_ms(value))

    def items(self) -> Iterator[tuple[str, RunValue]]:
        """All runs."""
        return iter(self._runs.items())

    def due_ms(self) -> int | None:
        """The earliest due time."""
        return self.due.earliest()


def evolve(run: RunValue | None, decision: Decision) -> RunValue | None:
    """The run after `decision`. A public fact also counts up the run's sequence."""
    event = decision.event
    match event:
        case RunPlanned():
            return LiveRun(planned=event)
        case RunForgotten():
            return None
        case RunTombstoned():
            assert isinstance(run, LiveRun)
            planned = run.planned
            return Tombstone(
                root_run_id=planned.root_run_id,
                organization_id=planned.organization_id,
                outcome=event.outcome,
                sequence=run.sequence,
                expires_ms=event.expires_ms,
                request_id=planned.request_id,
            )
        case _:
            assert isinstance(run, LiveRun)
    sequence = decision.sequence or run.sequence
    if isinstance(event, WorkflowRunCreated):
        fresh = Current(workflow_run_id=event.workflow_run_id)
        return replace(run, sequence=sequence, position=event.position, current=fresh)
    if run.current is None:
        return replace(run, sequence=sequence)
    return replace(run, sequence=sequence, current=evolve_current(run.current, event))


def evolve_current(current: Current, event: Any) -> Current:
    """The workflow run under way after `event`; events that do not concern it leave it."""
    match event:
        case TaskRequested() | AttemptAssigned() | AttemptLapsed() | AttemptSettling() | AttemptParked() | RunEnding():
            return _evolve_attempt(current, event)
        case StepAccepted() | WorkflowRunStepStarted() | StepUnknownCleared():
            return _evolve_journal(current, event)
        case WorkflowRunStarted():
            return replace(
                current, status=WorkflowRunStatus.IN_PROGRESS, phase=Phase.RUNNING, reports=current.reports + 1
            )
        case WorkflowRunRequeued():
            return replace(current, status=WorkflowRunStatus.PENDING)
        case RunCancelAccepted(request_id=request_id):
            return replace(current, last_cancel_request=request_id)
        case WorkflowRunCompleted(status=status) | WorkflowRunFailed(status=status):
            return replace(current, status=status)
        case _:
            return _evolve_question(current, event)


def _evolve_attempt(
    current: Current,
    event: TaskRequested | AttemptAssigned | AttemptLapsed | AttemptSettling | AttemptParked | RunEnding,
) -> Current:
    match event:
        case TaskRequested():
            return replace(
                current,
                phase=Phase.QUEUED,
                task_id=event.task_id,
                token=event.token,
                incarnation=Incarnation(""),
                reports=0,
                wait_until_ms=0,
                resume_ms=0,
            )
        case AttemptAssigned():
            return replace(
                current,
                phase=Phase.ASSIGNED,
                incarnation=event.incarnation,
                inbox_partition=event.inbox_partition,
                deadline_ms=event.deadline_ms,
                remaining_ms=0,
            )
        case AttemptLapsed():
            return replace(current, phase=Phase.FENCED, wait_until_ms=event.wait_until_ms, lapses=current.lapses + 1)
        case AttemptSettling():
            return replace(current, phase=Phase.CLOSING, wait_until_ms=event.wait_until_ms)
        case AttemptParked():
            return replace(current, phase=Phase.PARKED, resume_ms=event.resume_ms, wait_until_ms=0)
        case RunEnding():
            return replace(current, ending=event)


def _evolve_journal(current: Current, event: StepAccepted | WorkflowRunStepStarted | StepUnknownCleared) -> Current:
    reports = current.reports + 1
    match event:
        case WorkflowRunStepStarted(path=path):
            unknown = current.unknown if path in current.unknown else (*current.unknown, path)
            # What a person said of this step was said before it was started (again).
            return replace(current, reports=reports, unknown=unknown, answers=_other_answers(current, path))
        case StepUnknownCleared(path=path):
            unknown = _without(current.unknown, path)
            return replace(current, reports=reports, unknown=unknown, answers=_other_answers(current, path))
        case StepAccepted(report=report):
            entry = JournalEntry(
                path=report.path,
                status=report.status,
                effect=report.effect,
                output=report.output,
                safe_point=report.safe_point,
                url=report.url,
                consumed=report.consumed,
                failure_code=report.failure.code,
                asks_again=report.asks_again,
            )
            staged = report.journal_staged
            is_staged = bool(staged.box or staged.blob)
            return replace(
                current,
                reports=reports,
                staged=staged if is_staged else current.staged,
                entries=() if is_staged else (*current.entries, entry),
                unknown=_without(current.unknown, report.path),
                answers=_other_answers(current, report.path),
            )


def _evolve_question(current: Current, event: Any) -> Current:
    match event:
        case HoldStarted():
            remaining = max(current.deadline_ms - event.since_ms, 1) if current.deadline_ms else 0
            question = Question(event.input_request_id, event.path, event.expires_ms)
            return replace(
                current,
                phase=Phase.HELD,
                reports=current.reports + 1,
                question=question,
                hold_until_ms=event.until_ms,
                deadline_ms=0,
                remaining_ms=remaining,
            )
        case WorkflowRunAwaitingUserInput():
            return replace(current, status=WorkflowRunStatus.AWAITING_USER_INPUT)
        case WorkflowRunResumed():
            return replace(current, status=WorkflowRunStatus.IN_PROGRESS, phase=Phase.RUNNING)
        case DeadlineMoved():
            return replace(current, deadline_ms=event.deadline_ms, remaining_ms=0)
        case TaskParkRequested():
            return replace(current, phase=Phase.PARKING)
        case AnswerKept():
            answers = (*_other_answers(current, event.answer.path), event.answer)
            return replace(current, answers=answers, last_answer_request=event.request_id)
        case InputRequestAnswered() | InputRequestExpired() | InputRequestCancelled():
            return replace(current, question=None)
        case _:
            return current


def _without(paths: tuple[str, ...], path: str) -> tuple[str, ...]:
    return tuple(known for known in paths if known != path) if path in paths else paths


def _other_answers(current: Current, path: str) -> tuple[Answer, ...]:
    return tuple(answer for answer in current.answers if answer.path != path)
