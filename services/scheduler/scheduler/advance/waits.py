"""What happens when a time has come: fences have closed, holds and questions are over, runs are late. Pure."""

from __future__ import annotations

from kernel.domain.input_request import InputRequestExpired
from kernel.domain.job_run import RunForgotten
from kernel.domain.task import TaskParkRequested
from kernel.domain.values import Failure, SealedBody
from kernel.domain.workflow_run import WorkflowRunStatus
from scheduler.advance.build import Pen
from scheduler.advance.state import ACTIVE, LiveRun, Phase, Tombstone
from scheduler.timers import DEADLINE_SLACK_MS, LAPSES_MAX, PARK_MS


def on_due(pen: Pen) -> None:
    """Decide what is due for this run at the context's time; nothing when nothing is."""
    run, now = pen.run, pen.context.now_ms
    if isinstance(run, Tombstone):
        if now >= run.expires_ms:
            pen.write(RunForgotten(run.root_run_id))
        return
    if not isinstance(run, LiveRun) or run.current is None:
        return
    current = run.current
    if current.phase in {Phase.FENCED, Phase.CLOSING}:
        if 0 < current.wait_until_ms <= now:
            next_move(pen)
    elif current.ending is not None:
        if current.phase in ACTIVE and now >= current.ending.due_ms:
            pen.settle_without_word()
    elif current.question is not None and now >= current.question.expires_ms:
        pen.write(InputRequestExpired(current.question.input_request_id))
        pen.begin_ending(WorkflowRunStatus.FAILED, Failure(code="input_expired"))
    elif current.phase is Phase.HELD and now >= current.hold_until_ms:
        pen.write(TaskParkRequested(current.task_id, current.token, current.inbox_partition))
    elif current.phase is Phase.PARKING and now >= current.hold_until_ms + PARK_MS:
        pen.stop_runner()
        pen.settle_without_word()
    elif current.phase is Phase.PARKED and 0 < current.resume_ms <= now:
        pen.request_attempt()
    elif current.phase in ACTIVE and 0 < current.deadline_ms <= now - DEADLINE_SLACK_MS:
        pen.begin_ending(WorkflowRunStatus.TIMED_OUT, Failure(code="timed_out"))


def next_move(pen: Pen) -> None:
    """The last attempt can reach nothing any more: end, wait for the person, give up, or try again."""
    current = pen.current
    if current.ending is not None:
        pen.end_as_asked()
    elif current.question is not None:
        pen.park()
    elif current.lapses >= LAPSES_MAX:
        pen.end_workflow_run(WorkflowRunStatus.FAILED, Failure(code="runner_lost"), SealedBody())
    else:
        pen.request_attempt()
