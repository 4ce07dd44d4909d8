"""`wait_for`: until the page is as described."""

from __future__ import annotations

from typing import Any

from browser_runner.conditions import (
    answer_problem,
    count_problem,
    in_words,
    is_attached,
    is_shown,
    until_holds,
    url_matches,
)
from browser_runner.ports import Heard, Page, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import FailureKind
from kernel.steps.document import WaitFor, WaitForStep
from kernel.steps.targets import Target


async def run_wait_for(trying: Trying, step: WaitForStep) -> dict[str, Any]:
    """Result: `url` and `waitedMs`. `wait_failed`, temporary, when it does not come true in time."""
    params = trying.rendered(step.params)
    page = await trying.page()
    heard = page.listen(answers=True, files=False) if params.response is not None else None
    await trying.about_to_act()
    began = trying.clock.boot_ms()
    try:
        missing = await until_holds(page, trying.clock, trying.until_ms, lambda: _missing(page, params, heard))
    finally:
        if heard is not None:
            heard.stop()
    trying.acted()
    if missing is not None:
        raise StepFailed("wait_failed", f"{missing}; at {page.url}", FailureKind.TEMPORARY)
    return {"url": page.url, "waitedMs": round(trying.clock.boot_ms() - began)}


async def _missing(page: Page, params: WaitFor, heard: Heard | None) -> str | None:
    if params.url and not url_matches(params.url, page.url):
        return f"the URL is not {params.url}"
    if params.response is not None and (problem := answer_problem(heard, params.response)):
        return problem
    if params.text and not await page.shows_text(params.text):
        return f"the page does not show {params.text!r}"
    if params.count is not None and (problem := await count_problem(page, params.count)):
        return problem
    if params.target is not None and not await _is_in_state(page, params.target, params.state):
        return f"{in_words(params.target)} is not {params.state}"
    return None


async def _is_in_state(page: Page, target: Target, state: str) -> bool:
    match state:
        case "visible":
            return await is_shown(page, target)
        case "hidden":
            return not await is_shown(page, target)
        case "attached":
            return await is_attached(page, target)
        case _:
            return not await is_attached(page, target)
