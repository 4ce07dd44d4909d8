"""From one page of rows to the next: a button, a number, or scrolling. Only looks: nothing here is an effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from browser_runner.conditions import is_shown
from browser_runner.locators import resolve
from browser_runner.ports import Element, LoadState, Page, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import FailureKind
from kernel.steps.document import InfiniteScroll, NextButton, PageNumber, Paging, VirtualList
from kernel.steps.targets import Locator, Target

_TURN_MS = 10_000
_LOOK_AGAIN_MS = 250


async def turn(
    trying: Trying, page: Page, paging: Paging | None, done: int, count: Callable[[], Awaitable[int]]
) -> bool:
    """Go on behind `done` pages; False when there is no further one. `count` says how many rows the page has now."""
    if paging is None or done >= paging.max_pages:
        return False
    match paging:
        case NextButton():
            return await is_shown(page, paging.target) and await _press(trying, page, paging.target)
        case PageNumber(url=url) if url:
            return await _open(trying, page, url.replace("{page}", str(paging.first + done)))
        case PageNumber():
            assert paging.link is not None
            target = Target((_numbered(paging.link, paging.first + done),))
            return await is_shown(page, target) and await _press(trying, page, target)
        case InfiniteScroll():
            return await _more_came(trying, page, paging, count)
        case VirtualList():
            return await page.scroll(await _container(trying, paging.container), "on", paging.settle_ms)


async def _press(trying: Trying, page: Page, target: Target) -> bool:
    now = trying.clock.boot_ms()
    try:
        button = await resolve(page, target, trying.clock, now)
    except StepFailed as failure:
        if failure.code == "target_missing":
            return False  # It is shown and disabled: the last page.
        raise
    before = await page.outline_hash()
    await button.click(button="left", count=1, modifiers=(), timeout_ms=trying.left_ms())
    until_ms = min(trying.until_ms, now + _TURN_MS)
    while await page.outline_hash() == before:
        left_ms = until_ms - trying.clock.boot_ms()
        if left_ms <= 0:
            return False
        await page.changed(min(left_ms, _LOOK_AGAIN_MS))
    return True


async def _open(trying: Trying, page: Page, url: str) -> bool:
    landed = await page.goto(url, LoadState.DOMCONTENTLOADED, trying.left_ms())
    if landed.status >= 500:
        raise StepFailed("navigation_failed", f"{landed.url} answered {landed.status}", FailureKind.TEMPORARY)
    return landed.status < 400


def _numbered(link: Locator, number: int) -> Locator:
    parts = msgspec.structs.asdict(link)
    numbered = {name: part.replace("{page}", str(number)) for name, part in parts.items() if isinstance(part, str)}
    return msgspec.structs.replace(link, **numbered)


async def _more_came(trying: Trying, page: Page, paging: InfiniteScroll, count: Callable[[], Awaitable[int]]) -> bool:
    before = await count()
    until_ms = min(trying.until_ms, trying.clock.boot_ms() + paging.settle_ms)
    container = await _container(trying, paging.container)
    while (left_ms := until_ms - trying.clock.boot_ms()) > 0:
        await page.scroll(container, "end", min(left_ms, _LOOK_AGAIN_MS))
        if await count() > before:
            return True
        await page.changed(min(left_ms, _LOOK_AGAIN_MS))
    return await count() > before


async def _container(trying: Trying, target: Target | None) -> Element | None:
    return None if target is None else await trying.resolve(target, for_act=False)
