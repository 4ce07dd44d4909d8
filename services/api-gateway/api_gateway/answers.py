"""What queries answer: plain data in the domain's words, opened and ready for any surface to phrase.

Times are milliseconds since 1970, 0 when it has not happened; an empty text stands for none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from kernel.domain.job_run import JobRunStatus
from kernel.domain.workflow_run import WorkflowRunStatus


@dataclass(frozen=True, slots=True)
class WorkflowAnswer:
    """`steps` is the document as it was saved; None in lists."""

    id: str
    organization_id: str
    name: str
    provider: str
    type: str
    steps: msgspec.Raw | None
    revision: int
    created_ms: int
    updated_ms: int
    created_by: str
    updated_by: str
    deleted_ms: int
    version: int
    """The number of its last fact, for changes that are meant for this version only."""


@dataclass(frozen=True, slots=True)
class RevisionAnswer:
    """The steps of a workflow as they once were; `steps` None in lists."""

    workflow_id: str
    revision: int
    steps: msgspec.Raw | None
    created_ms: int
    created_by: str


@dataclass(frozen=True, slots=True)
class JobAnswer:
    id: str
    organization_id: str
    name: str
    provider: str
    workflow_ids: list[str]
    created_ms: int
    updated_ms: int
    created_by: str
    updated_by: str
    version: int


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """`concurrency` 0 stands for any number."""

    slug: str
    display_name: str
    logo_url: str
    login_url: str
    allowed_domains: list[str]
    default_job_id: str
    concurrency: int
    created_ms: int
    updated_ms: int
    version: int


@dataclass(frozen=True, slots=True)
class FailureAnswer:
    """Why a run did not end well, and where. `code` is one of few words, `reason` the exact one behind it."""

    code: str
    reason: str
    message: str
    workflow_run_id: str
    step_id: str
    step_name: str


@dataclass(frozen=True, slots=True)
class JobRunAnswer:
    """`workflow_run_ids` are those created so far, in order."""

    id: str
    job_id: str
    organization_id: str
    status: JobRunStatus
    workflow_ids: list[str]
    workflow_revisions: dict[str, int]
    workflow_run_ids: list[str]
    external_id: str
    retry_of: str
    test_mode: bool
    created_ms: int
    updated_ms: int
    started_ms: int
    completed_ms: int
    created_by: str
    failure: FailureAnswer | None


@dataclass(frozen=True, slots=True)
class WorkflowRunAnswer:
    id: str
    workflow_id: str
    job_run_id: str
    status: WorkflowRunStatus
    revision: int
    external_id: str
    retry_of: str
    test_mode: bool
    created_ms: int
    updated_ms: int
    completed_ms: int
    created_by: str
    current_name: str
    input_request_id: str
    failure: FailureAnswer | None


@dataclass(frozen=True, slots=True)
class StepFailureAnswer:
    """Why a step failed; `diagnosis` is what was found about it, None when nothing was."""

    code: str
    message: str
    is_retryable: bool
    diagnosis: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """One step of one attempt; an empty `status` stands for one that was started and has not ended.

    `output` None: none, too long for a list (`output_bytes` tells), or not to be opened any more.
    """

    attempt: int
    path: str
    step_id: str
    name: str
    kind: str
    effect: str
    status: str
    tries: int
    started_ms: int
    finished_ms: int
    output: Any
    output_bytes: int
    failure: StepFailureAnswer | None
    screenshot_artifact_id: str


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """One fact of a run; `type` is its dotted name, `data` what may be shown of it."""

    id: str
    type: str
    sequence: int
    time_ms: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ArtifactAnswer:
    id: str
    workflow_id: str
    workflow_run_id: str
    job_run_id: str
    type: str
    display_name: str
    mime_type: str
    size: int
    sha256: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class InputRequestAnswer:
    """`fields` as they were asked; answers are never part of it."""

    id: str
    workflow_run_id: str
    job_run_id: str
    external_id: str
    kind: str
    prompt: str
    fields: list[dict[str, Any]]
    status: str
    attempt: int
    created_ms: int
    expires_ms: int
