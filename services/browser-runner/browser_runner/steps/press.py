"""`press`: keys, to an element or to whatever has the focus."""

from __future__ import annotations

from typing import Any

from browser_runner.steps.trying import Trying
from kernel.steps.document import PressStep


async def run_press(trying: Trying, step: PressStep) -> dict[str, Any]:
    """Result: `url` afterwards."""
    params = trying.rendered(step.params)
    page = await trying.page()
    element = await trying.aimed(params.target) if params.target is not None else None
    async with trying.listening(params.expect):
        await trying.watch(params.rejected)
        await trying.about_to_act()
        if element is None:
            await page.press(params.keys)
        else:
            await element.press(params.keys, trying.left_ms())
        trying.acted()
        await trying.expect(params.expect, element)
    return {"url": page.url}
