"""The resources of `/api/v2` as the API answers them: camelCase on the wire, snake_case here.

Nullable fields are None. Fields that a newer server adds are ignored, so an older client goes on working.
Times are aware datetimes in UTC; sizes are bytes.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
Json = dict[str, Any]


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What all resources share: immutable, keyword-only, camelCase on the wire."""


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list, newest first; past the end `data` is empty."""

    data: tuple[T, ...]
    page: int = 1
    page_size: int = 10
    total: int | None = None
    has_more: bool = False


# ---------------------------------------------------------------- definitions


class WorkflowType(StrEnum):
    """Fixed when the workflow is made."""

    LOGIN = "LOGIN"
    USER_DEFINED = "USER_DEFINED"


class Workflow(Resource, frozen=True):
    """Steps for one provider; `revision` grows when the steps change."""

    id: str
    organization_id: str
    name: str
    source_provider: str
    type: WorkflowType
    steps_json: Json | None = None
    """Lists may leave the steps out."""
    revision: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created_by_user_id: str | None = None
    updated_by_user_id: str | None = None
    deleted_at: datetime | None = None


class WorkflowRevision(Resource, frozen=True):
    """The steps of a workflow as they once were."""

    workflow_id: str
    revision: int
    steps_json: Json | None = None
    """Lists leave the steps out."""
    created_at: datetime | None = None
    created_by_user_id: str | None = None


class JobConfig(Resource, frozen=True):
    """What a job does: its workflows, one after another."""

    workflow_execution_order: tuple[str, ...]


class Schedule(Resource, frozen=True):
    """When a job starts by itself: a five-field cron expression in an IANA time zone."""

    cron: str
    time_zone: str = "UTC"
    external_id: str | None = None
    enabled: bool = True


class Job(Resource, frozen=True):
    """Workflows of one provider in a fixed order."""

    id: str
    organization_id: str
    name: str
    source_provider: str
    job_config_json: JobConfig
    schedule: Schedule | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created_by_user_id: str | None = None
    updated_by_user_id: str | None = None


class LoginCounts(Resource, frozen=True):
    """How LOGIN workflows ended; `rejected` are wrong credentials."""

    succeeded: int = 0
    rejected: int = 0
    failed: int = 0


class HealthWindow(Resource, frozen=True):
    """Workflow runs of the last minutes that ended, without rehearsals."""

    minutes: int
    succeeded: int = 0
    failed: int = 0
    """For reasons of the provider: its site, its login, its time."""
    other: int = 0
    """Cancelled, wrong input, nobody who answered, or reasons of the platform."""
    success_rate: float | None = None
    """`succeeded` among `succeeded` and `failed`; None without any."""
    logins: LoginCounts = LoginCounts()
    steps: int = 0
    step_p95_ms: int | None = None


class ProviderHealth(Resource, frozen=True):
    """How runs fare at a provider now."""

    status: str
    """`healthy`, `degraded`, or `unknown` while no run tells anything."""
    since: datetime | None = None
    """When the status was decided last; None when it never was."""
    windows: tuple[HealthWindow, ...] = ()
    """Of 1, 15 and 60 minutes."""


class Provider(Resource, frozen=True):
    """A web application that workflows are written for."""

    slug: str
    display_name: str
    logo_url: str | None = None
    login_url: str | None = None
    allowed_domains: tuple[str, ...] = ()
    """A leading dot allows sub-domains."""
    default_job_id: str | None = None
    concurrency: int | None = None
    """How many of its workflow runs may work at once; None: any number."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    health: ProviderHealth | None = None


# ---------------------------------------------------------------- access


class KeyLevel(StrEnum):
    """What a key may do. `read`, `write` and `admin` each include those before; `events` stands apart."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    EVENTS = "events"
    """For subscribers of the event log: fetches keys of subjects, and nothing else."""


class ApiKey(Resource, frozen=True):
    """An API key without its secret; `public_id` is the part of it that may be shown."""

    id: str
    description: str
    level: KeyLevel
    public_id: str
    user_id: str | None = None
    created_at: datetime | None = None
    created_by_user_id: str | None = None
    last_used_at: datetime | None = None
    """Coarse: written at most once an hour."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class SubjectKey(Resource, frozen=True):
    """The key of one subject, in base64."""

    subject_id: str
    key: str


class SubjectKeys(Resource, frozen=True):
    """Keys of subjects; `gone` names those that are erased, or never were of this organization."""

    data: tuple[SubjectKey, ...]
    gone: tuple[str, ...] = ()


class CreatedApiKey(ApiKey, frozen=True):
    """A fresh key."""

    key: str | None = None
    """The key itself, in this answer only; None when the call was a repetition."""


# ---------------------------------------------------------------- runs


class JobRunStatus(StrEnum):
    """The last two are final."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class WorkflowRunStatus(StrEnum):
    """The last three are final."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    AWAITING_USER_INPUT = "AWAITING_USER_INPUT"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_NO_ACTION_TAKEN = "COMPLETED_WITH_NO_ACTION_TAKEN"
    FAILED = "FAILED"


class FailedStep(Resource, frozen=True):
    """Where a run failed."""

    step_id: str
    name: str | None = None
    workflow_run_id: str | None = None


class JobRun(Resource, frozen=True):
    """One run of a job; it carries out the snapshot that was taken when it was created."""

    id: str
    job_id: str
    organization_id: str
    status: JobRunStatus
    job_config_json_snapshot: JobConfig
    workflow_revisions: dict[str, int] = {}
    workflow_run_ids: tuple[str, ...] = ()
    """In order, those created so far."""
    external_id: str | None = None
    link_id: str | None = None
    retry_of: str | None = None
    test_mode: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_by_user_id: str | None = None
    error_code: str | None = None
    """One of a fixed set, such as `step_failed`."""
    error_reason: str | None = None
    """The exact code behind it, such as `target_missing`."""
    error_message: str | None = None
    failed_step: FailedStep | None = None

    @property
    def ended(self) -> bool:
        """The status will not change any more."""
        return self.status in {JobRunStatus.COMPLETED, JobRunStatus.FAILED}

    @property
    def ended_well(self) -> bool:
        """It ended and nothing failed."""
        return self.status is JobRunStatus.COMPLETED


class WorkflowRun(Resource, frozen=True):
    """One run of one workflow; `job_run_id` is None when it stands alone."""

    id: str
    workflow_id: str
    status: WorkflowRunStatus
    job_run_id: str | None = None
    current_state_name: str | None = None
    """Name of the step that is executing; the last one after the end."""
    workflow_revision: int = 1
    external_id: str | None = None
    test_mode: bool = False
    retry_of: str | None = None
    input_request_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_by_user_id: str | None = None
    error_code: str | None = None
    """One of a fixed set, such as `step_failed`."""
    error_reason: str | None = None
    """The exact code behind it, such as `target_missing`."""
    error_message: str | None = None
    failed_step: FailedStep | None = None

    @property
    def ended(self) -> bool:
        """The status will not change any more."""
        return self.ended_well or self.status is WorkflowRunStatus.FAILED

    @property
    def ended_well(self) -> bool:
        """It ended and nothing failed; having had nothing to do counts."""
        return self.status in {WorkflowRunStatus.COMPLETED, WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN}


class StepError(Resource, frozen=True):
    """Why a step failed."""

    code: str
    message: str | None = None
    retryable: bool = False
    """The reason may pass by itself."""
    diagnosis: Json | None = None
    """What was found about it: the page's address, what was tried, what was near."""


class Step(Resource, frozen=True):
    """What became of one step in one attempt of a workflow run."""

    step_id: str
    path: str = ""
    """Address of the step, `orders[2].open` inside a loop; equal to `step_id` outside."""
    name: str = ""
    kind: str | None = None
    effect: str | None = None
    """`read`, `idempotent` or `once`."""
    status: str | None = None
    """`COMPLETED`, `FAILED`, `SKIPPED`; in any letter case. None while it is under way."""
    attempt: int = 1
    """Attempt of the workflow run, from 1; a later attempt may end the same step again."""
    tries: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int | None = None
    output: Any = None
    """None, too, when it is too long for a list; `output_bytes` then says how long."""
    output_bytes: int = 0
    error: StepError | None = None
    screenshot_artifact_id: str | None = None

    @property
    def address(self) -> str:
        """`path`, or the step's id where the server names no path."""
        return self.path or self.step_id

    @property
    def failed(self) -> bool:
        """It ended with an error."""
        return self.status is not None and self.status.upper() == "FAILED"

    @property
    def skipped(self) -> bool:
        """Its condition was false."""
        return self.status is not None and self.status.upper() == "SKIPPED"

    @property
    def seconds(self) -> float | None:
        """How long it took; None when the server does not say."""
        if self.duration_ms is not None:
            return self.duration_ms / 1000
        if self.started_at and self.finished_at:
            return (self.finished_at - self.started_at).total_seconds()
        return None


class LogEntry(Resource, frozen=True):
    """One line of a run's log."""

    time: datetime
    kind: str
    """`step`, `console` or `network`."""
    attempt: int
    level: str
    message: str
    data: Json = {}


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run's log; `cursor` is where the next one begins, also while there is none."""

    data: tuple[LogEntry, ...]
    cursor: str
    has_more: bool = False


class HistoryLine(Resource, frozen=True):
    """One line of what was tried."""

    time: datetime
    text: str


class Explanation(Resource, frozen=True):
    """Why a run stands where it stands, what was tried, what comes next."""

    workflow_run_id: str
    state: str
    summary: str
    waiting_for: Json | None = None
    """`kind` and what belongs to it; None while the run works and when it has ended."""
    history: tuple[HistoryLine, ...] = ()
    next: str = ""
    hints: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, in the envelope of the webhooks (snake_case, like those)."""

    type: str
    id: str = ""
    object: str = "event"
    created: datetime | None = None
    data: Json = {}

    @property
    def position(self) -> str | None:
        """What `after` takes to go on behind this event."""
        sequence = self.data.get("sequence")
        return str(sequence) if sequence is not None else None


# ---------------------------------------------------------------- artifacts and questions


class Artifact(Resource, frozen=True):
    """Bytes that a run produced; every read mints a new `signed_url` that lives 15 minutes."""

    id: str
    type: str
    """Open set: `extracted_data`, `screenshot`, `log_file`, `download`, `trace`, `har`."""
    display_name: str
    mime_type: str
    file_size: int
    file_hash: str
    """SHA-256, lower-case hex."""
    workflow_id: str
    workflow_run_id: str
    storage_path: str = ""
    job_run_id: str | None = None
    signed_url: str | None = None
    """Works without an API key; whoever has it may read. Lists may leave it out."""
    signed_url_expires_at: datetime | None = None
    created_at: datetime | None = None


class InputRequestStatus(StrEnum):
    """The last three are final."""

    OPEN = "OPEN"
    ANSWERED = "ANSWERED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class InputField(Resource, frozen=True):
    """One thing that is asked for; `options` only for a choice, `pattern` a regular expression."""

    name: str
    label: str = ""
    kind: str = "text"
    secret: bool = False
    options: tuple[str, ...] | None = None
    pattern: str | None = None


class InputRequest(Resource, frozen=True):
    """A run asks a person; the first answer wins."""

    id: str
    workflow_run_id: str
    kind: str
    prompt: str
    fields: tuple[InputField, ...]
    status: InputRequestStatus
    attempt: int = 1
    job_run_id: str | None = None
    external_id: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


# ---------------------------------------------------------------- the installation


class Finding(Resource, frozen=True):
    """The answer to one question about the installation."""

    check: str
    verdict: str
    """`ok`, `warning` or `failed`."""
    message: str
    advice: str | None = None


class Examination(Resource, frozen=True):
    """All answers; `verdict` is the worst of them, `now` the server's clock."""

    verdict: str
    now: datetime | None
    findings: tuple[Finding, ...]
