"""Warm browsers: one per slot, each for one tenant at a time, replaced after some runs and dropped when it dies."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
from playwright.async_api import Browser as PlaywrightBrowser
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Playwright, ProxySettings, StorageState, async_playwright

from browser_runner import in_page
from browser_runner.browser import engine
from browser_runner.browser.contexts import ChromiumContext
from browser_runner.browser.failures import first_line
from browser_runner.egress_proxy import EgressGrant
from browser_runner.ports import BrowserLost, Context
from kernel.errors import Temporary

_log = structlog.get_logger(__name__)

_ARGUMENTS = (
    "--disable-quic",  # UDP would go around the proxy
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--proxy-bypass-list=<-loopback>",  # loopback goes through the proxy too
    "--disable-background-networking",
    "--no-first-run",
)
_OPENINGS_MAX = 3


class _Warm:
    """One browser process and whom it serves."""

    __slots__ = ("browser", "downloads", "is_ending", "runs", "tenant")

    def __init__(self, browser: PlaywrightBrowser, downloads: tempfile.TemporaryDirectory[str]) -> None:
        self.browser = browser
        self.downloads = downloads
        """Where it writes files that pages hand out; Playwright empties it with each context."""
        self.tenant = ""
        self.runs = 0
        self.is_ending = False
        """It was told to."""


class ChromiumPool:
    """`start` before the first `open`. Keeps at most `slots` idle browsers; held pages may need more for a while."""

    def __init__(
        self,
        executable: str,
        *,
        slots: int,
        runs_per_browser: int = 100,
        headless: bool = True,
        arguments: Sequence[str] = (),
        launched: Callable[[float], None] = lambda _: None,
        crashed: Callable[[], None] = lambda: None,
    ) -> None:
        """`executable`: path of headless shell or Chromium; empty: Playwright's own. `arguments` come last.

        `launched` is told of each start how many seconds it took, `crashed` of each browser that ended by itself.
        """
        self._executable = executable
        self._slots = slots
        self._runs_per_browser = runs_per_browser
        self._headless = headless
        self._arguments = [*_ARGUMENTS, *arguments]
        self._launched = launched
        self._crashed = crashed
        self._playwright: Playwright | None = None
        self._idle: list[_Warm] = []
        self._busy: set[_Warm] = set()

    async def start(self) -> None:
        """Start the driver and one browser. `Temporary("browser_unavailable")`: it may be called again."""
        if os.geteuid() == 0:
            await _log.awarning("browser_sandbox_off", why="running as root; pages are not kept from this machine")
        if self._playwright is None:
            self._playwright = await async_playwright().start()
            await self._playwright.selectors.register(engine.NAME, engine.SOURCE, content_script=True)
        self._idle.append(await self._launch())

    async def open(self, tenant: str, grant: EgressGrant | None, state: bytes | None) -> Context:
        saved = msgspec.json.decode(state) if state else {}
        for _ in range(_OPENINGS_MAX):
            browser = await self._take(tenant)
            browser.tenant, browser.runs = tenant, browser.runs + 1
            self._busy.add(browser)
            try:
                return await self._begin(browser, grant, saved)
            except (PlaywrightError, BrowserLost):
                await self._drop(browser)
            except BaseException:
                # Cut while it opened: nobody would ever give it back.
                await self._drop(browser)
                raise
        raise Temporary("browser_unavailable", "no browser would open a context", 1.0)

    async def _begin(self, browser: _Warm, grant: EgressGrant | None, saved: dict[str, Any]) -> ChromiumContext:
        context = await browser.browser.new_context(
            proxy=_proxy(grant),
            storage_state=cast("StorageState", saved["storage"]) if saved else None,
            accept_downloads=True,
            service_workers="block",
        )
        if saved.get("session"):
            kept = msgspec.json.encode(saved["session"]).decode()
            await context.add_init_script(in_page.RESTORE_SESSION_STORAGE % kept)
        opened = ChromiumContext(context, Path(browser.downloads.name), partial(self._give_back, browser))
        await opened.begin()
        return opened

    async def _take(self, tenant: str) -> _Warm:
        """An idle browser of this tenant, or a fresh one; another tenant's makes room for it."""
        self._idle = [warm for warm in self._idle if warm.browser.is_connected()]
        for warm in self._idle:
            if warm.tenant in {tenant, ""}:
                self._idle.remove(warm)
                return warm
        if self._idle and len(self._idle) + len(self._busy) >= self._slots:
            await self._drop(self._idle.pop(0))
        return await self._launch()

    async def _launch(self) -> _Warm:
        assert self._playwright is not None, "start comes first"
        downloads = tempfile.TemporaryDirectory(prefix="towpath-", ignore_cleanup_errors=True)
        began = asyncio.get_running_loop().time()
        try:
            browser = await self._playwright.chromium.launch(
                executable_path=self._executable or None,
                headless=self._headless,
                chromium_sandbox=os.geteuid() != 0,  # Chromium as root refuses to start with it
                args=self._arguments,
                downloads_path=downloads.name,
                handle_sigterm=False,  # a drain must not end the browser
                handle_sigint=False,
                handle_sighup=False,
            )
        except PlaywrightError as error:
            downloads.cleanup()
            raise Temporary("browser_unavailable", first_line(error), 1.0) from None
        self._launched(asyncio.get_running_loop().time() - began)
        warm = _Warm(browser, downloads)
        browser.on("disconnected", lambda _: self._gone(warm))
        return warm

    def _gone(self, warm: _Warm) -> None:
        if not warm.is_ending:
            self._crashed()

    async def _give_back(self, browser: _Warm) -> None:
        """A run is over: keep its browser warm, or end it when it is old, dead or one too many."""
        self._busy.discard(browser)
        is_fit = browser.browser.is_connected() and browser.runs < self._runs_per_browser
        if is_fit and len(self._idle) < self._slots and self._playwright is not None:
            self._idle.append(browser)
        else:
            await self._drop(browser)

    async def _drop(self, browser: _Warm) -> None:
        self._busy.discard(browser)
        browser.is_ending = True
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(5):
                await browser.browser.close()
        browser.downloads.cleanup()

    async def close(self) -> None:
        """End every browser and the driver. Idempotent."""
        playwright, self._playwright = self._playwright, None
        for browser in [*self._idle, *self._busy]:
            await self._drop(browser)
        self._idle.clear()
        if playwright is not None:
            await playwright.stop()


def _proxy(grant: EgressGrant | None) -> ProxySettings | None:
    if grant is None:
        return None
    return {
        "server": grant.server_url,
        "username": grant.username,
        "password": grant.password,
        "bypass": "<-loopback>",
    }
