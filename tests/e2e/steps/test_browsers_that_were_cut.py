"""A browser whose run was cut while it opened its context belongs to nobody: it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from browser_runner.browser import ChromiumPool
from tests.support.chromium import chromium_path
from tests.support.eventually import until


async def test_a_run_that_is_cut_while_its_page_opens_leaves_no_browser_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ChromiumPool(chromium_path(), slots=1)
    await pool.start()
    try:
        browser = pool._idle[0].browser  # nothing else tells of a browser that nobody has
        monkeypatch.setattr(browser, "new_context", never)
        opening = asyncio.create_task(pool.open("tenant", None, None))
        await until(lambda: not pool._idle)
        opening.cancel()
        await asyncio.wait([opening])
        await until(lambda: not browser.is_connected())
        context = await pool.open("tenant", None, None)
        await context.close()
    finally:
        await pool.close()


async def never(**_: Any) -> None:
    await asyncio.Event().wait()
