"""Builders of requests, plans and reports, with everything that a test does not care about filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kernel.domain.artifact import StagedArtifact
from kernel.domain.ids import (
    ArtifactId,
    ConnectionId,
    Incarnation,
    InputRequestId,
    JobId,
    JobRunId,
    OrganizationId,
    RequestId,
    SubjectId,
    TaskId,
    UserId,
    WorkflowId,
    WorkflowRunId,
)
from kernel.domain.input_request import InputAnswerSubmitted, InputField
from kernel.domain.job_run import JobRunRequested, RunCancelRequested
from kernel.domain.plan import PlannedWorkflow, WorkflowType
from kernel.domain.task import (
    HeldTask,
    RunnerDied,
    RunnerHeartbeat,
    StepChecked,
    StepFinished,
    StepStarted,
    TaskAssigned,
    TaskEnded,
    TaskLeaseLapsed,
    TaskParked,
    TaskReleased,
    TaskRequested,
    TaskStarted,
    TaskStopped,
    TaskSuspended,
)
from kernel.domain.values import Effect, Failure, Pool, Sealed, SealedBody, Token
from kernel.domain.workflow_run import StepStatus, WorkflowRunRequested, WorkflowRunStatus

NEVER = 1 << 60
VALID_UNTIL_MS = 1_000_000 + 600_000
"""Starts of runs are valid for ten minutes of a bench's clock: well inside a tombstone's life."""
SUBJECT = SubjectId("subject-1")
SEALED = Sealed(SUBJECT, b"sealed")
BODY = SealedBody(SUBJECT, b"body", "", 4)


def planned(
    root: str, position: int, *, login: bool = False, connection: str = "", pool: Pool = Pool.BROWSER
) -> PlannedWorkflow:
    """One workflow of a plan."""
    return PlannedWorkflow(
        workflow_run_id=WorkflowRunId(f"{root}-w{position}"),
        workflow_id=WorkflowId(f"workflow-{position}"),
        revision=1,
        name=f"workflow {position}",
        type=WorkflowType.LOGIN if login else WorkflowType.USER_DEFINED,
        pool=pool,
        connection_id=ConnectionId(connection),
        timeout_seconds=600,
    )


def job_run_requested(
    root: str = "r1", workflows: int = 2, *, connection: str = "login-1", request: str = "", organization: str = "org-1"
) -> JobRunRequested:
    """A job whose first workflow is a LOGIN."""
    return JobRunRequested(
        request_id=RequestId(request or f"request-{root}"),
        job_run_id=JobRunId(root),
        job_id=JobId("job-1"),
        organization_id=OrganizationId(organization),
        subject_id=SUBJECT,
        external_id=SEALED,
        plan=tuple(planned(root, n, login=n == 0, connection=connection) for n in range(workflows)),
        test_mode=False,
        created_by=UserId("user-1"),
        retry_of="",
        priority=0,
        valid_until_ms=VALID_UNTIL_MS,
    )


def workflow_run_requested(root: str = "r1", *, pool: Pool = Pool.LIGHT, request: str = "") -> WorkflowRunRequested:
    """One workflow alone."""
    return WorkflowRunRequested(
        request_id=RequestId(request or f"request-{root}"),
        organization_id=OrganizationId("org-1"),
        subject_id=SUBJECT,
        external_id=SEALED,
        workflow=replace(planned(root, 0, pool=pool), workflow_run_id=WorkflowRunId(root)),
        test_mode=False,
        created_by=UserId("user-1"),
        retry_of="",
        priority=0,
        valid_until_ms=VALID_UNTIL_MS,
    )


def cancel_requested(root: str = "r1", request: str = "cancel-1") -> RunCancelRequested:
    """A person asks to stop the run."""
    return RunCancelRequested(RequestId(request), root, "", UserId("user-1"), NEVER)


def answer_submitted(root: str, input_request_id: str, request: str = "answer-1") -> InputAnswerSubmitted:
    """A person answers."""
    return InputAnswerSubmitted(
        RequestId(request), root, InputRequestId(input_request_id), BODY, UserId("user-1"), NEVER
    )


def assigned(task: TaskRequested, incarnation: str = "runner-1", inbox: int = 0, now_ms: int = 0) -> TaskAssigned:
    """Dispatch gave the task to a runner."""
    return TaskAssigned(
        task.task_id,
        task.root_run_id,
        task.workflow_run_id,
        task.token,
        Incarnation(incarnation),
        inbox,
        now_ms + 4000,
        task,
    )


def lapsed(task: TaskRequested, proof: str = "expired") -> TaskLeaseLapsed:
    """Its lease is over."""
    return TaskLeaseLapsed(task.task_id, task.root_run_id, task.workflow_run_id, task.token, proof)


def heartbeat(
    incarnation: str = "runner-1", *, slots: int = 1, pool: Pool = Pool.BROWSER, held: tuple[HeldTask, ...] = (),
    draining: bool = False, host: str = "host-1", inbox: int = 0,
) -> RunnerHeartbeat:  # fmt: skip
    """A runner is alive."""
    return RunnerHeartbeat(Incarnation(incarnation), host, pool, inbox, slots, draining, held, 0)


def died(incarnation: str = "", *, host: str = "host-1", survivor: str = "", pool: Pool = Pool.BROWSER) -> RunnerDied:
    """A watchdog saw the group dead."""
    return RunnerDied(Incarnation(incarnation), host, Incarnation(survivor), pool)


class Attempt:
    """Speaks as the runner that has `task`, with gapless numbers."""

    def __init__(self, task: TaskRequested, incarnation: str = "runner-1", inbox: int = 0) -> None:
        self.task = task
        self.incarnation = Incarnation(incarnation)
        self.inbox = inbox
        self.number = 0

    @property
    def token(self) -> Token:
        """The token of this attempt."""
        return self.task.token

    def _head(self) -> tuple[TaskId, str, WorkflowRunId, Token, int]:
        self.number += 1
        return (self.task.task_id, self.task.root_run_id, self.task.workflow_run_id, self.task.token, self.number)

    def started(self) -> TaskStarted:
        """Report 1."""
        return TaskStarted(*self._head(), self.incarnation, self.inbox, "first")

    def step_started(self, path: str, effect: Effect = Effect.ONCE) -> StepStarted:
        """A step is about to act."""
        return StepStarted(*self._head(), path, path, path, effect, "click")

    def step(self, path: str, **changes: Any) -> StepFinished:
        """A step ended well, unless `changes` say otherwise."""
        report = StepFinished(
            *self._head(), path=path, step_id=path, name=path, kind="assert", effect=Effect.READ,
            status=StepStatus.COMPLETED, tries=1, started_ms=0, finished_ms=1, output=BODY, failure=Failure(),
            artifacts=(), screenshot_artifact_id="", safe_point=False, url=Sealed(), consumed=False, next_name="",
            journal_staged=SealedBody(), resolved=False,
        )  # fmt: skip
        return replace(report, **changes)

    def checked(self, path: str) -> StepChecked:
        """An unknown step had not happened."""
        return StepChecked(*self._head(), path)

    def suspended(self, path: str = "ask", hold_seconds: int = 600) -> TaskSuspended:
        """The run asks a person."""
        field = InputField("code", "Code", "mfa_code", secret=True, options=(), pattern="")
        return TaskSuspended(*self._head(), path, path, "mfa_code", SEALED, (field,), 1, hold_seconds, 900)

    def parked(self) -> TaskParked:
        """State saved, context closed."""
        return TaskParked(*self._head())

    def released(self, not_before_ms: int = 0) -> TaskReleased:
        """Handed back."""
        return TaskReleased(*self._head(), "delayed" if not_before_ms else "drain", not_before_ms)

    def stopped(self) -> TaskStopped:
        """Obeyed."""
        return TaskStopped(*self._head())

    def ended(self, status: WorkflowRunStatus = WorkflowRunStatus.COMPLETED, code: str = "") -> TaskEnded:
        """The workflow run is over, as the runner sees it."""
        return TaskEnded(*self._head(), status, BODY, Failure(code=code), ())

    def held(self, *, waiting: bool = False) -> HeldTask:
        """What its heartbeat names."""
        return HeldTask(self.task.task_id, self.task.token, waiting)


def artifact(name: str = "a1") -> StagedArtifact:
    """Staged bytes."""
    return StagedArtifact(ArtifactId(name), "download", SEALED, "text/csv", 10, "ab" * 32)
