"""`tick`: bring a checkbox, radio button or switch into a state."""

from __future__ import annotations

from typing import Any

from browser_runner.steps.trying import Trying
from kernel.steps.document import TickStep


async def run_tick(trying: Trying, step: TickStep) -> dict[str, Any]:
    """Result: `checked`, the state it is in now."""
    params = trying.rendered(step.params)
    element = await trying.resolve(params.target)
    await trying.about_to_act()
    await element.tick(checked=params.checked, timeout_ms=trying.left_ms())
    trying.acted()
    await trying.expect(params.expect, element)
    return {"checked": params.checked}
