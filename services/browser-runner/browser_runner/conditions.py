"""Whether a page is as `expect`, `check` or `wait_for` say, and waiting until it is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from browser_runner.locators import describe, normal, resolve
from browser_runner.ports import Aim, Element, Heard, Page, StepFailed
from kernel.clock import Clock
from kernel.domain.values import FailureKind
from kernel.steps.targets import CountIs, DownloadIs, Expect, ResponseIs, Target

_LOOK_AGAIN_MS = 500


def url_matches(pattern: str, url: str) -> bool:
    """Whether `url` is what `pattern` says; `*` stands for anything. Pure."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), url) is not None


async def why_not(
    page: Page, expect: Expect, clock: Clock, own: Element | None = None, heard: Heard | None = None
) -> str | None:
    """What does not hold right now, or None when all of it holds. `heard` since right before the step acted."""
    if expect.url and not url_matches(expect.url, page.url):
        return f"the URL is {page.url}, not {expect.url}"
    if expect.response is not None and (problem := answer_problem(heard, expect.response)):
        return problem
    if expect.download is not None and (problem := _file_problem(heard, expect.download)):
        return problem
    if expect.text and not await page.shows_text(expect.text):
        return f"the page does not show {expect.text!r}"
    if expect.appears is not None and not await _is_there(page, expect.appears, clock):
        return f"{in_words(expect.appears)} is not there"
    if expect.gone is not None and await is_shown(page, expect.gone):
        return f"{in_words(expect.gone)} is still there"
    if expect.count is not None and (problem := await count_problem(page, expect.count)):
        return problem
    if expect.value is not None and (own is None or normal(await own.value()) != normal(expect.value)):
        return "the field holds something else"
    return None


def answer_problem(heard: Heard | None, wanted: ResponseIs) -> str | None:
    """What is wrong with the answers that the page got, or None when one of them is the one. Pure."""
    answers = heard.answers if heard is not None else ()
    asked = f"{wanted.method} {wanted.url}".strip()
    fitting = [
        answer for answer in answers if url_matches(wanted.url, answer.url) and wanted.method in {"", answer.method}
    ]
    if any(answer.status == wanted.status if wanted.status else answer.status < 400 for answer in fitting):
        return None
    if not fitting:
        return f"the page got no answer from {asked}"
    return f"{asked} answered {fitting[-1].status}" + (f", not {wanted.status}" if wanted.status else "")


def _file_problem(heard: Heard | None, wanted: DownloadIs) -> str | None:
    files = heard.files if heard is not None else ()
    if any(url_matches(wanted.name, name) for name in files):
        return None
    return f"the page handed out {files[-1]!r}, not {wanted.name}" if files else "the page handed out no file"


def in_words(target: Target) -> str:
    """What a condition looks for, for messages."""
    return repr(target.description) if target.description else describe(target.locators[0])


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


async def expect_page(
    page: Page,
    expect: Expect,
    clock: Clock,
    until_ms: float,
    *,
    own: Element | None = None,
    heard: Heard | None = None,
) -> None:
    """Wait for a post-condition. `StepFailed("expect_failed")`, temporary: a missing effect is a failure."""
    missing = await until_holds(page, clock, until_ms, lambda: why_not(page, expect, clock, own, heard))
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
    return any(hit.visible for hit in (await page.look(Aim(target, enabled=False))).hits)


async def is_attached(page: Page, target: Target) -> bool:
    """Whether any locator of `target` finds something, visible or not."""
    return any(hit.matches for hit in (await page.look(Aim(target, enabled=False))).hits)


async def count_problem(page: Page, wanted: CountIs) -> str | None:
    """What is wrong with a number of elements, or None."""
    count = await page.count(wanted.locator)
    if count < wanted.at_least or (wanted.at_most is not None and count > wanted.at_most):
        return f"{describe(wanted.locator)} matches {count} times"
    return None
