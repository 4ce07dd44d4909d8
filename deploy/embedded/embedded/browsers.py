"""The warm browsers of the platform's runner."""

from __future__ import annotations

from contextlib import AsyncExitStack

from browser_runner.ports import BrowserPool
from embedded.settings import Settings
from kernel.redaction import LiveSecrets


async def open_browsers(settings: Settings, live: LiveSecrets, stack: AsyncExitStack) -> BrowserPool | None:
    return None
