"""What did each attempt of a workflow run do, step by step?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from kernel.domain.workflow_run import WorkflowRunStepFinished, WorkflowRunStepStarted

TABLE = Table("steps", ("workflow_run_id", "attempt", "path"))


def _started(fact: Fact) -> Change:
    event: WorkflowRunStepStarted = fact.event
    columns: dict[str, Cell] = {
        "step_id": event.step_id,
        "name": event.name,
        "kind": event.kind,
        "effect": event.effect.value,
        "started_ms": fact.time_ms,
        "sequence": fact.sequence,
    }
    return Change(Kind.PUT, TABLE, (event.workflow_run_id, event.attempt, event.path), columns)


def _finished(fact: Fact) -> Change:
    event: WorkflowRunStepFinished = fact.event
    columns: dict[str, Cell] = {
        "step_id": event.step_id,
        "name": event.name,
        "kind": event.kind,
        "effect": event.effect.value,
        "status": event.status.value,
        "tries": event.tries,
        "started_ms": event.started_ms,
        "finished_ms": event.finished_ms,
        "error_code": event.failure.code,
        "error_message": event.failure.message.box,
        "screenshot_artifact_id": event.screenshot_artifact_id,
        "sequence": fact.sequence,
    }
    return Change(Kind.PUT, TABLE, (event.workflow_run_id, event.attempt, event.path), columns)


ON: dict[type, Project] = {WorkflowRunStepStarted: _started, WorkflowRunStepFinished: _finished}
