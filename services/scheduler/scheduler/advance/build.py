"""The pen of `advance`: it writes decisions for one root run and keeps the run as they leave it. Pure."""

from __future__ import annotations

from typing import Any

from kernel.domain.connection import LoginObserved, LoginOutcome
from kernel.domain.decider import Context, Decision
from kernel.domain.ids import TaskId
from kernel.domain.input_request import InputRequestCancelled
from kernel.domain.job_run import (
    JobRunCancelled,
    JobRunCompleted,
    JobRunFailed,
    RunTombstoned,
)
from kernel.domain.plan import WorkflowType
from kernel.domain.task import (
    AttemptParked,
    AttemptSettling,
    ConnectionReleased,
    Journal,
    RunEnding,
    TaskRequested,
    TaskSettled,
    TaskStopRequested,
    TaskWithdrawn,
)
from kernel.domain.values import Failure, SealedBody, Token
from kernel.domain.workflow_run import (
    ENDED_WELL,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunStatus,
)
from scheduler.advance.derive import SEQUENCED
from scheduler.advance.state import WITH_RUNNER, Current, LiveRun, Phase, RunValue, evolve
from scheduler.timers import STOP_MS, TOMBSTONE_MS
from scheduler.weight import TASK_BYTES_MAX, weight_of


class Pen:
    """Decisions for one root run, in order; `run` is the run as they leave it."""

    def __init__(
        self, key: str, run: RunValue | None, context: Context, organization_id: str, correlation_id: str
    ) -> None:
        self.key = key
        self.run = run
        self.context = context
        self.decisions: list[Decision] = []
        self._organization_id = organization_id
        self._correlation_id = correlation_id

    @property
    def live(self) -> LiveRun:
        """The run, which must be live."""
        assert isinstance(self.run, LiveRun)
        return self.run

    @property
    def current(self) -> Current:
        """The workflow run under way, which must exist."""
        current = self.live.current
        assert current is not None
        return current

    def note(self, event: Any) -> None:
        """A decision that does not change the run."""
        self.decisions.append(self._decision(event, 0))

    def write(self, event: Any) -> None:
        """A decision that changes the run; a public fact gets the run's next number."""
        sequence = 0
        if type(event) in SEQUENCED:
            sequence = (self.run.sequence if isinstance(self.run, LiveRun) else 0) + 1
        decision = self._decision(event, sequence)
        self.decisions.append(decision)
        self.run = evolve(self.run, decision)

    def _decision(self, event: Any, sequence: int) -> Decision:
        subject = getattr(event, "workflow_run_id", "") or self.key
        return Decision(event, self.key, sequence, subject, self._organization_id, self._correlation_id)

    # ------------------------------------------------------------ the order of workflows

    def create_workflow_run(self, position: int) -> None:
        """The workflow at `position` gets its run and asks for its first attempt."""
        planned = self.live.planned
        workflow = planned.plan[position]
        self.write(
            WorkflowRunCreated(
                workflow_run_id=workflow.workflow_run_id,
                job_run_id=planned.job_run_id,
                workflow_id=workflow.workflow_id,
                revision=workflow.revision,
                provider=workflow.provider,
                organization_id=planned.organization_id,
                subject_id=planned.subject_id,
                external_id=planned.external_id,
                test_mode=planned.test_mode,
                created_by=planned.created_by,
                retry_of=workflow.retry_of or ("" if planned.job_run_id else planned.retry_of),
                position=position,
                request_id=planned.request_id,
                inputs=workflow.inputs,
                connection_id=workflow.connection_id,
                pool=workflow.pool,
                stop_after_step=workflow.options.stop_after_step,
                keep_open_seconds=workflow.options.keep_open_seconds,
                trace=workflow.options.trace,
            )
        )

    def request_attempt(self) -> None:
        """Ask for a slot for the next attempt, under a fresh token; a task that no record can hold fails the run."""
        run, current = self.live, self.current
        planned, workflow = run.planned, run.workflow
        token = Token(current.token.attempt + 1, self.context.nonce())
        deadline = self.context.now_ms + current.remaining_ms if current.remaining_ms else current.deadline_ms
        request = TaskRequested(
            task_id=TaskId(f"{current.workflow_run_id}/{token.attempt}"),
            root_run_id=self.key,
            workflow_run_id=current.workflow_run_id,
            organization_id=planned.organization_id,
            subject_id=planned.subject_id,
            token=token,
            pool=workflow.pool,
            priority=planned.priority,
            workflow=workflow,
            journal=Journal(current.staged, current.entries, current.unknown),
            answers=current.answers,
            deadline_ms=deadline,
            requested_ms=self.context.now_ms,
        )
        if weight_of(request) > TASK_BYTES_MAX:
            self.end_workflow_run(WorkflowRunStatus.FAILED, Failure(code="task_too_long"), SealedBody())
        else:
            self.write(request)

    # ------------------------------------------------------------ ends of attempts

    def settle(self) -> None:
        """No report of the newest token counts after this."""
        current = self.current
        self.note(TaskSettled(current.task_id, self.key, current.token, self.live.workflow.pool))

    def settle_without_word(self) -> None:
        """Settle the attempt ourselves; W is counted once `settled` was read back."""
        current = self.current
        self.settle()
        self.write(AttemptSettling(current.task_id, self.key, current.workflow_run_id, 0))

    def park(self, resume_ms: int = 0) -> None:
        """No attempt, nothing held; the login is free for others meanwhile."""
        current = self.current
        self.write(AttemptParked(current.task_id, self.key, current.workflow_run_id, resume_ms))
        self.release_connection()

    def release_connection(self) -> None:
        """Free the logins of the workflow under way and of those before it, in every pool that holds one."""
        planned = self.live.planned
        begun = planned.plan[planned.first_position : self.live.position + 1]
        for connection_id, pool in dict.fromkeys((workflow.connection_id, workflow.pool) for workflow in begun):
            if connection_id:
                self.note(ConnectionReleased(connection_id, self.key, pool))

    def stop_runner(self) -> None:
        """Tell the runner to stop the attempt; take it out of the queue if no runner has it."""
        current = self.current
        if current.phase in WITH_RUNNER:
            self.note(TaskStopRequested(current.task_id, current.token, current.inbox_partition))
        elif current.phase is Phase.QUEUED:
            self.note(TaskWithdrawn(current.task_id, self.key, self.live.workflow.pool))

    def begin_ending(self, status: WorkflowRunStatus, failure: Failure) -> None:
        """End with `status` as soon as nothing of the run can act; at once when nothing of it is out."""
        current = self.current
        if current.ending is None:
            self.write(RunEnding(self.key, current.workflow_run_id, status, failure, self.context.now_ms + STOP_MS))
        if current.phase is Phase.PARKED:
            self.end_as_asked()
        else:
            self.stop_runner()

    # ------------------------------------------------------------ ends of runs

    def end_as_asked(self) -> None:
        """Nothing of the run can act any more: it ends as its `RunEnding` says."""
        ending = self.current.ending
        assert ending is not None
        self.end_workflow_run(ending.status, ending.failure, SealedBody())

    def end_workflow_run(self, status: WorkflowRunStatus, failure: Failure, output: SealedBody) -> None:
        """The workflow run ends; the next one begins, or the root run ends with it."""
        run, current = self.live, self.current
        ending = current.ending
        if current.question is not None:
            self.write(InputRequestCancelled(current.question.input_request_id))
        workflow = run.workflow
        place = workflow.provider, workflow.type, run.planned.test_mode
        if status in ENDED_WELL:
            self.write(WorkflowRunCompleted(current.workflow_run_id, status, output, *place))
        else:
            self.write(WorkflowRunFailed(current.workflow_run_id, status, failure, *place))
        self._observe_login(status, failure)
        cancelled = ending is not None and ending.status is WorkflowRunStatus.CANCELLED
        last = run.position + 1 == len(run.planned.plan)
        if status in ENDED_WELL and not cancelled and not last:
            self.create_workflow_run(run.position + 1)
            self.request_attempt()
            return
        self.release_connection()
        self._end_root_run(status, failure, cancelled=cancelled and not (last and status in ENDED_WELL))

    def _end_root_run(self, status: WorkflowRunStatus, failure: Failure, *, cancelled: bool) -> None:
        job_run_id = self.live.planned.job_run_id
        if job_run_id:
            if cancelled:
                self.write(JobRunCancelled(job_run_id))
            elif status in ENDED_WELL:
                self.write(JobRunCompleted(job_run_id))
            else:
                self.write(JobRunFailed(job_run_id, self.current.workflow_run_id, failure))
        outcome = WorkflowRunStatus.CANCELLED if cancelled else status
        self.write(RunTombstoned(self.key, outcome, self.context.now_ms + TOMBSTONE_MS))

    def _observe_login(self, status: WorkflowRunStatus, failure: Failure) -> None:
        workflow, planned = self.live.workflow, self.live.planned
        if workflow.type is not WorkflowType.LOGIN or status is WorkflowRunStatus.CANCELLED or planned.test_mode:
            return
        if workflow.options.stop_after_step and status is WorkflowRunStatus.COMPLETED:
            return  # Stopped on the way: whether the login holds was not seen.
        if not workflow.connection_id or not planned.external_id.box:
            return
        if status is WorkflowRunStatus.COMPLETED:
            outcome = LoginOutcome.SUCCEEDED
        elif status is WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN:
            outcome = LoginOutcome.STILL_VALID
        else:
            outcome = LoginOutcome.REJECTED if failure.code == "login_rejected" else LoginOutcome.FAILED
        self.note(
            LoginObserved(
                connection_id=workflow.connection_id,
                organization_id=planned.organization_id,
                subject_id=planned.subject_id,
                external_id=planned.external_id,
                provider=workflow.provider,
                outcome=outcome,
                workflow_run_id=workflow.workflow_run_id,
                observed_ms=self.context.now_ms,
            )
        )
