"""`health` of a provider: decided by the registry, counted as of now, and no part of what people edit."""

from __future__ import annotations

import asyncio
from typing import Any

from api_gateway.surfaces.api_v2.views import stamp
from kernel import health_rows
from kernel.domain.health_windows import MINUTE_MS, HealthRow, Tally, step_bucket
from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.domain.provider_health import ProviderHealthObserved, Verdict
from scheduler.health import observe
from scheduler.health_book import Observation
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.gateways import ACME, RunningGateway, made

GUSTO = ProviderSlug("gusto")
Json = dict[str, Any]


async def count(gateway: RunningGateway, tally: Tally, offset: int, organization: OrganizationId = ACME) -> HealthRow:
    """Outcomes of this minute, as the health process writes them."""
    now_ms = gateway.clock.now_ms()
    row = HealthRow(organization, GUSTO, 0, offset, now_ms, {now_ms // MINUTE_MS: tally})
    await gateway.services.db.transaction([health_rows.keep(row)])
    return row


async def tell(gateway: RunningGateway, row: HealthRow, verdict: Verdict) -> ProviderHealthObserved:
    place = row.organization_id, row.provider
    observed = observe(place, [row])
    assert observed is not None
    log = gateway.services.log
    partitions = log.partitions("registry_requests")
    await log.append([Observation(place, observed, verdict).record(partitions, gateway.clock.now_ms())])
    return observed


async def health(gateway: RunningGateway, status: str) -> Json:
    """The health of the provider as soon as it has this status."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found: Json = (await gateway.reader.get("/api/v2/providers/gusto")).json()["health"]
            if found["status"] == status:
                return found
            await asyncio.sleep(0.002)


async def test_an_outage_is_seen_from_its_beginning_to_its_end(gateway: RunningGateway) -> None:
    await made(gateway.admin, "/providers", {"slug": "gusto"})
    unknown = await health(gateway, "unknown")
    assert unknown["since"] is None
    assert [window["minutes"] for window in unknown["windows"]] == [1, 15, 60]
    assert unknown["windows"][0] == {
        "minutes": 1, "succeeded": 0, "failed": 0, "other": 0, "successRate": None,
        "logins": {"succeeded": 0, "rejected": 0, "failed": 0}, "steps": 0, "stepP95Ms": None,
    }  # fmt: skip
    bad = Tally(succeeded=1, failed=7, other=2, logins_failed=3, logins_rejected=1, steps={step_bucket(900): 4})
    began = await tell(gateway, await count(gateway, bad, 1), Verdict.FAILING)
    degraded = await health(gateway, "degraded")
    assert degraded["since"] == stamp(began.observed_ms)
    assert degraded["windows"][1] == {
        "minutes": 15, "succeeded": 1, "failed": 7, "other": 2, "successRate": 0.12,
        "logins": {"succeeded": 0, "rejected": 1, "failed": 3}, "steps": 4, "stepP95Ms": 1000,
    }  # fmt: skip
    gateway.clock.ahead_ms = 20 * MINUTE_MS
    ended = await tell(gateway, await count(gateway, Tally(succeeded=5), 2), Verdict.WORKING)
    assert (await health(gateway, "healthy"))["since"] == stamp(ended.observed_ms)
    listed = (await gateway.reader.get("/api/v2/providers")).json()["data"]
    assert [each["health"]["status"] for each in listed] == ["healthy"]
    gateway.clock.ahead_ms = 120 * MINUTE_MS
    assert (await health(gateway, "unknown"))["since"] is None


async def test_an_editor_is_not_disturbed_by_runs_that_end_meanwhile(gateway: RunningGateway) -> None:
    await made(gateway.admin, "/providers", {"slug": "gusto"})
    before = await gateway.reader.get("/api/v2/providers/gusto")
    await count(gateway, Tally(succeeded=5), 1)
    tag = {"If-None-Match": before.headers["etag"]}
    assert (await gateway.reader.get("/api/v2/providers/gusto", headers=tag)).status_code == 200
    named = {"If-Match": before.headers["etag"]}
    changed = await gateway.admin.patch("/api/v2/providers/gusto", json={"concurrency": 2}, headers=named)
    assert changed.status_code == 200
    again = await gateway.admin.patch("/api/v2/providers/gusto", json={"concurrency": 3}, headers=named)
    assert again.status_code == 412


async def test_another_organizations_runs_say_nothing_here(gateway: RunningGateway) -> None:
    await made(gateway.admin, "/providers", {"slug": "gusto"})
    await made(gateway.rival_admin, "/providers", {"slug": "gusto"})
    await tell(gateway, await count(gateway, Tally(failed=9), 1), Verdict.FAILING)
    await health(gateway, "degraded")
    rival = (await gateway.rival.get("/api/v2/providers/gusto")).json()["health"]
    assert (rival["status"], rival["windows"][2]["failed"]) == ("unknown", 0)
