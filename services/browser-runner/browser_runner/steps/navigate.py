"""`navigate`: open a URL."""

from __future__ import annotations

from typing import Any

from browser_runner.ports import LoadState, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import FailureKind
from kernel.steps.document import NavigateStep


async def run_navigate(trying: Trying, step: NavigateStep) -> dict[str, Any]:
    """Result: `url` after redirects, HTTP `status` (0 when none), `title` if a later step reads the result.

    A 5xx answer is a temporary failure.
    """
    params = trying.rendered(step.params)
    page = await trying.page()
    wait = LoadState(params.wait) if isinstance(params.wait, str) else LoadState.COMMIT
    async with trying.listening(params.expect):
        await trying.about_to_act()
        landed = await page.goto(params.url, wait, trying.left_ms())
        trying.acted()
        if landed.status >= 500:
            raise StepFailed("navigation_failed", f"{landed.url} answered {landed.status}", FailureKind.TEMPORARY)
        if not isinstance(params.wait, str):
            await trying.resolve(params.wait, for_act=False)
        await trying.expect(params.expect)
    result: dict[str, Any] = {"url": landed.url, "status": landed.status}
    if step.id in trying.desk.prepared.read_later:
        result["title"] = await page.title()
    return result
