"""How providers do, for people: what the registry has decided, and the counts of the newest minutes.

The status is a fact and changes rarely; the windows are counted as of now, so they run on while nothing is decided.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from kernel import health_rows
from kernel.clock import Clock
from kernel.domain.health_windows import windows_of
from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.domain.provider_health import HealthWindow, ProviderStatus
from kernel.sql.port import Database


class HealthStatus(StrEnum):
    """What is said of a provider."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNKNOWN = "unknown"
    """No run has told anything within the longest window, and nothing was decided that still stands."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The newest decision about a provider; `recovered_ms` 0 as long as it is degraded."""

    status: ProviderStatus
    degraded_ms: int
    recovered_ms: int


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """`since_ms` is when the status was decided, 0 when it never was."""

    status: HealthStatus
    since_ms: int
    windows: tuple[HealthWindow, ...]


@dataclass(frozen=True, slots=True)
class ProviderHealths:
    """Asked under an organization; a provider nobody ever ran at is unknown."""

    db: Database
    clock: Clock

    async def of(
        self, organization: OrganizationId, slugs: Collection[ProviderSlug]
    ) -> dict[ProviderSlug, HealthAnswer]:
        """The health of each of these providers, as it is now."""
        rows = await health_rows.rows_of(self.db, organization, slugs)
        decided = await self._decided(organization, slugs)
        now_ms = self.clock.now_ms()
        return {
            slug: _answer(decided.get(slug), windows_of([row for row in rows if row.provider == slug], now_ms))
            for slug in slugs
        }

    async def one(self, organization: OrganizationId, slug: ProviderSlug) -> HealthAnswer:
        """The health of one provider, as it is now."""
        return (await self.of(organization, [slug]))[slug]

    async def decided(self, organization: OrganizationId, slug: ProviderSlug) -> Decided | None:
        """What was decided last; None when nothing ever was."""
        return (await self._decided(organization, [slug])).get(slug)

    async def _decided(
        self, organization: OrganizationId, slugs: Collection[ProviderSlug]
    ) -> dict[ProviderSlug, Decided]:
        if not slugs:
            return {}
        marks = ", ".join("?" * len(slugs))
        found = await self.db.fetch_all(
            "SELECT slug, status, degraded_ms, recovered_ms FROM provider_health WHERE organization_id = ?"  # noqa: S608 (marks only)
            f" AND slug IN ({marks})",
            (organization, *slugs),
        )
        return {
            slug: Decided(ProviderStatus(status), degraded, recovered) for slug, status, degraded, recovered in found
        }


def _answer(decided: Decided | None, windows: tuple[HealthWindow, ...]) -> HealthAnswer:
    if decided is not None and decided.status is ProviderStatus.DEGRADED:
        return HealthAnswer(HealthStatus.DEGRADED, decided.degraded_ms, windows)
    if windows[-1].success_percent is None:
        return HealthAnswer(HealthStatus.UNKNOWN, 0, windows)
    return HealthAnswer(HealthStatus.HEALTHY, decided.recovered_ms if decided else 0, windows)
