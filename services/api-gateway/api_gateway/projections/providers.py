"""Which providers are registered, and where may runs at them go?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from api_gateway.projections.lists import text_list
from kernel.domain.provider import ProviderDeleted, ProviderRegistered

TABLE = Table("providers", ("organization_id", "slug"))


def _registered(fact: Fact) -> Change:
    event: ProviderRegistered = fact.event
    columns: dict[str, Cell] = {
        "display_name": event.display_name,
        "login_url": event.login_url,
        "allowed_domains": text_list(event.allowed_domains),
        "logo_url": event.logo_url,
        "default_job_id": event.default_job_id,
        "concurrency": event.concurrency,
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "deleted_ms": 0,
    }
    if fact.sequence == 1:
        columns["created_ms"] = fact.time_ms
    return Change(Kind.PUT, TABLE, (event.organization_id, event.slug), columns)


def _deleted(fact: Fact) -> Change:
    """The row stays, unseen, until the slug is registered again."""
    event: ProviderDeleted = fact.event
    columns: dict[str, Cell] = {
        "updated_ms": fact.time_ms,
        "version": fact.sequence,
        "deleted_ms": fact.time_ms,
    }
    return Change(Kind.PATCH, TABLE, (event.organization_id, event.slug), columns)


ON: dict[type, Project] = {ProviderRegistered: _registered, ProviderDeleted: _deleted}
