"""The warm browsers of the platform's runner: the first one starts beside the platform, not before it."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from browser_runner.egress_proxy import EgressGrant
from browser_runner.measuring import RunnerMeter
from browser_runner.ports import BrowserPool, Context
from embedded.settings import Settings
from kernel.errors import Temporary

if TYPE_CHECKING:
    from browser_runner.browser import ChromiumPool

_log = structlog.get_logger("embedded.browsers")


async def open_browsers(settings: Settings, stack: AsyncExitStack, meter: RunnerMeter) -> BrowserPool | None:
    """Browsers of the configured binary, closed by `stack`; None when there is none."""
    if not settings.browser:
        return None
    browsers = WarmingPool(settings, meter)
    stack.push_async_callback(browsers.close)
    return browsers


class WarmingPool:
    """A pool that is loaded and started in the background; whoever opens a context waits for it.

    A start that failed is tried again by the next one who opens a context.
    """

    def __init__(self, settings: Settings, meter: RunnerMeter) -> None:
        self._settings = settings
        self._meter = meter
        self._pool: ChromiumPool | None = None
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> ChromiumPool:
        if self._pool is None:
            module = await asyncio.to_thread(importlib.import_module, "browser_runner.browser")
            self._pool = module.ChromiumPool(
                self._settings.browser,
                slots=self._settings.browser_slots,
                launched=self._meter.launched,
                crashed=self._meter.crashed,
            )
        await self._pool.start()
        return self._pool

    async def open(self, tenant: str, grant: EgressGrant | None, state: bytes | None) -> Context:
        """As the pool, once it has started."""
        if self._starting.done() and self._starting.exception() is not None:
            self._starting = asyncio.create_task(self._start())
        pool = await asyncio.shield(self._starting)
        return await pool.open(tenant, grant, state)

    async def close(self) -> None:
        """Close every browser; a start under way is waited for, so that no browser is left."""
        await asyncio.wait([self._starting])
        error = self._starting.exception()
        if isinstance(error, Temporary):
            _log.warning("browsers.never_started", error=str(error))
        if self._pool is not None:
            await self._pool.close()
