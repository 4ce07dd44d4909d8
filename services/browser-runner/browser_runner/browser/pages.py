"""One page (tab): going somewhere, looking, reading, taking pictures."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import msgspec
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Locator as PlaywrightLocator
from playwright.async_api import Page as PlaywrightPage

from browser_runner import in_page
from browser_runner.browser import selectors
from browser_runner.browser.downloads import Downloads
from browser_runner.browser.elements import ARIA_MS, LOOK_MS, PICTURE_MS, ChromiumElement
from browser_runner.browser.failures import must_be_let_through, must_be_web, told
from browser_runner.browser.listening import Listening
from browser_runner.browser.masks import holding
from browser_runner.browser.selectors import located
from browser_runner.ports import Aim, Downloaded, Element, Heard, Landed, LoadState, Place, Sight, StepFailed
from kernel.steps.targets import Locator
from kernel.store.secret import Secret

_LOOK_SECONDS = 2.0
_ERRORS_MAX = 10
_COMPLAINTS_MAX = 5
_ERROR_CHARS_MAX = 500


class ChromiumPage:
    """One tab."""

    def __init__(self, page: PlaywrightPage, downloads: Downloads) -> None:
        self._page = page
        self._downloads = downloads
        self._masks: list[PlaywrightLocator] = []
        self._secrets: list[Secret] = []
        self._documents = 0
        self._errors: deque[str] = deque(maxlen=_ERRORS_MAX)
        page.on("pageerror", lambda error: self._errors.append(error.message[:_ERROR_CHARS_MAX]))
        page.on("domcontentloaded", self._loaded)

    def _loaded(self, _page: PlaywrightPage) -> None:
        self._documents += 1
        self._masks.clear()

    @property
    def documents(self) -> int:
        return self._documents

    @property
    def url(self) -> str:
        return self._page.url

    @property
    def raw(self) -> PlaywrightPage:
        """Playwright's own page, for `ChromiumContext`."""
        return self._page

    def mask(self, locator: PlaywrightLocator, secret: Secret) -> None:
        """Cover this field in pictures until the next document is loaded; any that holds `secret`, until the end."""
        self._masks.append(locator)
        self._secrets.append(secret)

    async def goto(self, url: str, wait: LoadState, timeout_ms: float) -> Landed:
        must_be_web(url)
        async with told():
            answer = await self._page.goto(url, wait_until=wait.value, timeout=timeout_ms)
            if answer is not None:
                must_be_let_through(answer.url, answer.headers)
        return Landed(self._page.url, answer.status if answer is not None else 0)

    async def title(self) -> str:
        async with told():
            return await self._page.title()

    def element(self, aim: Aim) -> Element:
        return ChromiumElement(self, aim)

    async def look(self, aim: Aim, *, texts: bool = False, cover: bool = False) -> Sight:
        return await ChromiumElement(self, aim).sight(texts=texts, cover=cover)

    def listen(self, *, answers: bool, files: bool) -> Heard:
        return Listening(self._page, answers=answers, files=files)

    async def place(self) -> Place:
        async with told():
            text = await selectors.note(self._page, "place").text_content(timeout=LOOK_MS)
        return msgspec.json.decode(text or "{}", type=Place)

    def console_errors(self) -> Sequence[str]:
        return tuple(self._errors)

    async def count(self, locator: Locator, *, within: Locator | None = None, frame: str = "") -> int:
        async with told():
            found = await self._locate(locator, within, frame)
            return await found.count() if found is not None else 0

    async def changed(self, timeout_ms: float) -> None:
        with suppress(TimeoutError, StepFailed):
            async with asyncio.timeout(timeout_ms / 1000 + _LOOK_SECONDS), told():
                await self._page.evaluate(in_page.CHANGED, timeout_ms)

    async def shows_text(self, text: str) -> bool:
        async with told():
            return await self._page.get_by_text(text).locator("visible=true").count() > 0

    async def complaints(self) -> list[str]:
        with suppress(TimeoutError, StepFailed):
            async with asyncio.timeout(_LOOK_SECONDS), told():
                return [str(one) for one in await self._page.evaluate(in_page.COMPLAINTS, _COMPLAINTS_MAX)]
        return []

    async def press(self, keys: str) -> None:
        async with told():
            await self._page.keyboard.press(keys)

    async def rows(
        self, rows: Locator, fields: dict[str, tuple[Locator | None, str]], *, within: Locator | None, frame: str
    ) -> list[dict[str, str | None]]:
        async with told():
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
            found = row if locator is None else located(row, locator)
            there = await found.count() > 0
            values[name] = await found.first.evaluate(in_page.VALUE_OF, attribute) if there else None
        return values

    async def table(self, element: Element) -> tuple[list[str], list[list[str]]]:
        assert isinstance(element, ChromiumElement)
        headers, rows = await element.evaluate(in_page.TABLE)
        return headers, rows

    async def aria(self, element: Element | None) -> str:
        async with told():
            if isinstance(element, ChromiumElement):
                return await element.aria()
            return await self._page.locator("body").aria_snapshot(timeout=ARIA_MS)

    async def scroll(self, element: Element | None, to: Literal["end", "on"], settle_ms: float) -> bool:
        async with told():
            if isinstance(element, ChromiumElement):
                return bool(await (await element.handle()).evaluate(in_page.SCROLL, [to, settle_ms]))
            return bool(await self._page.evaluate(in_page.SCROLL_PAGE, [to, settle_ms]))

    async def picture(self, *, full_page: bool, element: Element | None, masks: Sequence[Locator]) -> bytes:
        asked = [located(self._page, mask) for mask in masks]
        covered = [*self._masks, *asked, *await holding(self._page, self._secrets)]
        if isinstance(element, ChromiumElement):
            return await element.picture(covered)
        async with told():
            return await self._page.screenshot(
                type="jpeg", quality=60, full_page=full_page, mask=covered, timeout=PICTURE_MS
            )

    async def download_by(self, element: Element, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        assert isinstance(element, ChromiumElement)
        return await self._downloads.by_click(await element.handle(), count, bytes_max, timeout_ms)

    async def downloads(self, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        return await self._downloads.started_by_page(count, bytes_max, timeout_ms)

    async def download_url(self, url: str, bytes_max: int, timeout_ms: float) -> Downloaded:
        return await self._downloads.by_url(url, bytes_max, timeout_ms)

    async def outline_hash(self) -> str:
        with suppress(StepFailed):
            async with told():
                return str(await self._page.evaluate(in_page.OUTLINE_HASH))
        return ""

    async def close(self) -> None:
        with suppress(PlaywrightError):
            await self._page.close()

    async def _locate(self, locator: Locator, within: Locator | None, frame: str) -> PlaywrightLocator | None:
        if frame and await self._page.locator(frame).count() != 1:
            return None
        root = selectors.root_of(self._page, frame)
        if within is None:
            return located(root, locator)
        container = located(root, within)
        return located(container, locator) if await container.count() == 1 else None
