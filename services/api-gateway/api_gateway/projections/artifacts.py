"""Which artifacts did runs produce?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from kernel.domain.artifact import ArtifactCreated

TABLE = Table("artifacts", ("id",))


def _created(fact: Fact) -> Change:
    event: ArtifactCreated = fact.event
    columns: dict[str, Cell] = {
        "organization_id": event.organization_id,
        "workflow_id": event.workflow_id,
        "workflow_run_id": event.workflow_run_id,
        "job_run_id": event.job_run_id,
        "subject_id": event.subject_id,
        "step_id": event.step_id,
        "type": event.type,
        "display_name": event.display_name.box,
        "mime_type": event.mime_type,
        "size": event.size,
        "sha256": event.sha256,
        "created_ms": fact.time_ms,
    }
    return Change(Kind.KEEP, TABLE, (event.artifact_id,), columns)


ON: dict[type, Project] = {ArtifactCreated: _created}
