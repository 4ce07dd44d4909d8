"""`GET /doctor`: every part is asked, and what is wrong is a finding with advice, never an error."""

from __future__ import annotations

import pytest

from api_gateway import doctor
from api_gateway.doctor import DAY_MS, Finding, Verdict
from api_gateway.key_store import KeyStore, NewKey
from api_gateway.principal import Level
from kernel.domain.ids import Incarnation
from kernel.domain.task import RunnerHeartbeat
from kernel.domain.values import Pool
from kernel.errors import Temporary
from tests.support.gateways import ACME, PEPPER, RunningGateway, a_workflow


async def findings(gateway: RunningGateway) -> dict[str, Finding]:
    return {one.check: one for one in await doctor.examine(gateway.services, ACME)}


async def test_an_installation_is_examined_part_by_part(gateway: RunningGateway) -> None:
    answer = await gateway.admin.get("/api/v2/doctor")
    assert answer.status_code == 200
    told = {one["check"]: one for one in answer.json()["findings"]}
    assert set(told) >= {"database", "schema", "log", "read models", "storage", "vault", "clock", "secrets", "egress"}
    # The secrets of this gateway are those of a test.
    assert [name for name, one in told.items() if one["verdict"] == "failed"] == ["secrets"]
    assert answer.json()["verdict"] == "failed"
    assert [one for one in told.values() if (one["advice"] is None) != (one["verdict"] == "ok")] == []
    assert answer.json()["now"].endswith("Z")


async def test_only_an_admin_may_ask(gateway: RunningGateway) -> None:
    assert (await gateway.api.get("/api/v2/doctor")).status_code == 403
    assert (await gateway.stranger.get("/api/v2/doctor")).status_code == 401


async def test_a_missing_table_step_is_told(gateway: RunningGateway) -> None:
    newest = "SELECT MAX(number) FROM schema_migrations WHERE component = m.component"
    await gateway.services.db.execute(
        f"DELETE FROM schema_migrations AS m WHERE component = 'api_gateway' AND number = ({newest})"
    )
    found = (await findings(gateway))["schema"]
    assert found.verdict is Verdict.FAILED
    assert "not migrated" in found.message


async def test_bytes_that_come_back_changed_are_told(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def other_bytes(_store: object, _sha256: str) -> bytes:
        return b"other"

    monkeypatch.setattr(type(gateway.services.store), "get_bytes", other_bytes)
    assert (await findings(gateway))["storage"].verdict is Verdict.FAILED


async def test_a_part_that_is_away_is_a_finding_and_the_others_answer(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_store: object, _value: bytes, _header: object) -> None:
        raise Temporary("store_away", "the store is away")

    monkeypatch.setattr(type(gateway.services.store), "put_bytes", away)
    found = await findings(gateway)
    assert (found["storage"].verdict, found["storage"].message) == (Verdict.FAILED, "store_away: the store is away")
    assert found["database"].verdict is Verdict.OK


async def test_a_clock_that_was_set_back_is_told(gateway: RunningGateway) -> None:
    assert (await findings(gateway))["clock"].verdict is Verdict.OK
    await a_workflow(gateway.api)
    gateway.clock.ahead_ms = -60_000  # Where the log has a clock of its own, that one goes on.
    found = (await findings(gateway))["clock"]
    assert found.verdict is Verdict.WARNING
    assert "ahead of the clock" in found.message


async def test_default_secrets_are_refused(gateway: RunningGateway) -> None:
    found = (await findings(gateway))["secrets"]
    assert found.verdict is Verdict.FAILED
    assert "pepper" in found.message


async def test_api_keys_older_than_a_year_are_told_until_they_are_revoked(gateway: RunningGateway) -> None:
    assert (await findings(gateway))["API keys"].message == "3 valid, none older than a year"
    gateway.clock.ahead_ms = 366 * DAY_MS
    found = (await findings(gateway))["API keys"]
    assert found.verdict is Verdict.WARNING
    assert found.message.startswith("3 of 3 older than a year, the oldest ")
    assert found.message.endswith(" with 366 days")
    store = KeyStore(gateway.services.db, PEPPER, gateway.clock, gateway.services.entropy)
    fresh = await store.create(ACME, NewKey(Level.ADMIN))
    for key in (await store.list(ACME, 10, 0))[0]:
        if key.id != fresh.answer.id:
            await store.revoke(ACME, key.id)
    assert (await findings(gateway))["API keys"].message == "1 valid, none older than a year"


async def test_a_kind_of_runner_that_nobody_offers_is_told(gateway: RunningGateway) -> None:
    slots, now_ms = gateway.services.slots, gateway.clock.boot_ms()
    assert "so far" in (await findings(gateway))["runners"].message
    slots.begin(now_ms - 60_000)
    slots.heard(RunnerHeartbeat(Incarnation("r"), "h", Pool.LIGHT, 0, 4, False, (), 0), now_ms)
    found = (await findings(gateway))["runners"]
    assert (found.verdict, found.message) == (Verdict.WARNING, "none of kind browser")
    slots.heard(RunnerHeartbeat(Incarnation("r"), "h", Pool.BROWSER, 0, 2, False, (), 0), now_ms)
    assert (await findings(gateway))["runners"].message == "browser: 1 with 2 slots, light: 1 with 4 slots"
