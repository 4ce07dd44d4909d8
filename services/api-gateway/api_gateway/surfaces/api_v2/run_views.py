"""The shapes and words of runs: how they are started and repeated, how they stand, what they did and why they wait."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from api_gateway.answers import (
    EventAnswer,
    FailureAnswer,
    JobRunAnswer,
    StepAnswer,
    WorkflowRunAnswer,
)
from api_gateway.explaining import Explanation as ExplanationAnswer
from api_gateway.retrying import From
from api_gateway.run_log import LogPage
from api_gateway.surfaces.api_v2.views import (
    Body,
    ExternalId,
    Inputs,
    JobConfig,
    Resource,
    Uuid,
    stamp,
    stamp_or_none,
)
from kernel.domain.job_run import JobRunStatus
from kernel.domain.plan import RunOptions
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.errors import Detail, Rejected

KEEP_OPEN_SECONDS_MAX = 3600
KEEP_OPEN_SECONDS_OF_A_TEST = 300

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


class Debug(Body, kw_only=True):
    """How a run can be looked at. `keepOpenSeconds` is 300 in test mode and 0 else where it is not given."""

    keep_open_seconds: Annotated[int, Meta(ge=0, le=KEEP_OPEN_SECONDS_MAX)] | None = None
    trace: bool = False
    breakpoints: list[str] | None = None


class StartJob(Body, kw_only=True):
    """The start body where the path names the job."""

    external_id: ExternalId | None = None
    inputs: Inputs | None = None
    workflow_inputs: dict[str, Inputs] | None = None
    test_mode: bool = False
    debug: Debug | None = None


class StartJobRun(StartJob, kw_only=True):
    job_id: Uuid


class StartWorkflowRun(Body, kw_only=True):
    workflow_id: Uuid
    external_id: ExternalId | None = None
    inputs: Inputs | None = None
    test_mode: bool = False
    debug: Debug | None = None
    stop_after_step: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class RetryRun(Body, kw_only=True):
    """Where to begin; the snapshot, the inputs and the test mode are those of the run that is repeated."""

    from_: From = msgspec.field(name="from", default=From.FAILED)


def options_of(body: StartJob | StartWorkflowRun) -> RunOptions:
    """What is asked beyond the work. `Rejected("validation_failed")` for what only a test run can do."""
    debug = body.debug or Debug()
    stop = body.stop_after_step if isinstance(body, StartWorkflowRun) else None
    if debug.breakpoints:
        raise _refused("/debug/breakpoints", "breakpoints are not supported; use stopAfterStep or keepOpenSeconds")
    if stop and not body.test_mode:
        raise _refused("/stopAfterStep", "stopAfterStep needs testMode: a real run goes to its end")
    keep_open = debug.keep_open_seconds
    if keep_open is None:
        keep_open = KEEP_OPEN_SECONDS_OF_A_TEST if body.test_mode else 0
    return RunOptions(body.test_mode, stop or "", keep_open, debug.trace)


def _refused(path: str, message: str) -> Rejected:
    return Rejected("validation_failed", message, (Detail(path, "validation_failed", message),))


# ---------------------------------------------------------------- answers


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
    error_reason: str | None
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
    error_reason: str | None
    error_message: str | None
    failed_step: FailedStep | None


class StepError(Resource, kw_only=True):
    """Why a step failed. `diagnosis` is what was found about it: the page's address, what was tried, what was near."""

    code: str
    message: str | None
    retryable: bool
    diagnosis: dict[str, Any] | None


class Step(Resource, kw_only=True):
    """One step of one attempt; without `status` it was started and has not ended.

    `output` is null, too, when it is longer than a list should carry; `outputBytes` then tells that there is one.
    """

    step_id: str
    path: str
    name: str
    kind: str | None
    effect: str
    status: str | None
    attempt: int
    tries: int
    started_at: str
    finished_at: str | None
    duration_ms: int | None
    output: Any
    output_bytes: int
    error: StepError | None
    screenshot_artifact_id: str | None


class Event(Struct, kw_only=True):
    """One fact, in the envelope of the webhooks."""

    id: str
    object: str
    created: str
    type: str
    data: dict[str, Any]


class LogEntry(Resource, kw_only=True):
    """One line of a run's log; `kind` is `step`, `console` or `network`."""

    time: str
    kind: str
    attempt: int
    level: str
    message: str
    data: dict[str, Any]


class Log(Struct, kw_only=True):
    """A part of a run's log; `cursor` is where the next one begins, also while there is none."""

    data: list[LogEntry]
    cursor: str
    has_more: bool


class HistoryLine(Resource, kw_only=True):
    time: str
    text: str


class Explanation(Resource, kw_only=True):
    """Why a run stands where it stands. `waitingFor` has a `kind` and what belongs to it; null while it works.

    Kinds: `cancel`, `input`, `timer`, `fence`, `connection`, `provider_limit`, `runner`, `slot`, `assignment`.
    """

    workflow_run_id: str
    state: str
    summary: str
    waiting_for: dict[str, Any] | None
    history: list[HistoryLine]
    next: str
    hints: list[str]


# ---------------------------------------------------------------- from answers


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
        error_reason=failure.reason if failure else None,
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
        error_reason=failure.reason if failure else None,
        error_message=(failure.message or None) if failure else None,
        failed_step=_failed_step(failure),
    )


def step_view(answer: StepAnswer) -> Step:
    has_ended, failure = bool(answer.finished_ms), answer.failure
    return Step(
        step_id=answer.step_id,
        path=answer.path,
        name=answer.name,
        kind=answer.kind or None,
        effect=answer.effect,
        status=answer.status.upper() or None,
        attempt=answer.attempt,
        tries=answer.tries,
        started_at=stamp(answer.started_ms),
        finished_at=stamp_or_none(answer.finished_ms),
        duration_ms=answer.finished_ms - answer.started_ms if has_ended else None,
        output=answer.output,
        output_bytes=answer.output_bytes,
        error=None
        if failure is None
        else StepError(
            code=failure.code,
            message=failure.message or None,
            retryable=failure.is_retryable,
            diagnosis=failure.diagnosis,
        ),
        screenshot_artifact_id=answer.screenshot_artifact_id or None,
    )


def event_view(answer: EventAnswer) -> Event:
    return Event(id=answer.id, object="event", created=stamp(answer.time_ms), type=answer.type, data=answer.data)


def log_view(page: LogPage) -> Log:
    entries = [
        LogEntry(
            time=stamp(entry.time_ms),
            kind=entry.kind,
            attempt=entry.attempt,
            level=entry.level,
            message=entry.message,
            data=entry.data,
        )
        for entry in page.entries
    ]
    return Log(data=entries, cursor=page.cursor, has_more=page.has_more)


def explanation_view(workflow_run_id: str, explanation: ExplanationAnswer, place: str = "") -> Explanation:
    """`place` says which workflow of a job it is about."""
    waiting = explanation.waiting
    return Explanation(
        workflow_run_id=workflow_run_id,
        state=WORKFLOW_RUN_WORD[explanation.state],
        summary=place + explanation.summary,
        waiting_for=None if waiting is None else {"kind": waiting.kind, **_camel(waiting.details)},
        history=[HistoryLine(time=stamp(line.time_ms), text=line.text) for line in explanation.history],
        next=explanation.next,
        hints=explanation.hints,
    )


def _camel(details: dict[str, Any]) -> dict[str, Any]:
    """`until_ms` becomes `until`, as a time."""
    told: dict[str, Any] = {}
    for name, value in details.items():
        first, *rest = name.removesuffix("_ms").split("_")
        told[first + "".join(part.capitalize() for part in rest)] = stamp(value) if name.endswith("_ms") else value
    return told
