from __future__ import annotations

import asyncio
from pathlib import Path

from api_gateway.upkeep import OUTCOME_KEPT_MS, SWEEP_SECONDS, keep_house, sweep
from kernel.errors import LogUnavailable, UnknownOutcome
from tests.support.eventually import until
from tests.support.gateways import gateway_in, workflow_body
from tests.support.reports import TestClock


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


async def test_housework_that_a_database_cuts_off_is_done_an_hour_later_by_whose_turn_it_is() -> None:
    clock, ours = TestClock(), [False, True, True, True]
    faults: list[Exception] = [UnknownOutcome("cut off in a commit"), LogUnavailable("still away")]
    done_ms: list[int] = []

    async def tidy() -> None:
        if faults:
            raise faults.pop()
        done_ms.append(clock.now_ms())
        await asyncio.Event().wait()

    began_ms = clock.now_ms()
    keeping = asyncio.create_task(keep_house(tidy, clock, lambda: ours.pop(0)))
    await until(lambda: done_ms or keeping.done())
    keeping.cancel()
    assert done_ms == [began_ms + 4 * SWEEP_SECONDS * 1000]
