"""What other topics are told about a decision of `advance`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kernel.domain.artifact import ArtifactCreated
from kernel.domain.connection import LoginObserved
from kernel.domain.decider import Decision, Derived
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
    RunRequestRejected,
)
from kernel.domain.task import (
    AnswerDelivered,
    ConnectionReleased,
    StepAccepted,
    TaskParkRequested,
    TaskRequested,
    TaskSettled,
    TaskStopRequested,
    TaskWithdrawn,
)
from kernel.domain.values import pool_key
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
from kernel.log.topics import Topic

SEQUENCED: frozenset[type] = frozenset({
    JobRunCreated, JobRunStarted, JobRunCompleted, JobRunFailed, JobRunCancelled, RunCancelAccepted,
    WorkflowRunCreated, WorkflowRunStarted, WorkflowRunRequeued, WorkflowRunAwaitingUserInput, WorkflowRunResumed,
    WorkflowRunStepStarted, StepAccepted, WorkflowRunCompleted, WorkflowRunFailed,
    ArtifactCreated, InputRequestOpened, InputRequestAnswered, InputRequestExpired, InputRequestCancelled,
})  # fmt: skip
"""Decisions that a public fact of the run is derived from; each takes the next number of the run."""

PUBLIC = (SEQUENCED - {StepAccepted}) | {RunRequestRejected}
"""Decisions that are themselves the public record. A rejection is no part of a run's history and has no number."""


def derive(decision: Decision) -> Sequence[Derived]:
    """The records for other topics, in order."""
    event = decision.event
    if type(event) in PUBLIC:
        return (Derived(Topic.JOB_RUNS, decision.key, event),)
    match event:
        case StepAccepted():
            return (Derived(Topic.JOB_RUNS, decision.key, step_finished(event)),)
        case TaskRequested(workflow=workflow):
            return (Derived(Topic.DISPATCH, pool_key(workflow.pool), event),)
        case TaskWithdrawn() | ConnectionReleased():
            return (Derived(Topic.DISPATCH, pool_key(event.pool), event),)
        case TaskSettled():
            return (
                Derived(Topic.TASK_REPORTS, decision.key, event),
                Derived(Topic.DISPATCH, pool_key(event.pool), event),
            )
        case TaskStopRequested() | TaskParkRequested() | AnswerDelivered():
            return (Derived(Topic.RUNNER_INBOX, decision.key, event, partition=event.inbox_partition),)
        case LoginObserved():
            return (Derived(Topic.REGISTRY_REQUESTS, event.organization_id, event),)
        case _:
            return ()


def step_finished(accepted: StepAccepted) -> WorkflowRunStepFinished:
    """The public side of a step's report."""
    report = accepted.report
    return WorkflowRunStepFinished(
        workflow_run_id=report.workflow_run_id,
        attempt=accepted.attempt,
        path=report.path,
        step_id=report.step_id,
        name=report.name,
        kind=report.kind,
        effect=report.effect,
        status=report.status,
        tries=report.tries,
        started_ms=report.started_ms,
        finished_ms=report.finished_ms,
        output=report.output,
        failure=report.failure,
        screenshot_artifact_id=report.screenshot_artifact_id,
        next_name=report.next_name,
        diagnosis=report.diagnosis,
        provider=accepted.provider,
        test_mode=accepted.test_mode,
    )
