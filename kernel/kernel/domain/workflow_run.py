"""A workflow run: one workflow carried out for one customer, by as many attempts as it takes.

created PENDING -> IN_PROGRESS <-> AWAITING_USER_INPUT
        IN_PROGRESS -> PENDING                    its attempt ended without an end; the next one waits for a slot
        AWAITING_USER_INPUT -> PENDING            answered while parked
        IN_PROGRESS -> COMPLETED | COMPLETED_WITH_NO_ACTION_TAKEN
        any live -> FAILED | TERMINATED | TIMED_OUT | BUDGET_EXHAUSTED | CANCELLED
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from kernel.building import quickly_made, replace
from kernel.domain.ids import (
    ConnectionId,
    InputRequestId,
    JobRunId,
    OrganizationId,
    ProviderSlug,
    RequestId,
    SubjectId,
    UserId,
    WorkflowId,
    WorkflowRunId,
)
from kernel.domain.plan import PlannedWorkflow, WorkflowType
from kernel.domain.values import Effect, Failure, Sealed, SealedBody

# ---------------------------------------------------------------- status


class WorkflowRunStatus(StrEnum):
    """Where a workflow run stands; the superset of all surfaces. The last seven are terminal."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    AWAITING_USER_INPUT = "awaiting_user_input"
    COMPLETED = "completed"
    COMPLETED_WITH_NO_ACTION_TAKEN = "completed_with_no_action_taken"
    FAILED = "failed"
    TERMINATED = "terminated"
    TIMED_OUT = "timed_out"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CANCELLED = "cancelled"


_BAD_ENDS = frozenset(
    {
        WorkflowRunStatus.FAILED,
        WorkflowRunStatus.TERMINATED,
        WorkflowRunStatus.TIMED_OUT,
        WorkflowRunStatus.BUDGET_EXHAUSTED,
        WorkflowRunStatus.CANCELLED,
    }
)
ENDED_WELL = frozenset({WorkflowRunStatus.COMPLETED, WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN})
TERMINAL = ENDED_WELL | _BAD_ENDS

TRANSITIONS: dict[WorkflowRunStatus, frozenset[WorkflowRunStatus]] = {
    WorkflowRunStatus.PENDING: frozenset({WorkflowRunStatus.IN_PROGRESS}) | _BAD_ENDS,
    WorkflowRunStatus.IN_PROGRESS: frozenset({WorkflowRunStatus.PENDING, WorkflowRunStatus.AWAITING_USER_INPUT})
    | ENDED_WELL
    | _BAD_ENDS,
    WorkflowRunStatus.AWAITING_USER_INPUT: frozenset({WorkflowRunStatus.IN_PROGRESS, WorkflowRunStatus.PENDING})
    | _BAD_ENDS,
    **dict.fromkeys(TERMINAL, frozenset()),
}


class StepStatus(StrEnum):
    """How one step ended in one attempt."""

    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class WorkflowRunRequested:
    """Someone asks for one workflow alone; the workflow run is its own root run. Internal."""

    request_id: RequestId
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    workflow: PlannedWorkflow
    test_mode: bool
    created_by: UserId
    retry_of: str
    priority: int
    valid_until_ms: int


# ---------------------------------------------------------------- events


@quickly_made
@dataclass(frozen=True, slots=True)
class WorkflowRunCreated:
    """A workflow run exists and waits for a slot."""

    workflow_run_id: WorkflowRunId
    job_run_id: JobRunId
    """Empty when it stands alone."""
    workflow_id: WorkflowId
    revision: int
    provider: ProviderSlug
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    test_mode: bool
    created_by: UserId
    retry_of: str
    position: int
    """Place in the job's order, from 0."""
    request_id: RequestId
    inputs: SealedBody = field(default_factory=SealedBody)
    """JSON object of the inputs, sealed; secret ones are vault references."""
    connection_id: ConnectionId = ConnectionId("")
    """The login that it uses, one run at a time. Empty: none."""
    pool: str = ""
    """Kind of slot that it needs: `browser` or `light`. Empty in what an earlier version has written."""
    stop_after_step: str = ""
    """Id of the step after which the run ends, completed. Empty: it goes to its end."""
    keep_open_seconds: int = 0
    """How long the page stays open behind the end of the run."""
    trace: bool = False
    """A trace of the whole run is kept as an artifact."""


@dataclass(frozen=True, slots=True)
class WorkflowRunStarted:
    """A runner took attempt `attempt`."""

    workflow_run_id: WorkflowRunId
    attempt: int
    first_name: str = ""
    """Name of the first step, as long as none has ended; else empty."""


@dataclass(frozen=True, slots=True)
class WorkflowRunRequeued:
    """Its attempt ended without an end of the run (lapse, drain, delay, answered while parked); it waits for a slot."""

    workflow_run_id: WorkflowRunId
    reason: str
    """`lapsed`, `released`, `delayed`, `answered`."""
    resume_ms: int = 0
    """The next attempt is asked for no earlier; 0: at once."""


@dataclass(frozen=True, slots=True)
class WorkflowRunAwaitingUserInput:
    """It waits for a person."""

    workflow_run_id: WorkflowRunId
    input_request_id: InputRequestId


@dataclass(frozen=True, slots=True)
class WorkflowRunResumed:
    """The answer reached the page that was held open."""

    workflow_run_id: WorkflowRunId


@quickly_made
@dataclass(frozen=True, slots=True)
class WorkflowRunStepStarted:
    """A `once` step is about to act; without a later `step_finished` of it, it may have happened."""

    workflow_run_id: WorkflowRunId
    attempt: int
    path: str
    """Address of the step: `finish`, `orders[2].open` inside loops; see `kernel.domain.steps`."""
    step_id: str
    name: str
    effect: Effect
    kind: str
    """Kind of the step, such as `click`."""


@quickly_made
@dataclass(frozen=True, slots=True)
class WorkflowRunStepFinished:
    """A step ended in this attempt; a later attempt may end it again."""

    workflow_run_id: WorkflowRunId
    attempt: int
    path: str
    step_id: str
    name: str
    kind: str
    effect: Effect
    status: StepStatus
    tries: int
    started_ms: int
    finished_ms: int
    output: SealedBody
    failure: Failure
    screenshot_artifact_id: str
    next_name: str
    """Name of the step that comes next, for people; empty after the last."""
    diagnosis: Sealed = field(default_factory=Sealed)
    """JSON for people about a failure: address, locators tried, nearest candidates; absent when it did not fail."""
    provider: ProviderSlug = ProviderSlug("")
    """Where the run works. Empty in what an earlier version has written."""
    test_mode: bool = False
    """Of a rehearsal."""


@quickly_made
@dataclass(frozen=True, slots=True)
class WorkflowRunCompleted:
    """All steps done, or ended early with nothing to do. Terminal."""

    workflow_run_id: WorkflowRunId
    status: WorkflowRunStatus
    """COMPLETED or COMPLETED_WITH_NO_ACTION_TAKEN."""
    output: SealedBody
    provider: ProviderSlug = ProviderSlug("")
    """Where it worked. Empty in what an earlier version has written."""
    workflow_type: WorkflowType = WorkflowType.USER_DEFINED
    test_mode: bool = False
    """It was a rehearsal."""


@dataclass(frozen=True, slots=True)
class WorkflowRunFailed:
    """It did not end well. Terminal."""

    workflow_run_id: WorkflowRunId
    status: WorkflowRunStatus
    """FAILED, TERMINATED, TIMED_OUT, BUDGET_EXHAUSTED or CANCELLED."""
    failure: Failure
    provider: ProviderSlug = ProviderSlug("")
    """Where it worked. Empty in what an earlier version has written."""
    workflow_type: WorkflowType = WorkflowType.USER_DEFINED
    test_mode: bool = False
    """It was a rehearsal."""


WorkflowRunEvent = (
    WorkflowRunCreated
    | WorkflowRunStarted
    | WorkflowRunRequeued
    | WorkflowRunAwaitingUserInput
    | WorkflowRunResumed
    | WorkflowRunStepStarted
    | WorkflowRunStepFinished
    | WorkflowRunCompleted
    | WorkflowRunFailed
)

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """A workflow run as its public facts tell it."""

    id: WorkflowRunId = WorkflowRunId("")
    status: WorkflowRunStatus = WorkflowRunStatus.PENDING
    attempt: int = 0
    current_name: str = ""
    input_request_id: InputRequestId = InputRequestId("")
    failure: Failure = field(default_factory=Failure)


def evolve(run: WorkflowRun, event: WorkflowRunEvent) -> WorkflowRun:
    """Fold one public fact."""
    match event:
        case WorkflowRunCreated(workflow_run_id=id_):
            return replace(run, id=id_, status=WorkflowRunStatus.PENDING)
        case WorkflowRunStarted(attempt=attempt, first_name=first_name):
            name = first_name or run.current_name
            return replace(run, status=WorkflowRunStatus.IN_PROGRESS, attempt=attempt, current_name=name)
        case WorkflowRunRequeued():
            return replace(run, status=WorkflowRunStatus.PENDING, input_request_id=InputRequestId(""))
        case WorkflowRunAwaitingUserInput(input_request_id=id_):
            return replace(run, status=WorkflowRunStatus.AWAITING_USER_INPUT, input_request_id=id_)
        case WorkflowRunResumed():
            return replace(run, status=WorkflowRunStatus.IN_PROGRESS, input_request_id=InputRequestId(""))
        case WorkflowRunStepStarted(name=name):
            return replace(run, current_name=name)
        case WorkflowRunStepFinished(name=name, next_name=next_name):
            return replace(run, current_name=next_name or name)
        case WorkflowRunCompleted(status=status):
            return replace(run, status=status, input_request_id=InputRequestId(""))
        case WorkflowRunFailed(status=status, failure=failure):
            return replace(run, status=status, failure=failure, input_request_id=InputRequestId(""))
        case _:
            assert_never(event)
