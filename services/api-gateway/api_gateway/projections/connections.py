"""Which logins are there, and are they good?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from kernel.domain.connection import ConnectionCreated, ConnectionHealth, ConnectionLoginRecorded, LoginOutcome

TABLE = Table("connections", ("id",))


def _created(fact: Fact) -> Change:
    event: ConnectionCreated = fact.event
    columns: dict[str, Cell] = {
        "organization_id": event.organization_id,
        "subject_id": event.subject_id,
        "external_id": event.external_id.box,
        "provider": event.provider,
        "health": ConnectionHealth.UNKNOWN.value,
        "created_ms": fact.time_ms,
    }
    return Change(Kind.PUT, TABLE, (event.connection_id,), columns)


def _recorded(fact: Fact) -> Change:
    event: ConnectionLoginRecorded = fact.event
    columns: dict[str, Cell] = {
        "health": event.health.value,
        "failed_attempts": event.failed_attempts,
        "last_checked_ms": event.observed_ms,
    }
    if event.outcome is LoginOutcome.SUCCEEDED:
        columns["last_login_ms"] = event.observed_ms
    return Change(Kind.PATCH, TABLE, (event.connection_id,), columns)


ON: dict[type, Project] = {ConnectionCreated: _created, ConnectionLoginRecorded: _recorded}
