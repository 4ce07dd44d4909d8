"""The warm browsers of the platform's runner: the first one starts beside the platform, not before it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import structlog

from browser_runner.browser import ChromiumPool
from browser_runner.egress_proxy import EgressGrant
from browser_runner.ports import BrowserPool, Context
from embedded.settings import Settings
from kernel.errors import Temporary

_log = structlog.get_logger("embedded.browsers")


async def open_browsers(settings: Settings, stack: AsyncExitStack) -> BrowserPool | None:
    """Browsers of the configured binary, closed by `stack`; None when there is none."""
    if not settings.browser:
        return None
    browsers = WarmingPool(ChromiumPool(settings.browser, slots=settings.browser_slots))
    stack.push_async_callback(browsers.close)
    return browsers


class WarmingPool:
    """A pool whose start runs in the background; whoever opens a context waits for it, and tries again after a fault."""

    def __init__(self, pool: ChromiumPool) -> None:
        self._pool = pool
        self._starting = asyncio.create_task(pool.start())

    async def open(self, tenant: str, grant: EgressGrant | None, state: bytes | None) -> Context:
        """As the pool, once it has started."""
        if self._starting.done() and self._starting.exception() is not None:
            self._starting = asyncio.create_task(self._pool.start())
        await asyncio.shield(self._starting)
        return await self._pool.open(tenant, grant, state)

    async def close(self) -> None:
        """Close every browser; a start under way is waited for, so that no browser is left."""
        await asyncio.wait([self._starting])
        error = self._starting.exception()
        if isinstance(error, Temporary):
            _log.warning("browsers.never_started", error=str(error))
        await self._pool.close()
