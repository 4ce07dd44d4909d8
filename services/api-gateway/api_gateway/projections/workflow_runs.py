"""How do workflow runs stand?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from api_gateway.projections.job_runs import failure_columns
from kernel.domain.workflow_run import (
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunResumed,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
    WorkflowRunStepStarted,
)

_OFTEN = {
    "attempt": int,
    "completed_ms": int,
    "current_name": str,
    "input_request_id": str,
    "status": str,
    "updated_ms": int,
}
TABLE = Table("workflow_runs", ("id",), often=_OFTEN)
_NOTHING_YET: dict[str, Cell] = {
    "completed_ms": 0,
    "attempt": 0,
    "current_name": "",
    "input_request_id": "",
    "error_code": "",
    "failed_step_id": "",
    "failed_step_name": "",
}
"""What later facts say, said at once: so a row is inserted alike, however many of them come together with its first."""


def _created(fact: Fact) -> Change:
    event: WorkflowRunCreated = fact.event
    columns: dict[str, Cell] = {
        "root_run_id": fact.key,
        "organization_id": event.organization_id,
        "job_run_id": event.job_run_id,
        "workflow_id": event.workflow_id,
        "revision": event.revision,
        "provider": event.provider,
        "status": WorkflowRunStatus.PENDING.value,
        "subject_id": event.subject_id,
        "external_id": event.external_id.box,
        "test_mode": int(event.test_mode),
        "created_by": event.created_by,
        "retry_of": event.retry_of,
        "position": event.position,
        "created_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
        **_NOTHING_YET,
    }
    return Change(Kind.PUT, TABLE, (event.workflow_run_id,), columns)


def _patch(fact: Fact, columns: dict[str, Cell]) -> Change:
    columns["updated_ms"] = fact.time_ms
    return Change(Kind.PATCH, TABLE, (fact.event.workflow_run_id,), columns)


def _started(fact: Fact) -> Change:
    event: WorkflowRunStarted = fact.event
    columns: dict[str, Cell] = {"status": WorkflowRunStatus.IN_PROGRESS.value, "attempt": event.attempt}
    return _patch(fact, columns | {"current_name": event.first_name} if event.first_name else columns)


def _requeued(fact: Fact) -> Change:
    return _patch(fact, {"status": WorkflowRunStatus.PENDING.value, "input_request_id": ""})


def _awaiting(fact: Fact) -> Change:
    event: WorkflowRunAwaitingUserInput = fact.event
    status = WorkflowRunStatus.AWAITING_USER_INPUT.value
    return _patch(fact, {"status": status, "input_request_id": event.input_request_id})


def _resumed(fact: Fact) -> Change:
    return _patch(fact, {"status": WorkflowRunStatus.IN_PROGRESS.value, "input_request_id": ""})


def _step_started(fact: Fact) -> Change:
    return _patch(fact, {"current_name": fact.event.name})


def _step_finished(fact: Fact) -> Change:
    event: WorkflowRunStepFinished = fact.event
    return _patch(fact, {"current_name": event.next_name or event.name})


def _completed(fact: Fact) -> Change:
    event: WorkflowRunCompleted = fact.event
    return _patch(fact, {"status": event.status.value, "completed_ms": fact.time_ms, "input_request_id": ""})


def _failed(fact: Fact) -> Change:
    event: WorkflowRunFailed = fact.event
    return _patch(
        fact,
        {
            "status": event.status.value,
            "completed_ms": fact.time_ms,
            "input_request_id": "",
            **failure_columns(event.failure),
        },
    )


ON: dict[type, Project] = {
    WorkflowRunCreated: _created,
    WorkflowRunStarted: _started,
    WorkflowRunRequeued: _requeued,
    WorkflowRunAwaitingUserInput: _awaiting,
    WorkflowRunResumed: _resumed,
    WorkflowRunStepStarted: _step_started,
    WorkflowRunStepFinished: _step_finished,
    WorkflowRunCompleted: _completed,
    WorkflowRunFailed: _failed,
}
