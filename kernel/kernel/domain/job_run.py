"""A job run: its workflows one after another, stopping at the first failure.

    requested -> PENDING -> IN_PROGRESS -> COMPLETED
                                        -> FAILED      one workflow run did not end well; later ones get no run
                                        -> CANCELLED   a person asked
It is IN_PROGRESS from its first workflow run on, also while that one waits for a person.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from kernel.building import quickly_made, replace
from kernel.domain.ids import JobId, JobRunId, OrganizationId, RequestId, SubjectId, UserId, WorkflowId, WorkflowRunId
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.values import Failure, Sealed, SealedBody

# ---------------------------------------------------------------- status


class JobRunStatus(StrEnum):
    """Where a job run stands; the last three are terminal."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: dict[JobRunStatus, frozenset[JobRunStatus]] = {
    JobRunStatus.PENDING: frozenset({JobRunStatus.IN_PROGRESS, JobRunStatus.FAILED, JobRunStatus.CANCELLED}),
    JobRunStatus.IN_PROGRESS: frozenset({JobRunStatus.COMPLETED, JobRunStatus.FAILED, JobRunStatus.CANCELLED}),
    JobRunStatus.COMPLETED: frozenset(),
    JobRunStatus.FAILED: frozenset(),
    JobRunStatus.CANCELLED: frozenset(),
}

# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class JobRunRequested:
    """Someone asks for a run of a job; the gateway froze everything it needs. Internal."""

    request_id: RequestId
    job_run_id: JobRunId
    job_id: JobId
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    plan: tuple[PlannedWorkflow, ...]
    test_mode: bool
    created_by: UserId
    retry_of: str
    priority: int
    """0 is normal; higher is sooner."""
    valid_until_ms: int
    """Read later than this, the request is rejected: it may be a late copy (design 4.7)."""
    first_position: int = 0
    """Where in the plan it begins; those before are taken as done by the run that this one repeats."""


@dataclass(frozen=True, slots=True)
class RunCancelRequested:
    """Someone asks to stop a run: the job run, or a workflow run (which ends its whole root run). Internal."""

    request_id: RequestId
    root_run_id: str
    workflow_run_id: str
    """Empty for the whole root run."""
    requested_by: UserId
    valid_until_ms: int


# ---------------------------------------------------------------- events


@quickly_made
@dataclass(frozen=True, slots=True)
class RunPlanned:
    """The plan was taken into the ledger. It stays there: public facts carry ids, not documents."""

    root_run_id: str
    request_id: RequestId
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    job_run_id: JobRunId
    """Empty when the root run is a workflow run that stands alone."""
    plan: tuple[PlannedWorkflow, ...]
    test_mode: bool
    created_by: UserId
    retry_of: str
    priority: int
    created_ms: int
    first_position: int = 0


@dataclass(frozen=True, slots=True)
class JobRunCreated:
    """A job run exists."""

    job_run_id: JobRunId
    job_id: JobId
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    workflow_ids: tuple[WorkflowId, ...]
    """`workflowExecutionOrder` as frozen at creation."""
    workflow_revisions: tuple[int, ...]
    """Beside `workflow_ids`, by position."""
    test_mode: bool
    created_by: UserId
    retry_of: str
    request_id: RequestId
    first_position: int = 0
    """Place in the order at which it begins; above 0 only for a retry."""
    inputs: tuple[SealedBody, ...] = ()
    """Beside `workflow_ids`: JSON objects of the inputs, sealed; secret ones are vault references."""


@dataclass(frozen=True, slots=True)
class JobRunStarted:
    """The first workflow run was created."""

    job_run_id: JobRunId


@dataclass(frozen=True, slots=True)
class JobRunCompleted:
    """All workflow runs ended well. Terminal."""

    job_run_id: JobRunId


@dataclass(frozen=True, slots=True)
class JobRunFailed:
    """One workflow run did not end well. Terminal."""

    job_run_id: JobRunId
    workflow_run_id: WorkflowRunId
    failure: Failure


@dataclass(frozen=True, slots=True)
class JobRunCancelled:
    """A person asked, and nothing of it can act any more. Terminal."""

    job_run_id: JobRunId


@dataclass(frozen=True, slots=True)
class RunRequestRejected:
    """A request about a run was refused; nothing changed. `code` is stable."""

    request_id: RequestId
    root_run_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RunCancelAccepted:
    """A cancel was accepted: the run will end cancelled unless it ends by itself before."""

    request_id: RequestId
    root_run_id: str


@dataclass(frozen=True, slots=True)
class RunTombstoned:
    """An ended run left its tombstone: until `expires_ms` a repeated request finds this outcome. Ledger only."""

    root_run_id: str
    outcome: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class RunForgotten:
    """The tombstone's time is over. Ledger only."""

    root_run_id: str


JobRunEvent = JobRunCreated | JobRunStarted | JobRunCompleted | JobRunFailed | JobRunCancelled

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class JobRun:
    """A job run as its public facts tell it."""

    id: JobRunId = JobRunId("")
    status: JobRunStatus = JobRunStatus.PENDING
    failure: Failure = field(default_factory=Failure)
    failed_workflow_run_id: WorkflowRunId = WorkflowRunId("")


def evolve(run: JobRun, event: JobRunEvent) -> JobRun:
    """Fold one public fact."""
    match event:
        case JobRunCreated(job_run_id=id_):
            return replace(run, id=id_, status=JobRunStatus.PENDING)
        case JobRunStarted():
            return replace(run, status=JobRunStatus.IN_PROGRESS)
        case JobRunCompleted():
            return replace(run, status=JobRunStatus.COMPLETED)
        case JobRunFailed(failure=failure, workflow_run_id=failed):
            return replace(run, status=JobRunStatus.FAILED, failure=failure, failed_workflow_run_id=failed)
        case JobRunCancelled():
            return replace(run, status=JobRunStatus.CANCELLED)
        case _:
            assert_never(event)
