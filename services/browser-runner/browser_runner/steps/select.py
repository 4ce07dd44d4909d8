"""`select`: choose options of a `select` element."""

from __future__ import annotations

from typing import Any

from browser_runner.steps.trying import Trying
from kernel.steps.document import SelectStep


async def run_select(trying: Trying, step: SelectStep) -> dict[str, Any]:
    """Result: `labels` chosen."""
    params = trying.rendered(step.params)
    element = await trying.aimed(params.target)
    values = (params.value,) if isinstance(params.value, str) else params.value
    async with trying.listening(params.expect):
        await trying.about_to_act()
        labels = await element.select(params.by, values, trying.left_ms())
        trying.acted()
        await trying.expect(params.expect, element)
    return {"labels": labels}
