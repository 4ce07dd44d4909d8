"""What people ask of runs: start, cancel, answer. Pure."""

from __future__ import annotations

from kernel.domain.ids import JobRunId
from kernel.domain.input_request import InputAnswerSubmitted, InputRequestAnswered
from kernel.domain.job_run import (
    JobRunCreated,
    JobRunRequested,
    JobRunStarted,
    RunCancelAccepted,
    RunCancelRequested,
    RunPlanned,
    RunRequestRejected,
)
from kernel.domain.task import Answer, AnswerDelivered, AnswerKept, DeadlineMoved
from kernel.domain.values import Failure
from kernel.domain.workflow_run import (
    WorkflowRunRequested,
    WorkflowRunRequeued,
    WorkflowRunResumed,
    WorkflowRunStatus,
)
from scheduler.advance.build import Pen
from scheduler.advance.state import LiveRun, Phase, Tombstone

Request = JobRunRequested | WorkflowRunRequested | RunCancelRequested | InputAnswerSubmitted


def on_request(pen: Pen, request: Request) -> None:
    """Decide one request; a repeated one finds its first outcome and writes nothing."""
    match request:
        case JobRunRequested():
            _start_job_run(pen, request)
        case WorkflowRunRequested():
            _start_workflow_run(pen, request)
        case RunCancelRequested():
            _cancel(pen, request)
        case InputAnswerSubmitted():
            _answer(pen, request)


def _reject(pen: Pen, request: Request, code: str, message: str) -> None:
    pen.note(RunRequestRejected(request.request_id, pen.key, code, message))


def _refused(pen: Pen, request: JobRunRequested | WorkflowRunRequested) -> bool:
    """Whether this start is a repeat (silently) or comes too late or for a taken id (rejected)."""
    if pen.run is not None:
        first = pen.run.planned.request_id if isinstance(pen.run, LiveRun) else pen.run.request_id
        if first and first != request.request_id:
            _reject(pen, request, "run_exists", "A run with this id exists already.")
        return True
    if pen.context.now_ms > request.valid_until_ms:
        _reject(pen, request, "request_expired", "The request was read after its time; ask again.")
        return True
    return False


def _start_job_run(pen: Pen, request: JobRunRequested) -> None:
    if _refused(pen, request):
        return
    if not request.plan:
        _reject(pen, request, "empty_job", "The job names no workflow.")
        return
    if not 0 <= request.first_position < len(request.plan):
        _reject(pen, request, "invalid_parameter", "The run would begin at a workflow that it does not have.")
        return
    pen.write(
        RunPlanned(
            root_run_id=pen.key,
            request_id=request.request_id,
            organization_id=request.organization_id,
            subject_id=request.subject_id,
            external_id=request.external_id,
            job_run_id=request.job_run_id,
            plan=request.plan,
            test_mode=request.test_mode,
            created_by=request.created_by,
            retry_of=request.retry_of,
            priority=request.priority,
            created_ms=pen.context.now_ms,
            first_position=request.first_position,
        )
    )
    pen.write(
        JobRunCreated(
            job_run_id=request.job_run_id,
            job_id=request.job_id,
            organization_id=request.organization_id,
            subject_id=request.subject_id,
            external_id=request.external_id,
            workflow_ids=tuple(workflow.workflow_id for workflow in request.plan),
            workflow_revisions=tuple(workflow.revision for workflow in request.plan),
            test_mode=request.test_mode,
            created_by=request.created_by,
            retry_of=request.retry_of,
            request_id=request.request_id,
            first_position=request.first_position,
            inputs=tuple(workflow.inputs for workflow in request.plan),
        )
    )
    pen.write(JobRunStarted(request.job_run_id))
    pen.create_workflow_run(request.first_position)
    pen.request_attempt()


def _start_workflow_run(pen: Pen, request: WorkflowRunRequested) -> None:
    if _refused(pen, request):
        return
    pen.write(
        RunPlanned(
            root_run_id=pen.key,
            request_id=request.request_id,
            organization_id=request.organization_id,
            subject_id=request.subject_id,
            external_id=request.external_id,
            job_run_id=JobRunId(""),
            plan=(request.workflow,),
            test_mode=request.test_mode,
            created_by=request.created_by,
            retry_of=request.retry_of,
            priority=request.priority,
            created_ms=pen.context.now_ms,
        )
    )
    pen.create_workflow_run(0)
    pen.request_attempt()


def _cancel(pen: Pen, request: RunCancelRequested) -> None:
    run = pen.run
    if run is None:
        _reject(pen, request, "not_found", "There is no such run.")
    elif isinstance(run, Tombstone):
        if run.outcome == WorkflowRunStatus.CANCELLED:
            _reject(pen, request, "already_cancelled", "The run is cancelled already.")
        else:
            _reject(pen, request, "run_already_ended", "The run has ended.")
    elif run.current is not None and run.current.last_cancel_request == request.request_id:
        return  # A repetition: its first outcome stands.
    elif pen.context.now_ms > request.valid_until_ms:
        _reject(pen, request, "request_expired", "The request was read after its time; ask again.")
    else:
        pen.write(RunCancelAccepted(request.request_id, pen.key))
        pen.begin_ending(WorkflowRunStatus.CANCELLED, Failure(code="cancelled"))


def _answer(pen: Pen, request: InputAnswerSubmitted) -> None:
    run = pen.run
    if not isinstance(run, LiveRun) or run.current is None:
        _reject(pen, request, "input_already_answered", "The question is not open any more.")
        return
    current, question = run.current, run.current.question
    if current.last_answer_request == request.request_id:
        return
    if question is None or question.input_request_id != request.input_request_id or current.ending is not None:
        _reject(pen, request, "input_already_answered", "The question is not open any more.")
        return
    if pen.context.now_ms > request.valid_until_ms:
        _reject(pen, request, "request_expired", "The answer was read after its time; answer again.")
        return
    answer = Answer(question.path, question.input_request_id, request.values)
    pen.write(InputRequestAnswered(question.input_request_id, request.answered_by, request.request_id))
    pen.write(AnswerKept(pen.key, current.workflow_run_id, answer, request.request_id))
    _resume(pen, answer)


def _resume(pen: Pen, answer: Answer) -> None:
    """Give the answer to the page that is held, or to the next attempt."""
    current = pen.current
    if current.phase is Phase.HELD:
        pen.note(AnswerDelivered(current.task_id, current.token, current.inbox_partition, answer))
        pen.write(WorkflowRunResumed(current.workflow_run_id))
        if current.remaining_ms:
            moved = pen.context.now_ms + current.remaining_ms
            pen.write(DeadlineMoved(pen.key, current.workflow_run_id, moved))
        return
    pen.write(WorkflowRunRequeued(current.workflow_run_id, "answered"))
    if current.phase is Phase.PARKED:
        pen.request_attempt()
