"""What outsiders are shown of a run's fact: ids, names and states, no inputs, no outputs, no sealed value. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api_gateway.failing import error_code
from kernel.domain.artifact import ArtifactCreated
from kernel.domain.input_request import (
    InputRequestAnswered,
    InputRequestCancelled,
    InputRequestExpired,
    InputRequestOpened,
)
from kernel.domain.job_run import (
    JobRunCancelled,
    JobRunCompleted,
    JobRunCreated,
    JobRunFailed,
    RunCancelAccepted,
)
from kernel.domain.values import Failure
from kernel.domain.workflow_run import (
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunStarted,
    WorkflowRunStepFinished,
    WorkflowRunStepStarted,
)

_NONE = Failure()


def failure_of(event: Any) -> Failure:
    """The failure that a fact tells, an empty one otherwise."""
    if isinstance(event, WorkflowRunStepFinished | WorkflowRunFailed | JobRunFailed):
        return event.failure
    return _NONE


def public_data(event: Any) -> dict[str, Any]:
    """The fact's own members in the envelope's `data`, snake case."""
    shown = _SHOWN.get(type(event))
    return shown(event) if shown else {}


def _step_data(event: WorkflowRunStepFinished) -> dict[str, Any]:
    return {
        "attempt": event.attempt,
        "path": event.path,
        "step_id": event.step_id,
        "name": event.name,
        "type": event.kind,
        "status": event.status.name,
        "tries": event.tries,
        "duration_ms": event.finished_ms - event.started_ms,
        "error_code": event.failure.code or None,
        "screenshot_artifact_id": event.screenshot_artifact_id or None,
    }


def _question(event: Any) -> dict[str, Any]:
    return {"input_request_id": event.input_request_id}


def _step_start(event: WorkflowRunStepStarted) -> dict[str, Any]:
    return {"attempt": event.attempt, "path": event.path, "step_id": event.step_id, "name": event.name}


def _failed(event: WorkflowRunFailed) -> dict[str, Any]:
    failure = event.failure
    return {
        "status": "FAILED",
        "error_code": error_code(event.status, failure.code),
        "error_reason": failure.code or None,
        "step_id": failure.step_id or None,
    }


def _job_failed(event: JobRunFailed) -> dict[str, Any]:
    """The event of its workflow run, right before, has the word for it."""
    reason = event.failure.code or None
    return {"status": "FAILED", "error_reason": reason, "failed_workflow_run_id": event.workflow_run_id}


def _job_created(event: JobRunCreated) -> dict[str, Any]:
    return {"job_id": event.job_id, "retry_of": event.retry_of or None, "test_mode": event.test_mode}


def _requeued(event: WorkflowRunRequeued) -> dict[str, Any]:
    return {"reason": event.reason, "resume_ms": event.resume_ms or None}


_SHOWN: dict[type, Callable[[Any], dict[str, Any]]] = {
    WorkflowRunCreated: lambda event: {"workflow_id": event.workflow_id, "workflow_revision": event.revision},
    WorkflowRunStarted: lambda event: {"attempt": event.attempt},
    WorkflowRunRequeued: _requeued,
    JobRunCreated: _job_created,
    JobRunCompleted: lambda _: {"status": "COMPLETED"},
    JobRunFailed: _job_failed,
    JobRunCancelled: lambda _: {"status": "FAILED", "error_code": "cancelled"},
    RunCancelAccepted: lambda _: {},
    WorkflowRunStepStarted: _step_start,
    WorkflowRunStepFinished: _step_data,
    WorkflowRunCompleted: lambda event: {"status": event.status.name},
    WorkflowRunFailed: _failed,
    ArtifactCreated: lambda event: {"artifact_id": event.artifact_id, "type": event.type, "size": event.size},
    InputRequestOpened: lambda event: {**_question(event), "kind": event.kind, "attempt": event.attempt},
    **dict.fromkeys(
        (WorkflowRunAwaitingUserInput, InputRequestAnswered, InputRequestExpired, InputRequestCancelled), _question
    ),
}
