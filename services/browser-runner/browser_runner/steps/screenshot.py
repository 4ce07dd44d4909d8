"""`screenshot`: keep a picture."""

from __future__ import annotations

from typing import Any

from browser_runner.files import as_result
from browser_runner.steps.trying import Trying
from kernel.steps.document import ScreenshotStep


async def run_screenshot(trying: Trying, step: ScreenshotStep) -> dict[str, Any]:
    """Result: `artifactId`, `name`, `sha256`, `type`, `size`."""
    params = trying.rendered(step.params)
    page = await trying.page()
    await trying.about_to_act()
    element = await trying.resolve(params.target, for_act=False) if params.target is not None else None
    picture = await page.picture(full_page=params.full_page, element=element, masks=params.masks)
    trying.acted()
    name = f"{step.id}.jpg"
    return as_result(await trying.keep("screenshot", picture, name, "image/jpeg"), name)
