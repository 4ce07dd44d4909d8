"""Finding out whether an unknown `once` step has happened, by looking only."""

from __future__ import annotations

from contextlib import suppress

from browser_runner.arriving import arrive
from browser_runner.conditions import until_holds, why_not
from browser_runner.ports import Page, StepFailed
from browser_runner.steps.trying import Desk
from kernel.steps.targets import Check


async def has_happened(desk: Desk, check: Check) -> bool | None:
    """The answer of a check; None when the page that would tell cannot be read. Raises `BrowserLost`.

    A page that the check opens is a second one, so that the run's page stays as it is; when the step has happened the
    run's page goes there too.
    """
    try:
        if not check.open:
            return await _holds(desk, await desk.page(), check)
        page = await desk.second_page()
        try:
            landed = await arrive(page, desk.clock, check.open, check.timeout_ms)
            if landed.status >= 400:
                return None  # An error page that lacks the answer is no answer.
            happened = await _holds(desk, page, check)
        finally:
            await page.close()
    except StepFailed:
        return None
    if happened:
        with suppress(StepFailed):  # It has happened, wherever the page stands now.
            await arrive(await desk.page(), desk.clock, check.open, check.timeout_ms)
    return happened


async def _holds(desk: Desk, page: Page, check: Check) -> bool:
    until_ms = desk.clock.boot_ms() + check.timeout_ms
    return await until_holds(page, desk.clock, until_ms, lambda: why_not(page, check, desk.clock)) is None
