"""Reaching a page that an earlier attempt had reached, or that tells what it did: a site may be away for a moment.

After a crash the site's side may be starting too. Only looking is repeated here, and only what failed at once.
"""

from __future__ import annotations

from browser_runner.ports import Landed, LoadState, Page, StepFailed
from kernel.clock import Clock

PAUSES_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)


async def arrive(page: Page, clock: Clock, url: str, timeout_ms: float) -> Landed:
    """`goto`, again while nobody answers or the answer is a 5xx; the last try's outcome counts. Raises as `goto`."""
    for pause in PAUSES_SECONDS:
        try:
            landed = await page.goto(url, LoadState.DOMCONTENTLOADED, timeout_ms)
            if landed.status < 500:
                return landed
        except StepFailed as failure:
            if failure.code != "navigation_failed":
                raise
        await clock.sleep(pause)
    return await page.goto(url, LoadState.DOMCONTENTLOADED, timeout_ms)
