"""`click`: press a pointer button on the element that was proven to be the right one."""

from __future__ import annotations

from typing import Any

from browser_runner.steps.trying import Trying
from kernel.steps.document import ClickStep
from kernel.steps.effects import trusts_link


async def run_click(trying: Trying, step: ClickStep) -> dict[str, Any]:
    """Result: `url` after the click."""
    params = trying.rendered(step.params)
    element = await trying.aimed(params.target, by_click=True, plain_link=trusts_link(step))
    async with trying.listening(params.expect):
        await trying.watch(params.rejected)
        await trying.about_to_act()
        await element.click(
            button=params.button, count=params.count, modifiers=params.modifiers, timeout_ms=trying.left_ms()
        )
        trying.acted()
        await trying.expect(params.expect)
    return {"url": (await trying.page()).url}
