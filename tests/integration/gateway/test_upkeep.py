from __future__ import annotations

from pathlib import Path

from api_gateway.upkeep import OUTCOME_KEPT_MS, sweep
from tests.support.gateways import gateway_in, workflow_body


async def test_what_was_kept_for_repetitions_goes_after_its_day(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        services = gateway.services
        await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers={"Idempotency-Key": "k"})

        async def kept() -> list[int]:
            counts = [
                await services.db.fetch_one(f"SELECT count(*) FROM {t}") for t in ("idempotency", "request_outcomes")
            ]
            return [count[0] for count in counts if count]

        await sweep(services.db, gateway.clock)
        assert await kept() == [1, 1]
        gateway.clock.ahead_ms = OUTCOME_KEPT_MS + 1000
        await sweep(services.db, gateway.clock)
        assert await kept() == [0, 0]
