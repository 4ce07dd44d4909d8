"""How do job runs stand?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from api_gateway.projections.lists import number_list, text_list
from kernel.domain.job_run import (
    JobRunCancelled,
    JobRunCompleted,
    JobRunCreated,
    JobRunFailed,
    JobRunStarted,
    JobRunStatus,
)
from kernel.domain.values import Failure

TABLE = Table("job_runs", ("id",))


def failure_columns(failure: Failure) -> dict[str, Cell]:
    """Why and where it failed; the text stays sealed under the run's subject."""
    return {
        "error_code": failure.code,
        "error_message": failure.message.box,
        "failed_step_id": failure.step_id,
        "failed_step_name": failure.step_name,
    }


def _created(fact: Fact) -> Change:
    event: JobRunCreated = fact.event
    columns: dict[str, Cell] = {
        "organization_id": event.organization_id,
        "job_id": event.job_id,
        "status": JobRunStatus.PENDING.value,
        "workflow_ids": text_list(event.workflow_ids),
        "workflow_revisions": number_list(event.workflow_revisions),
        "subject_id": event.subject_id,
        "external_id": event.external_id.box,
        "test_mode": int(event.test_mode),
        "created_by": event.created_by,
        "retry_of": event.retry_of,
        "created_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
    }
    return Change(Kind.PUT, TABLE, (event.job_run_id,), columns)


def _started(fact: Fact) -> Change:
    columns: dict[str, Cell] = {
        "status": JobRunStatus.IN_PROGRESS.value,
        "started_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
    }
    return Change(Kind.PATCH, TABLE, (fact.event.job_run_id,), columns)


def _ended(fact: Fact, status: JobRunStatus) -> Change:
    columns: dict[str, Cell] = {
        "status": status.value,
        "completed_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
    }
    return Change(Kind.PATCH, TABLE, (fact.event.job_run_id,), columns)


def _completed(fact: Fact) -> Change:
    return _ended(fact, JobRunStatus.COMPLETED)


def _cancelled(fact: Fact) -> Change:
    change = _ended(fact, JobRunStatus.CANCELLED)
    change.columns["error_code"] = "cancelled"
    return change


def _failed(fact: Fact) -> Change:
    event: JobRunFailed = fact.event
    change = _ended(fact, JobRunStatus.FAILED)
    change.columns.update(failure_columns(event.failure), failed_workflow_run_id=event.workflow_run_id)
    return change


ON: dict[type, Project] = {
    JobRunCreated: _created,
    JobRunStarted: _started,
    JobRunCompleted: _completed,
    JobRunFailed: _failed,
    JobRunCancelled: _cancelled,
}
