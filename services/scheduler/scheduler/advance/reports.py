"""What is read in `task_reports`: assignments, lapses, settlings, and what runners say. Pure.

A report counts only under the newest token, in gapless number, and before the lapse or settling of that token was read
(design 6.4). What does not count is recorded as ignored.
"""

from __future__ import annotations

from kernel.domain.artifact import ArtifactCreated, StagedArtifact
from kernel.domain.ids import Incarnation, InputRequestId
from kernel.domain.input_request import InputRequestOpened
from kernel.domain.task import (
    AttemptAssigned,
    AttemptLapsed,
    AttemptSettling,
    HoldStarted,
    Report,
    ReportIgnored,
    StepAccepted,
    StepChecked,
    StepFinished,
    StepStarted,
    StepUnknownCleared,
    TaskAssigned,
    TaskEnded,
    TaskLeaseLapsed,
    TaskParked,
    TaskReleased,
    TaskSettled,
    TaskStarted,
    TaskStopped,
    TaskStopRequested,
    TaskSuspended,
)
from kernel.domain.workflow_run import (
    ENDED_WELL,
    StepStatus,
    WorkflowRunAwaitingUserInput,
    WorkflowRunRequeued,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepStarted,
)
from scheduler.advance.build import Pen
from scheduler.advance.state import ACTIVE, Current, LiveRun, Phase
from scheduler.advance.waits import next_move
from scheduler.timers import WAIT_AFTER_DEATH_MS, WAIT_MS

# ---------------------------------------------------------------- what fences


def on_assigned(pen: Pen, assigned: TaskAssigned) -> None:
    """The wanted attempt has a runner; an unwanted one is answered with `stop` and `settled`."""
    run = pen.run
    if not isinstance(run, LiveRun) or run.current is None:
        pen.note(TaskStopRequested(assigned.task_id, assigned.token, assigned.inbox_partition))
        pen.note(TaskSettled(assigned.task_id, pen.key, assigned.token, assigned.request.pool))
        return
    current = run.current
    if assigned.token != current.token:
        return
    if current.phase is Phase.CLOSING:
        pen.note(TaskStopRequested(assigned.task_id, assigned.token, assigned.inbox_partition))
    if current.phase is not Phase.QUEUED:
        return
    _take(pen, assigned.incarnation, assigned.inbox_partition)


def _take(pen: Pen, incarnation: Incarnation, inbox_partition: int) -> None:
    """A runner has the wanted attempt: learnt from the assignment, or from the runner when that is read first."""
    current, now = pen.current, pen.context.now_ms
    if current.remaining_ms:
        deadline = now + current.remaining_ms
    else:
        deadline = current.deadline_ms or now + pen.live.workflow.timeout_seconds * 1000
    task_id, workflow_run_id = current.task_id, current.workflow_run_id
    pen.write(AttemptAssigned(task_id, pen.key, workflow_run_id, incarnation, inbox_partition, deadline))
    if current.ending is not None:
        pen.stop_runner()


def on_lapsed(pen: Pen, lapsed: TaskLeaseLapsed) -> None:
    """From here on no report of this token counts; the next attempt waits for the fence."""
    run = pen.run
    if not isinstance(run, LiveRun) or run.current is None or lapsed.token != run.current.token:
        return
    current, now = run.current, pen.context.now_ms
    if current.phase is Phase.CLOSING:
        # A wait that `settled` has begun goes on; a late success counted until here, and no more.
        wait_until = current.wait_until_ms or now + WAIT_MS
        pen.write(AttemptLapsed(current.task_id, pen.key, current.workflow_run_id, current.token, wait_until))
        return
    if current.phase not in ACTIVE:
        return
    waits = {"died": WAIT_AFTER_DEATH_MS, "withdrawn": 0}
    wait_until = now + waits.get(lapsed.proof, WAIT_MS)
    pen.write(AttemptLapsed(current.task_id, pen.key, current.workflow_run_id, current.token, wait_until))
    if current.status is WorkflowRunStatus.IN_PROGRESS:
        pen.write(WorkflowRunRequeued(current.workflow_run_id, "lapsed", wait_until))
    if wait_until == now:
        next_move(pen)


def on_settled(pen: Pen, settled: TaskSettled) -> None:
    """Our own `settled`, read back: W is counted from here."""
    run = pen.run
    if not isinstance(run, LiveRun) or run.current is None or settled.token != run.current.token:
        return
    current = run.current
    if current.phase is Phase.CLOSING and current.wait_until_ms == 0:
        wait_until = pen.context.now_ms + WAIT_MS
        pen.write(AttemptSettling(current.task_id, pen.key, current.workflow_run_id, wait_until))


# ---------------------------------------------------------------- what runners say

_WORKING = frozenset({Phase.RUNNING})
PLACES: dict[type, frozenset[Phase]] = {
    TaskStarted: frozenset({Phase.QUEUED, Phase.ASSIGNED}),
    StepStarted: _WORKING,
    StepFinished: _WORKING,
    StepChecked: _WORKING,
    TaskSuspended: _WORKING,
    TaskParked: frozenset({Phase.RUNNING, Phase.HELD, Phase.PARKING}),
    TaskReleased: ACTIVE,
    TaskStopped: ACTIVE,
    TaskEnded: frozenset({Phase.RUNNING, Phase.HELD, Phase.PARKING}),
}
"""In which phase each report may be read."""


def on_report(pen: Pen, report: Report) -> None:
    """Accept a report, or record why it does not count."""
    reason = why_ignored(pen, report)
    if reason == "repeated":
        return
    if reason:
        pen.note(ReportIgnored(report.task_id, pen.key, report.token, type(report).__name__, reason))
        if reason in {"gap", "out_of_place"}:
            _close_untrusted(pen)
        return
    match report:
        case TaskStarted():
            _started(pen, report)
        case StepStarted() | StepChecked() | StepFinished():
            _step(pen, report)
        case TaskSuspended():
            _suspended(pen, report)
        case TaskEnded():
            _ended(pen, report)
        case TaskParked() | TaskReleased() | TaskStopped():
            _handed_back(pen, report)


def why_ignored(pen: Pen, report: Report) -> str:
    """Empty when the report counts."""
    run = pen.run
    if not isinstance(run, LiveRun) or run.current is None:
        return "run_ended"
    current = run.current
    if report.token != current.token:
        return "old_token"
    if current.phase is Phase.CLOSING:
        return "" if _is_late_success(current, report) else "settled"
    if current.phase not in ACTIVE:
        return "lapsed" if current.phase is Phase.FENCED else "settled"
    if report.number <= current.reports:
        return "repeated"
    if report.number != current.reports + 1:
        return "gap"
    return "" if _is_in_place(current, report) else "out_of_place"


def _is_in_place(current: Current, report: Report) -> bool:
    """Whether the protocol allows this report now; only a faulty runner breaks it."""
    if isinstance(report, TaskStarted) != (report.number == 1) and not isinstance(report, TaskReleased | TaskStopped):
        return False
    if isinstance(report, TaskEnded) and report.status in ENDED_WELL:
        return current.phase is Phase.RUNNING
    return current.phase in PLACES[type(report)]


def _is_late_success(current: Current, report: Report) -> bool:
    """A success that was reported while its cancelled attempt was being settled stands: it has happened."""
    return (
        isinstance(report, TaskEnded)
        and report.status in ENDED_WELL
        and current.ending is not None
        and current.status is WorkflowRunStatus.IN_PROGRESS
        and report.number > current.reports
    )


def _close_untrusted(pen: Pen) -> None:
    """Something this runner said is missing or out of place, so nothing it says can be trusted to be exact: a lapse."""
    pen.stop_runner()
    if pen.current.status is WorkflowRunStatus.IN_PROGRESS:
        # W begins when `settled` was read back, so this is the earliest time.
        pen.write(WorkflowRunRequeued(pen.current.workflow_run_id, "lapsed", pen.context.now_ms + WAIT_MS))
    pen.settle_without_word()


def _started(pen: Pen, report: TaskStarted) -> None:
    if pen.current.phase is Phase.QUEUED:
        _take(pen, report.incarnation, report.inbox_partition)
    first_name = "" if pen.current.entries else report.first_name
    pen.write(WorkflowRunStarted(report.workflow_run_id, report.token.attempt, first_name))


def _step(pen: Pen, report: StepStarted | StepChecked | StepFinished) -> None:
    match report:
        case StepStarted():
            pen.write(
                WorkflowRunStepStarted(
                    report.workflow_run_id,
                    report.token.attempt,
                    report.path,
                    report.step_id,
                    report.name,
                    report.effect,
                    report.kind,
                )
            )
        case StepChecked():
            pen.write(StepUnknownCleared(pen.key, report.workflow_run_id, report.path))
        case StepFinished():
            known = any(
                entry.path == report.path and entry.status is StepStatus.COMPLETED for entry in pen.current.entries
            )
            live = pen.live
            pen.write(StepAccepted(report, report.token.attempt, live.workflow.provider, live.planned.test_mode))
            if not known:
                _create_artifacts(pen, report.artifacts, report.step_id)


def _create_artifacts(pen: Pen, staged: tuple[StagedArtifact, ...], step_id: str) -> None:
    planned, workflow = pen.live.planned, pen.live.workflow
    for artifact in staged:
        pen.write(
            ArtifactCreated(
                artifact_id=artifact.artifact_id,
                workflow_run_id=workflow.workflow_run_id,
                job_run_id=planned.job_run_id,
                workflow_id=workflow.workflow_id,
                organization_id=planned.organization_id,
                subject_id=planned.subject_id,
                step_id=step_id,
                type=artifact.type,
                display_name=artifact.display_name,
                mime_type=artifact.mime_type,
                size=artifact.size,
                sha256=artifact.sha256,
            )
        )


def _suspended(pen: Pen, report: TaskSuspended) -> None:
    planned, now = pen.live.planned, pen.context.now_ms
    input_request_id = InputRequestId(pen.context.derived_id("input_request", report.path))
    expires_ms = now + report.answer_seconds * 1000
    pen.write(
        HoldStarted(
            report.task_id, pen.key, report.workflow_run_id, report.path, input_request_id, now,
            now + report.hold_seconds * 1000, expires_ms,
        )
    )  # fmt: skip
    pen.write(
        InputRequestOpened(
            input_request_id=input_request_id,
            workflow_run_id=report.workflow_run_id,
            job_run_id=planned.job_run_id,
            organization_id=planned.organization_id,
            subject_id=planned.subject_id,
            external_id=planned.external_id,
            step_id=report.step_id,
            kind=report.kind,
            prompt=report.prompt,
            fields=report.fields,
            attempt=report.ask_attempt,
            expires_ms=expires_ms,
        )
    )
    pen.write(WorkflowRunAwaitingUserInput(report.workflow_run_id, input_request_id))


def _ended(pen: Pen, report: TaskEnded) -> None:
    ending, was_settled = pen.current.ending, pen.current.phase is Phase.CLOSING
    if not was_settled:
        pen.settle()
    _create_artifacts(pen, report.artifacts, report.failure.step_id)
    if ending is not None and report.status not in ENDED_WELL:
        pen.end_as_asked()
    else:
        pen.end_workflow_run(report.status, report.failure, report.output)


def _handed_back(pen: Pen, report: TaskParked | TaskReleased | TaskStopped) -> None:
    """The attempt ended in good order: nothing of it can act, so nothing is waited for."""
    current = pen.current
    pen.settle()
    _create_artifacts(pen, report.artifacts, "")
    if current.ending is not None:
        pen.end_as_asked()
        return
    match report:
        case TaskParked():
            pen.park()
            if current.status is WorkflowRunStatus.IN_PROGRESS:
                pen.write(WorkflowRunRequeued(current.workflow_run_id, "answered"))
            if current.answers or current.question is None:
                pen.request_attempt()
        case TaskReleased(not_before_ms=not_before) if not_before > pen.context.now_ms:
            pen.write(WorkflowRunRequeued(current.workflow_run_id, "delayed", not_before))
            pen.park(not_before)
        case _:
            if current.question is not None and not current.answers:
                pen.park()
                return
            if current.status is WorkflowRunStatus.IN_PROGRESS:
                pen.write(WorkflowRunRequeued(current.workflow_run_id, "released"))
            pen.request_attempt()
