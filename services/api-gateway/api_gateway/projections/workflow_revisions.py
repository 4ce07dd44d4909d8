"""What were the steps of a workflow at revision n?"""

from __future__ import annotations

from api_gateway.projections.change import Change, Fact, Kind, Project, Table
from api_gateway.projections.workflows import document_columns
from kernel.domain.workflow import WorkflowChanged, WorkflowCreated

TABLE = Table("workflow_revisions", ("workflow_id", "revision"))


def _made(fact: Fact) -> Change:
    event: WorkflowCreated | WorkflowChanged = fact.event
    by = event.created_by if isinstance(event, WorkflowCreated) else event.changed_by
    columns = {**document_columns(event.document), "created_ms": fact.time_ms, "created_by": by}
    return Change(Kind.KEEP, TABLE, (event.workflow_id, event.revision), columns)


ON: dict[type, Project] = {WorkflowCreated: _made, WorkflowChanged: _made}
