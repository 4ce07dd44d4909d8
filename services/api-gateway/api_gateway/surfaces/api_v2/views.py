"""The shapes and words of this surface: what bodies must look like, and how answers read.

Answers carry every field; what is not there is `null`. Times are UTC with milliseconds and a literal `Z`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct

from api_gateway.answers import (
    ArtifactAnswer,
    EventAnswer,
    FailureAnswer,
    InputRequestAnswer,
    JobRunAnswer,
    StepAnswer,
    WorkflowRunAnswer,
)
from kernel.domain.job_run import JobRunStatus
from kernel.domain.workflow_run import WorkflowRunStatus

T = TypeVar("T")

UUID_PATTERN = (
    r"^(?:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
    r"|00000000-0000-0000-0000-000000000000)$"
)
SLUG_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"

Uuid = Annotated[str, Meta(pattern=UUID_PATTERN)]
Slug = Annotated[str, Meta(pattern=SLUG_PATTERN)]
PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE_PATTERN)]
ExternalId = Annotated[str, Meta(min_length=1, max_length=256, pattern=PRINTABLE_PATTERN)]
Inputs = dict[str, Any]
WORKFLOWS_PER_JOB_MAX = 100
Order = Annotated[list[Uuid], Meta(max_length=WORKFLOWS_PER_JOB_MAX)]

# ---------------------------------------------------------------- words

JOB_RUN_WORD: dict[JobRunStatus, str] = {
    JobRunStatus.PENDING: "PENDING",
    JobRunStatus.IN_PROGRESS: "IN_PROGRESS",
    JobRunStatus.COMPLETED: "COMPLETED",
    JobRunStatus.FAILED: "FAILED",
    JobRunStatus.CANCELLED: "FAILED",
}
WORKFLOW_RUN_WORD: dict[WorkflowRunStatus, str] = {
    WorkflowRunStatus.PENDING: "PENDING",
    WorkflowRunStatus.IN_PROGRESS: "IN_PROGRESS",
    WorkflowRunStatus.AWAITING_USER_INPUT: "AWAITING_USER_INPUT",
    WorkflowRunStatus.COMPLETED: "COMPLETED",
    WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN: "COMPLETED_WITH_NO_ACTION_TAKEN",
    WorkflowRunStatus.FAILED: "FAILED",
    WorkflowRunStatus.TERMINATED: "FAILED",
    WorkflowRunStatus.TIMED_OUT: "FAILED",
    WorkflowRunStatus.BUDGET_EXHAUSTED: "FAILED",
    WorkflowRunStatus.CANCELLED: "FAILED",
}

# ---------------------------------------------------------------- bodies


class Body(Struct, kw_only=True, rename="camel"):
    """What callers send; unknown members are ignored."""


class JobConfig(Struct, kw_only=True, rename="camel"):
    """What a job does: its workflows, one after another."""

    workflow_execution_order: Order


class StartJob(Body, kw_only=True):
    """The start body where the path names the job."""

    external_id: ExternalId | None = None
    inputs: Inputs | None = None
    workflow_inputs: dict[str, Inputs] | None = None
    test_mode: bool = False


class StartJobRun(StartJob, kw_only=True):
    job_id: Uuid


class StartWorkflowRun(Body, kw_only=True):
    workflow_id: Uuid
    external_id: ExternalId | None = None
    inputs: Inputs | None = None
    test_mode: bool = False


class AnswerInputRequest(Body, kw_only=True):
    values: Inputs


# ---------------------------------------------------------------- answers


class Resource(Struct, kw_only=True, rename="camel"):
    """What callers get."""


class Page(Struct, Generic[T], kw_only=True):
    """A part of a list, newest first where nothing else is said."""

    data: list[T]
    page: int
    page_size: int
    total: int
    has_more: bool


class FailedStep(Resource, kw_only=True):
    """Where a run failed."""

    workflow_run_id: str
    step_id: str
    name: str


class JobRun(Resource, kw_only=True):
    id: str
    job_id: str
    organization_id: str
    status: str
    job_config_json_snapshot: JobConfig
    workflow_revisions: dict[str, int]
    workflow_run_ids: list[str]
    external_id: str | None
    link_id: None
    retry_of: str | None
    test_mode: bool
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    created_by_user_id: str
    error_code: str | None
    error_message: str | None
    failed_step: FailedStep | None


class WorkflowRun(Resource, kw_only=True):
    id: str
    workflow_id: str
    status: str
    created_at: str
    updated_at: str
    completed_at: str | None
    created_by_user_id: str
    job_run_id: str | None
    current_state_name: str | None
    workflow_revision: int
    external_id: str | None
    test_mode: bool
    retry_of: str | None
    input_request_id: str | None
    error_code: str | None
    error_message: str | None
    failed_step: FailedStep | None


class Step(Resource, kw_only=True):
    """One step of one attempt; without `status` it was started and has not ended."""

    step_id: str
    path: str
    name: str
    type: str | None
    status: str | None
    attempt: int
    tries: int
    started_at: str
    completed_at: str | None
    duration_ms: int | None
    error_code: str | None
    error_message: str | None
    screenshot_artifact_id: str | None


class Event(Struct, kw_only=True):
    """One fact, in the envelope of the webhooks."""

    id: str
    object: str
    created: str
    type: str
    data: dict[str, Any]


class Artifact(Resource, kw_only=True):
    id: str
    type: str
    display_name: str
    mime_type: str
    file_size: int
    file_hash: str
    storage_path: str
    workflow_id: str
    workflow_run_id: str
    job_run_id: str | None
    signed_url: str
    signed_url_expires_at: str
    created_at: str


class InputField(Resource, kw_only=True):
    name: str
    label: str
    kind: str
    secret: bool
    options: list[str] | None
    pattern: str | None


class InputRequest(Resource, kw_only=True):
    id: str
    workflow_run_id: str
    job_run_id: str | None
    external_id: str | None
    kind: str
    prompt: str
    fields: list[InputField]
    status: str
    attempt: int
    created_at: str
    expires_at: str


# ---------------------------------------------------------------- from answers


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(milliseconds: int) -> str:
    """`2026-11-22T10:15:30.123Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


def stamp_or_none(milliseconds: int) -> str | None:
    """As `stamp`; 0 is none."""
    return stamp(milliseconds) if milliseconds else None


def _failed_step(failure: FailureAnswer | None) -> FailedStep | None:
    if failure is None or not failure.step_id:
        return None
    return FailedStep(workflow_run_id=failure.workflow_run_id, step_id=failure.step_id, name=failure.step_name)


def job_run_view(answer: JobRunAnswer) -> JobRun:
    failure = answer.failure
    return JobRun(
        id=answer.id,
        job_id=answer.job_id,
        organization_id=answer.organization_id,
        status=JOB_RUN_WORD[answer.status],
        job_config_json_snapshot=JobConfig(workflow_execution_order=answer.workflow_ids),
        workflow_revisions=answer.workflow_revisions,
        workflow_run_ids=answer.workflow_run_ids,
        external_id=answer.external_id or None,
        link_id=None,
        retry_of=answer.retry_of or None,
        test_mode=answer.test_mode,
        created_at=stamp(answer.created_ms),
        updated_at=stamp(answer.updated_ms),
        started_at=stamp_or_none(answer.started_ms),
        completed_at=stamp_or_none(answer.completed_ms),
        created_by_user_id=answer.created_by,
        error_code=failure.code if failure else None,
        error_message=(failure.message or None) if failure else None,
        failed_step=_failed_step(failure),
    )


def workflow_run_view(answer: WorkflowRunAnswer) -> WorkflowRun:
    failure = answer.failure
    return WorkflowRun(
        id=answer.id,
        workflow_id=answer.workflow_id,
        status=WORKFLOW_RUN_WORD[answer.status],
        created_at=stamp(answer.created_ms),
        updated_at=stamp(answer.updated_ms),
        completed_at=stamp_or_none(answer.completed_ms),
        created_by_user_id=answer.created_by,
        job_run_id=answer.job_run_id or None,
        current_state_name=answer.current_name or None,
        workflow_revision=answer.revision,
        external_id=answer.external_id or None,
        test_mode=answer.test_mode,
        retry_of=answer.retry_of or None,
        input_request_id=answer.input_request_id or None,
        error_code=failure.code if failure else None,
        error_message=(failure.message or None) if failure else None,
        failed_step=_failed_step(failure),
    )


def step_view(answer: StepAnswer) -> Step:
    has_ended = bool(answer.finished_ms)
    return Step(
        step_id=answer.step_id,
        path=answer.path,
        name=answer.name,
        type=answer.kind or None,
        status=answer.status.upper() or None,
        attempt=answer.attempt,
        tries=answer.tries,
        started_at=stamp(answer.started_ms),
        completed_at=stamp_or_none(answer.finished_ms),
        duration_ms=answer.finished_ms - answer.started_ms if has_ended else None,
        error_code=answer.error_code or None,
        error_message=answer.error_message or None,
        screenshot_artifact_id=answer.screenshot_artifact_id or None,
    )


def event_view(answer: EventAnswer) -> Event:
    return Event(id=answer.id, object="event", created=stamp(answer.time_ms), type=answer.type, data=answer.data)


def artifact_view(answer: ArtifactAnswer, signed_url: str, expires_ms: int) -> Artifact:
    return Artifact(
        id=answer.id,
        type=answer.type,
        display_name=answer.display_name,
        mime_type=answer.mime_type,
        file_size=answer.size,
        file_hash=answer.sha256,
        storage_path=f"sha256/{answer.sha256[:2]}/{answer.sha256[2:4]}/{answer.sha256}",
        workflow_id=answer.workflow_id,
        workflow_run_id=answer.workflow_run_id,
        job_run_id=answer.job_run_id or None,
        signed_url=signed_url,
        signed_url_expires_at=stamp(expires_ms),
        created_at=stamp(answer.created_ms),
    )


def input_request_view(answer: InputRequestAnswer) -> InputRequest:
    return InputRequest(
        id=answer.id,
        workflow_run_id=answer.workflow_run_id,
        job_run_id=answer.job_run_id or None,
        external_id=answer.external_id or None,
        kind=answer.kind,
        prompt=answer.prompt,
        fields=[
            InputField(
                name=field["name"],
                label=field["label"],
                kind=field["kind"],
                secret=field["secret"],
                options=field["options"] or None,
                pattern=field["pattern"] or None,
            )
            for field in answer.fields
        ],
        status=answer.status.upper(),
        attempt=answer.attempt,
        created_at=stamp(answer.created_ms),
        expires_at=stamp(answer.expires_ms),
    )
