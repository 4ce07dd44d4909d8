"""Which providers are degraded, and since when?"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from kernel.domain.provider_health import ProviderDegraded, ProviderRecovered, ProviderStatus

TABLE = Table("provider_health", ("organization_id", "slug"))


def _degraded(fact: Fact) -> Change:
    event: ProviderDegraded = fact.event
    columns: dict[str, Cell] = {
        "status": ProviderStatus.DEGRADED.value,
        "degraded_ms": event.observed_ms,
        "recovered_ms": 0,
    }
    return Change(Kind.PUT, TABLE, (event.organization_id, event.slug), columns)


def _recovered(fact: Fact) -> Change:
    event: ProviderRecovered = fact.event
    columns: dict[str, Cell] = {
        "status": ProviderStatus.HEALTHY.value,
        "degraded_ms": event.degraded_ms,
        "recovered_ms": event.observed_ms,
    }
    return Change(Kind.PUT, TABLE, (event.organization_id, event.slug), columns)


ON: dict[type, Project] = {ProviderDegraded: _degraded, ProviderRecovered: _recovered}
