"""Where may runs at a provider go?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from api_gateway.projections.lists import text_list
from kernel.domain.provider import ProviderRegistered

TABLE = Table("providers", ("organization_id", "slug"))


def _registered(fact: Fact) -> Change:
    event: ProviderRegistered = fact.event
    columns: dict[str, Cell] = {
        "display_name": event.display_name,
        "login_url": event.login_url,
        "allowed_domains": text_list(event.allowed_domains),
        "updated_ms": fact.time_ms,
    }
    return Change(Kind.PUT, TABLE, (event.organization_id, event.slug), columns)


ON: dict[type, Project] = {ProviderRegistered: _registered}
