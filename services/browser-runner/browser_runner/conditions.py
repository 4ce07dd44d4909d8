"""Whether a page is as `expect`, `check` or `wait_for` say, and waiting until it is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from browser_runner.locators import describe, normal, resolve
from browser_runner.ports import Element, Page, StepFailed
from kernel.clock import Clock
from kernel.domain.values import FailureKind
from kernel.steps.targets import CountIs, Expect, Target

_LOOK_AGAIN_MS = 500


def url_matches(pattern: str, url: str) -> bool:
    """Whether `url` is what `pattern` says; `*` stands for anything. Pure."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), url) is not None


async def why_not(page: Page, expect: Expect, clock: Clock, own: Element | None = None) -> str | None:
    """What does not hold right now, or None when all of it holds."""
    if expect.url and not url_matches(expect.url, page.url):
        return f"the URL is {page.url}, not {expect.url}"
    if expect.text and not await page.shows_text(expect.text):
        return f"the page does not show {expect.text!r}"
    if expect.appears is not None and not await _is_there(page, expect.appears, clock):
        return "the expected element is not there"
    if expect.gone is not None and await is_shown(page, expect.gone):
        return "the element is still there"
    if expect.count is not None and (problem := await _count_problem(page, expect.count)):
        return problem
    if expect.value is not None and (own is None or normal(await own.value()) != normal(expect.value)):
        return "the field holds something else"
    return None


async def until_holds(
    page: Page, clock: Clock, until_ms: float, ask: Callable[[], Awaitable[str | None]]
) -> str | None:
    """Ask again whenever the page changes, until nothing is missing (None) or `until_ms` has come (what is missing)."""
    while True:
        missing = await ask()
        left_ms = until_ms - clock.boot_ms()
        if missing is None or left_ms <= 0:
            return missing
        await page.changed(min(left_ms, _LOOK_AGAIN_MS))


async def expect_page(page: Page, expect: Expect, clock: Clock, until_ms: float, own: Element | None = None) -> None:
    """Wait for a post-condition. `StepFailed("expect_failed")`, temporary: a missing effect is a failure."""
    missing = await until_holds(page, clock, until_ms, lambda: why_not(page, expect, clock, own))
    if missing is not None:
        raise StepFailed("expect_failed", missing, FailureKind.TEMPORARY)


async def _is_there(page: Page, target: Target, clock: Clock) -> bool:
    try:
        await resolve(page, target, clock, clock.boot_ms(), for_act=False)
    except StepFailed:
        return False
    return True


async def is_shown(page: Page, target: Target) -> bool:
    """Whether any locator of `target` finds something visible."""
    for locator in target.locators:
        found = await page.find(locator, within=target.within, frame=target.frame)
        if any(element.facts.visible for element in found):
            return True
    return False


async def is_attached(page: Page, target: Target) -> bool:
    """Whether any locator of `target` finds something, visible or not."""
    for locator in target.locators:
        if await page.count(locator, within=target.within, frame=target.frame):
            return True
    return False


async def _count_problem(page: Page, wanted: CountIs) -> str | None:
    count = await page.count(wanted.locator)
    if count < wanted.at_least or (wanted.at_most is not None and count > wanted.at_most):
        return f"{describe(wanted.locator)} matches {count} times"
    return None


async def count_is(page: Page, wanted: CountIs) -> str | None:
    """What is wrong with a number of elements, or None."""
    return await _count_problem(page, wanted)
