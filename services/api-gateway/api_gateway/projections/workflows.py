"""Which workflows are there, and how do they stand now?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from kernel.domain.values import Document
from kernel.domain.workflow import WorkflowArchived, WorkflowChanged, WorkflowCreated, WorkflowStatus

TABLE = Table("workflows", ("id",))


def document_columns(document: Document) -> dict[str, Cell]:
    """A `stepsJson` snapshot, as text or by the digest of its blob."""
    return {"document": document.inline, "document_blob": document.blob, "document_size": document.size}


def _created(fact: Fact) -> Change:
    event: WorkflowCreated = fact.event
    columns: dict[str, Cell] = {
        "organization_id": event.organization_id,
        "name": event.name,
        "name_folded": event.name.casefold(),
        "provider": event.provider,
        "type": event.type.value,
        **document_columns(event.document),
        "revision": event.revision,
        "status": WorkflowStatus.ACTIVE.value,
        "created_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "created_by": event.created_by,
        "updated_by": event.created_by,
    }
    return Change(Kind.PUT, TABLE, (event.workflow_id,), columns)


def _changed(fact: Fact) -> Change:
    event: WorkflowChanged = fact.event
    columns: dict[str, Cell] = {
        "name": event.name,
        "name_folded": event.name.casefold(),
        **document_columns(event.document),
        "revision": event.revision,
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "updated_by": event.changed_by,
    }
    return Change(Kind.PATCH, TABLE, (event.workflow_id,), columns)


def _archived(fact: Fact) -> Change:
    event: WorkflowArchived = fact.event
    columns: dict[str, Cell] = {
        "status": WorkflowStatus.ARCHIVED.value,
        "deleted_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "updated_by": event.archived_by,
    }
    return Change(Kind.PATCH, TABLE, (event.workflow_id,), columns)


ON: dict[type, Project] = {WorkflowCreated: _created, WorkflowChanged: _changed, WorkflowArchived: _archived}
