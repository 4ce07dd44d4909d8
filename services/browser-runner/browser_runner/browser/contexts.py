"""The browser context of one run: its pages and what a login left behind."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
from playwright.async_api import BrowserContext as PlaywrightContext
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page as PlaywrightPage

from browser_runner import in_page
from browser_runner.browser import watching
from browser_runner.browser.downloads import Downloads
from browser_runner.browser.failures import host_of, told
from browser_runner.browser.pages import ChromiumPage
from browser_runner.page_log import Seen
from browser_runner.ports import Page
from kernel.egress.policy import is_allowed_host

TOKEN_CHARS_MIN = 8
"""A shorter cookie stands for no login."""
EVIDENCE_SECONDS = 5.0
TRACE_BYTES_MAX = 64 * 1024 * 1024


class ChromiumContext:
    """One run's context on a browser that is its own for as long as it lasts."""

    def __init__(self, context: PlaywrightContext, downloads: Path, give_back: Callable[[], Awaitable[None]]) -> None:
        """`downloads`: where its browser writes files. `give_back` is called once, at the end: the browser is free."""
        self._give_back: Callable[[], Awaitable[None]] | None = give_back
        self._context = context
        self._pages: list[ChromiumPage] = []
        self._traced = False
        self._downloads = Downloads(context, downloads)
        context.on("page", self._opened)

    def _opened(self, page: PlaywrightPage) -> None:
        self._pages.append(ChromiumPage(page, self._downloads))

    async def begin(self) -> None:
        """Open the first page."""
        await self._context.new_page()

    @property
    def page(self) -> Page:
        self._pages = [page for page in self._pages if not page.raw.is_closed()] or self._pages[-1:]
        return self._pages[-1]

    async def new_page(self) -> Page:
        async with told():
            raw = await self._context.new_page()
        page = next(page for page in self._pages if page.raw is raw)
        self._pages.remove(page)
        return page

    def watch(self, told: Callable[[Seen], None]) -> None:
        watching.watch(self._context, told)

    async def begin_trace(self) -> None:
        async with told():
            await self._context.tracing.start(snapshots=True, screenshots=False, sources=False)
        self._traced = True

    async def end_trace(self) -> bytes:
        if not self._traced:
            return b""
        self._traced = False
        with tempfile.TemporaryDirectory(prefix="towpath-") as folder:
            path = Path(folder) / "trace.zip"
            async with asyncio.timeout(EVIDENCE_SECONDS), told():
                await self._context.tracing.stop(path=path)
            return await asyncio.to_thread(_read_small, path)

    async def tokens(self) -> list[str]:
        async with asyncio.timeout(EVIDENCE_SECONDS), told():
            values = [cookie["value"] for cookie in await self._context.cookies()]
        return [value for value in values if len(value) >= TOKEN_CHARS_MIN]

    async def save_state(self, hosts: Sequence[str]) -> bytes:
        async with told():
            storage = cast("dict[str, Any]", await self._context.storage_state(indexed_db=True))
            session = dict([await page.raw.evaluate(in_page.SESSION_STORAGE) for page in self._pages])
        storage["cookies"] = [
            cookie for cookie in storage["cookies"] if _may_keep(cookie["domain"].removeprefix("."), hosts)
        ]
        storage["origins"] = [origin for origin in storage["origins"] if _may_keep(host_of(origin["origin"]), hosts)]
        kept = {origin: entries for origin, entries in session.items() if entries and _may_keep(host_of(origin), hosts)}
        return msgspec.json.encode({"storage": storage, "session": kept})

    async def close(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(5):
                await self._context.close()
        await give_back()


def _read_small(path: Path) -> bytes:
    return path.read_bytes() if path.stat().st_size <= TRACE_BYTES_MAX else b""


def _may_keep(host: str, hosts: Sequence[str]) -> bool:
    # A cookie of a parent domain belongs to the login when any allowed host lies below it.
    return is_allowed_host(host, hosts) or any(rule.lstrip(".").endswith("." + host) for rule in hosts)
