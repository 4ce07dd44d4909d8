"""Playwright behind our ports: the only file of the runner that imports it.

One driver process, warm browsers, one context per run. A browser serves one tenant, is replaced after some runs, and is
dropped when it dies; the profile directory is Playwright's temporary one and goes with its browser. Every failure comes
out as `StepFailed`, a lost browser as `BrowserLost`.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
import structlog
from playwright.async_api import Browser as PlaywrightBrowser
from playwright.async_api import BrowserContext as PlaywrightContext
from playwright.async_api import Download as PlaywrightDownload
from playwright.async_api import ElementHandle, Playwright, ProxySettings, StorageState, async_playwright
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import FrameLocator as PlaywrightFrameLocator
from playwright.async_api import Locator as PlaywrightLocator
from playwright.async_api import Page as PlaywrightPage
from playwright.async_api import TimeoutError as PlaywrightTimeout

from browser_runner import in_page
from browser_runner.egress_proxy import FENCE_SHUT, REFUSED_STATUS, EgressGrant
from browser_runner.ports import BrowserLost, Context, Downloaded, Element, Facts, Landed, LoadState, Page, StepFailed
from kernel.domain.values import FailureKind
from kernel.egress.policy import host_name, is_allowed_host
from kernel.errors import Temporary
from kernel.steps.document import Locator
from kernel.store.secret import Secret

_log = structlog.get_logger(__name__)

_ARGUMENTS = (
    "--disable-quic",  # UDP would go around the proxy
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--proxy-bypass-list=<-loopback>",  # loopback goes through the proxy too
    "--disable-background-networking",
    "--no-first-run",
)
_LOST = ("has been closed", "crashed", "Connection closed", "Browser closed", "browser has disconnected")
_BLOCKED = ("ERR_TUNNEL_CONNECTION_FAILED", "ERR_PROXY", "ERR_BLOCKED", "ERR_UNSAFE_PORT", "ERR_DISALLOWED_URL")
_WEB = re.compile(r"https?://", re.IGNORECASE)
_REFUSED = re.compile(re.escape(REFUSED_STATUS) + r'; details="(\w+)"')
_LOOK_SECONDS = 2.0
_OPENINGS_MAX = 3
_PICTURE_MS = 10_000
_ROLE_LINE = re.compile(r'- (\w+)(?: "((?:[^"\\]|\\.)*)")?')


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Playwright's errors in our words."""
    try:
        yield
    except PlaywrightTimeout as error:
        raise StepFailed("step_timeout", _first_line(error), FailureKind.TEMPORARY) from None
    except PlaywrightError as error:
        raise _translated(error) from None


def _translated(error: PlaywrightError) -> StepFailed | BrowserLost:
    message = _first_line(error)
    if any(sign in error.message for sign in _LOST):
        return BrowserLost(message)
    if "not attached" in error.message or "Execution context was destroyed" in error.message:
        return StepFailed("target_changed", "the page was redrawn meanwhile", FailureKind.TEMPORARY)
    if any(sign in error.message for sign in _BLOCKED):
        return StepFailed("navigation_blocked", message)
    if "net::" in error.message:
        return StepFailed("navigation_failed", message, FailureKind.TEMPORARY)
    return StepFailed("step_failed", message, FailureKind.TEMPORARY)


def _first_line(error: PlaywrightError) -> str:
    return error.message.splitlines()[0][:500] if error.message else type(error).__name__


def _must_be_web(url: str) -> None:
    """Nothing else is opened, whatever a template made of it: files of this machine are one `file:` away."""
    if _WEB.match(url) is None:
        raise StepFailed("navigation_blocked", "only http and https are opened")


def _must_be_let_through(url: str, headers: Mapping[str, str]) -> None:
    """An answer may be the egress proxy's own."""
    refused = _REFUSED.fullmatch(headers.get("proxy-status", ""))
    if refused is None:
        return
    if refused[1] == FENCE_SHUT:
        raise StepFailed("navigation_failed", f"{url} was not let through now", FailureKind.TEMPORARY)
    raise StepFailed("navigation_blocked", f"{url} may not be reached: {refused[1]}")


def _host(url: str) -> str:
    with suppress(ValueError):
        return host_name(urlsplit(url).hostname or "")
    return ""


# ---------------------------------------------------------------- elements


class ChromiumElement:
    """An element found by a locator; held by handle once it is acted on, proven to be the one that was looked at."""

    def __init__(self, page: ChromiumPage, locator: PlaywrightLocator, facts: Facts) -> None:
        self._page = page
        self._locator = locator
        self._facts = facts
        self._held: ElementHandle | None = None

    @property
    def facts(self) -> Facts:
        return self._facts

    async def handle(self) -> ElementHandle:
        """The very element whose facts were read. `StepFailed("target_changed")` when another took its place."""
        if self._held is None:
            async with _told():
                same = await self._locator.evaluate_handle(in_page.IF_KEY, self._facts.key, timeout=1000)
                held = same.as_element()
                if held is None:
                    raise StepFailed("target_changed", "the page was redrawn meanwhile", FailureKind.TEMPORARY)
            self._held = held
        return self._held

    async def role_and_name(self) -> tuple[str, str]:
        async with _told():
            lines = (await self._locator.aria_snapshot(timeout=1000)).splitlines()
        found = _ROLE_LINE.match(lines[0]) if lines else None
        if found is None:
            return "", ""
        return found.group(1), (found.group(2) or "").replace('\\"', '"')

    async def host(self) -> str:
        async with _told():
            frame = await (await self.handle()).owner_frame()
        return _host(frame.url) if frame is not None else ""

    async def ready(self, timeout_ms: float) -> None:
        handle = await self.handle()
        async with _told():
            await handle.click(trial=True, timeout=timeout_ms)

    async def click(self, *, button: str, count: int, modifiers: Sequence[str], timeout_ms: float) -> None:
        handle = await self.handle()
        async with _told():
            await handle.click(
                button=cast("Literal['left', 'middle', 'right']", button),
                click_count=count,
                modifiers=cast("Sequence[Literal['Alt', 'Control', 'Meta', 'Shift']]", list(modifiers)),
                timeout=timeout_ms,
            )

    async def fill(self, value: str | Secret, timeout_ms: float) -> None:
        handle = await self.handle()
        if isinstance(value, Secret):
            self._page.mask(self._locator)
            await self._fill_secret(handle, value, timeout_ms)
            return
        async with _told():
            await handle.fill(value, timeout=timeout_ms)

    async def _fill_secret(self, handle: ElementHandle, value: Secret, timeout_ms: float) -> None:
        try:
            async with _told():
                await handle.fill(value.reveal_text(), timeout=timeout_ms)
        except StepFailed as failure:
            # The library's message may repeat what was to be typed.
            raise StepFailed(failure.code, "the field could not be filled", failure.kind) from None

    async def value(self) -> str:
        handle = await self.handle()
        async with _told():
            value = await handle.evaluate("e => 'value' in e ? String(e.value) : e.innerText")
        return str(value)

    async def select(self, by: str, values: Sequence[str], timeout_ms: float) -> list[str]:
        handle = await self.handle()
        chosen: dict[str, Any] = {by: [int(value) for value in values] if by == "index" else list(values)}
        async with _told():
            await handle.select_option(**chosen, timeout=timeout_ms)
            return list(await handle.evaluate("e => [...e.selectedOptions].map(o => o.label)"))

    async def press(self, keys: str, timeout_ms: float) -> None:
        handle = await self.handle()
        async with _told():
            await handle.press(keys, timeout=timeout_ms)

    async def picture(self, masks: Sequence[PlaywrightLocator]) -> bytes:
        """A JPEG of the element alone."""
        handle = await self.handle()
        async with _told():
            return await handle.screenshot(type="jpeg", quality=60, mask=masks, timeout=_PICTURE_MS)


# ---------------------------------------------------------------- pages


class ChromiumPage:
    """One tab."""

    def __init__(self, page: PlaywrightPage) -> None:
        self._page = page
        self._masks: list[PlaywrightLocator] = []
        page.on("domcontentloaded", lambda _page: self._masks.clear())

    @property
    def url(self) -> str:
        return self._page.url

    @property
    def raw(self) -> PlaywrightPage:
        """Playwright's own page, for `ChromiumContext`."""
        return self._page

    def mask(self, locator: PlaywrightLocator) -> None:
        """Cover this field in pictures until the next document is loaded."""
        self._masks.append(locator)

    async def goto(self, url: str, wait: LoadState, timeout_ms: float) -> Landed:
        _must_be_web(url)
        async with _told():
            answer = await self._page.goto(url, wait_until=wait.value, timeout=timeout_ms)
            if answer is not None:
                _must_be_let_through(answer.url, answer.headers)
            title = await self._page.title()
        return Landed(self._page.url, answer.status if answer is not None else 0, title)

    async def find(self, locator: Locator, *, within: Locator | None = None, frame: str = "") -> list[Element]:
        async with _told():
            found = await self._locate(locator, within, frame)
            if found is None:
                return []
            told = await found.evaluate_all(in_page.FACTS)
        return [ChromiumElement(self, found.nth(index), Facts(**facts)) for index, facts in enumerate(told)]

    async def count(self, locator: Locator, *, within: Locator | None = None, frame: str = "") -> int:
        async with _told():
            found = await self._locate(locator, within, frame)
            return await found.count() if found is not None else 0

    async def changed(self, timeout_ms: float) -> None:
        with suppress(TimeoutError, StepFailed):
            async with asyncio.timeout(timeout_ms / 1000 + _LOOK_SECONDS), _told():
                await self._page.evaluate(in_page.CHANGED, timeout_ms)

    async def shows_text(self, text: str) -> bool:
        async with _told():
            return await self._page.get_by_text(text).locator("visible=true").count() > 0

    async def press(self, keys: str) -> None:
        async with _told():
            await self._page.keyboard.press(keys)

    async def rows(
        self, rows: Locator, fields: dict[str, tuple[Locator | None, str]], *, within: Locator | None, frame: str
    ) -> list[dict[str, str | None]]:
        async with _told():
            found = await self._locate(rows, within, frame)
            if found is None:
                return []
            if all(locator is None or locator.css for locator, _ in fields.values()):
                wanted = [[name, locator.css if locator else "", attr] for name, (locator, attr) in fields.items()]
                return list(await found.evaluate_all(in_page.ROWS, wanted))
            return [await self._row(row, fields) for row in await found.all()]

    async def _row(
        self, row: PlaywrightLocator, fields: dict[str, tuple[Locator | None, str]]
    ) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        for name, (locator, attribute) in fields.items():
            found = row if locator is None else _located(row, locator)
            there = await found.count() > 0
            values[name] = await found.first.evaluate(in_page.VALUE_OF, attribute) if there else None
        return values

    async def table(self, element: Element) -> tuple[list[str], list[list[str]]]:
        assert isinstance(element, ChromiumElement)
        handle = await element.handle()
        async with _told():
            headers, rows = await handle.evaluate(in_page.TABLE)
        return headers, rows

    async def picture(self, *, full_page: bool, element: Element | None, masks: Sequence[Locator]) -> bytes:
        covered = [*self._masks, *[_located(self._page, mask) for mask in masks]]
        if isinstance(element, ChromiumElement):
            return await element.picture(covered)
        async with _told():
            return await self._page.screenshot(
                type="jpeg", quality=60, full_page=full_page, mask=covered, timeout=_PICTURE_MS
            )

    async def download_by(self, element: Element, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        assert isinstance(element, ChromiumElement)
        handle, arrived = await element.handle(), asyncio.Queue[PlaywrightDownload]()
        self._page.on("download", arrived.put_nowait)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                async with _told():
                    await handle.click(timeout=timeout_ms)
                return [await _finished(await arrived.get(), bytes_max) for _ in range(count)]
        except TimeoutError:
            raise StepFailed("download_failed", "no file came in time", FailureKind.TEMPORARY) from None
        finally:
            self._page.remove_listener("download", arrived.put_nowait)

    async def download_url(self, url: str, bytes_max: int, timeout_ms: float) -> Downloaded:
        _must_be_web(url)
        async with _told():
            answer = await self._page.request.get(url, timeout=timeout_ms)
            _must_be_let_through(answer.url, answer.headers)
            if answer.status >= 400:
                kind = FailureKind.TEMPORARY if answer.status >= 500 else FailureKind.PERMANENT
                raise StepFailed("download_failed", f"{url} answered {answer.status}", kind)
            content = await answer.body()
        if len(content) > bytes_max:
            raise StepFailed("download_too_large", f"{len(content)} bytes are more than {bytes_max}")
        path = await asyncio.to_thread(_write_temporary, content)
        name = _file_name(answer.headers.get("content-disposition", "")) or urlsplit(answer.url).path.rsplit("/", 1)[-1]
        return Downloaded(path, name, answer.url, len(content))

    async def outline_hash(self) -> str:
        with suppress(StepFailed):
            async with _told():
                return str(await self._page.evaluate(in_page.OUTLINE_HASH))
        return ""

    async def outline(self) -> list[str]:
        with suppress(StepFailed):
            async with _told():
                return list(await self._page.evaluate(in_page.OUTLINE))
        return []

    async def close(self) -> None:
        with suppress(PlaywrightError):
            await self._page.close()

    async def _locate(self, locator: Locator, within: Locator | None, frame: str) -> PlaywrightLocator | None:
        root: PlaywrightPage | PlaywrightFrameLocator = self._page
        if frame:
            if await self._page.locator(frame).count() != 1:
                return None
            root = self._page.frame_locator(frame)
        if within is None:
            return _located(root, locator)
        container = _located(root, within)
        return _located(container, locator) if await container.count() == 1 else None


def _located(root: PlaywrightPage | PlaywrightFrameLocator | PlaywrightLocator, locator: Locator) -> PlaywrightLocator:
    if locator.test_id:
        return root.get_by_test_id(locator.test_id)
    if locator.role:
        role = cast("Any", locator.role)  # Playwright lists the roles; an unknown one just matches nothing
        return root.get_by_role(role, name=locator.name or None, exact=locator.exact)
    if locator.label:
        return root.get_by_label(locator.label, exact=locator.exact)
    if locator.placeholder:
        return root.get_by_placeholder(locator.placeholder, exact=locator.exact)
    if locator.text:
        return root.get_by_text(locator.text, exact=locator.exact)
    return root.locator(f"css={locator.css}")


async def _finished(download: PlaywrightDownload, bytes_max: int) -> Downloaded:
    async with _told():
        failure = await download.failure()
        if failure is not None:
            raise StepFailed("download_failed", failure, FailureKind.TEMPORARY)
        path = Path(await download.path())
    size = (await asyncio.to_thread(path.stat)).st_size
    if size > bytes_max:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise StepFailed("download_too_large", f"{size} bytes are more than {bytes_max}")
    return Downloaded(path, download.suggested_filename, download.url, size)


def _write_temporary(content: bytes) -> Path:
    with tempfile.NamedTemporaryFile(prefix="towpath-", delete=False) as file:
        file.write(content)
    return Path(file.name)


def _file_name(disposition: str) -> str:
    found = re.search(r'filename="?([^";]+)"?', disposition)
    return found.group(1) if found else ""


# ---------------------------------------------------------------- contexts


class ChromiumContext:
    """One run's context on a browser that is its own for as long as it lasts."""

    def __init__(self, pool: ChromiumPool, browser: _Warm, context: PlaywrightContext) -> None:
        self._pool = pool
        self._browser: _Warm | None = browser
        self._context = context
        self._pages: list[ChromiumPage] = []
        context.on("page", self._opened)

    def _opened(self, page: PlaywrightPage) -> None:
        self._pages.append(ChromiumPage(page))

    async def begin(self) -> None:
        """Open the first page."""
        await self._context.new_page()

    @property
    def page(self) -> Page:
        self._pages = [page for page in self._pages if not page.raw.is_closed()] or self._pages[-1:]
        return self._pages[-1]

    async def new_page(self) -> Page:
        async with _told():
            raw = await self._context.new_page()
        page = next(page for page in self._pages if page.raw is raw)
        self._pages.remove(page)
        return page

    async def save_state(self, hosts: Sequence[str]) -> bytes:
        async with _told():
            storage = cast("dict[str, Any]", await self._context.storage_state(indexed_db=True))
            session = dict([await page.raw.evaluate(in_page.SESSION_STORAGE) for page in self._pages])
        storage["cookies"] = [
            cookie for cookie in storage["cookies"] if _may_keep(cookie["domain"].removeprefix("."), hosts)
        ]
        storage["origins"] = [origin for origin in storage["origins"] if _may_keep(_host(origin["origin"]), hosts)]
        kept = {origin: entries for origin, entries in session.items() if entries and _may_keep(_host(origin), hosts)}
        return msgspec.json.encode({"storage": storage, "session": kept})

    async def close(self) -> None:
        browser, self._browser = self._browser, None
        if browser is None:
            return
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(5):
                await self._context.close()
        await self._pool.give_back(browser)


def _may_keep(host: str, hosts: Sequence[str]) -> bool:
    # A cookie of a parent domain belongs to the login when any allowed host lies below it.
    return is_allowed_host(host, hosts) or any(rule.lstrip(".").endswith("." + host) for rule in hosts)


# ---------------------------------------------------------------- browsers


class _Warm:
    """One browser process and whom it serves."""

    __slots__ = ("browser", "runs", "tenant")

    def __init__(self, browser: PlaywrightBrowser) -> None:
        self.browser = browser
        self.tenant = ""
        self.runs = 0


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
    ) -> None:
        """`executable`: path of headless shell or Chromium; empty: Playwright's own. `arguments` come last."""
        self._executable = executable
        self._slots = slots
        self._runs_per_browser = runs_per_browser
        self._headless = headless
        self._arguments = [*_ARGUMENTS, *arguments]
        self._playwright: Playwright | None = None
        self._idle: list[_Warm] = []
        self._busy: set[_Warm] = set()

    async def start(self) -> None:
        """Start the driver and one browser. `Temporary("browser_unavailable")`: it may be called again."""
        if os.geteuid() == 0:
            await _log.awarning("browser_sandbox_off", why="running as root; pages are not kept from this machine")
        if self._playwright is None:
            self._playwright = await async_playwright().start()
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
        opened = ChromiumContext(self, browser, context)
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
        try:
            browser = await self._playwright.chromium.launch(
                executable_path=self._executable or None,
                headless=self._headless,
                chromium_sandbox=os.geteuid() != 0,  # Chromium as root refuses to start with it
                args=self._arguments,
                handle_sigterm=False,  # a drain must not end the browser
                handle_sigint=False,
                handle_sighup=False,
            )
        except PlaywrightError as error:
            raise Temporary("browser_unavailable", _first_line(error), 1.0) from None
        return _Warm(browser)

    async def give_back(self, browser: _Warm) -> None:
        """A run is over: keep its browser warm, or end it when it is old, dead or one too many."""
        self._busy.discard(browser)
        is_fit = browser.browser.is_connected() and browser.runs < self._runs_per_browser
        if is_fit and len(self._idle) < self._slots and self._playwright is not None:
            self._idle.append(browser)
        else:
            await self._drop(browser)

    async def _drop(self, browser: _Warm) -> None:
        self._busy.discard(browser)
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(5):
                await browser.browser.close()

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
