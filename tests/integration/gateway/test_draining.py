from __future__ import annotations

import asyncio
import signal

from api_gateway.draining import Drain, drained_on_sigterm


async def test_sigterm_begins_the_drain_and_then_does_what_it_did_before() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        drain = Drain()
        async with drained_on_sigterm(drain):
            assert not drain.is_begun
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                await drain.begun()
        assert heard == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
