"""Which jobs are there, and which workflows do they run in which order?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from api_gateway.projections.lists import text_list
from kernel.domain.job import JobChanged, JobCreated, JobDeleted

TABLE = Table("jobs", ("id",))


def _created(fact: Fact) -> Change:
    event: JobCreated = fact.event
    columns: dict[str, Cell] = {
        "organization_id": event.organization_id,
        "name": event.name,
        "provider": event.provider,
        "workflow_ids": text_list(event.workflow_ids),
        "created_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "created_by": event.created_by,
        "updated_by": event.created_by,
    }
    return Change(Kind.PUT, TABLE, (event.job_id,), columns)


def _changed(fact: Fact) -> Change:
    event: JobChanged = fact.event
    columns: dict[str, Cell] = {
        "name": event.name,
        "workflow_ids": text_list(event.workflow_ids),
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "updated_by": event.changed_by,
    }
    return Change(Kind.PATCH, TABLE, (event.job_id,), columns)


def _deleted(fact: Fact) -> Change:
    """The row stays, unseen: a change never takes one away."""
    event: JobDeleted = fact.event
    columns: dict[str, Cell] = {
        "deleted_ms": fact.time_ms,
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "updated_by": event.deleted_by,
    }
    return Change(Kind.PATCH, TABLE, (event.job_id,), columns)


ON: dict[type, Project] = {JobCreated: _created, JobChanged: _changed, JobDeleted: _deleted}
