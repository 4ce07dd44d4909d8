"""What has happened to a run, in order? Each fact as it stands in the log."""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
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
    JobRunStarted,
    RunCancelAccepted,
)
from kernel.domain.workflow_run import (
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunResumed,
    WorkflowRunStarted,
    WorkflowRunStepFinished,
    WorkflowRunStepStarted,
)

TABLE = Table("run_events", ("root_run_id", "sequence"), only_added=True)


def _of_run(fact: Fact) -> Change:
    return _kept(fact, fact.event.workflow_run_id)


def _of_root_run(fact: Fact) -> Change:
    return _kept(fact, fact.key)


def _of_question(fact: Fact) -> Change:
    return _kept(fact, fact.event.input_request_id)


def _kept(fact: Fact, about: str) -> Change:
    columns: dict[str, Cell] = {"about": about, "wire": fact.wire, "time_ms": fact.time_ms, "value": fact.value}
    return Change(Kind.KEEP, TABLE, (fact.key, fact.sequence), columns)


ON: dict[type, Project] = {
    **dict.fromkeys(
        (
            WorkflowRunCreated,
            WorkflowRunStarted,
            WorkflowRunRequeued,
            WorkflowRunAwaitingUserInput,
            WorkflowRunResumed,
            WorkflowRunStepStarted,
            WorkflowRunStepFinished,
            WorkflowRunCompleted,
            WorkflowRunFailed,
            ArtifactCreated,
            InputRequestOpened,
        ),
        _of_run,
    ),
    **dict.fromkeys(
        (JobRunCreated, JobRunStarted, JobRunCompleted, JobRunFailed, JobRunCancelled, RunCancelAccepted),
        _of_root_run,
    ),
    **dict.fromkeys((InputRequestAnswered, InputRequestExpired, InputRequestCancelled), _of_question),
}
