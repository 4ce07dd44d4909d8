"""`click`: press a pointer button on the element that was proven to be the right one."""

from __future__ import annotations

from typing import Any

from browser_runner.ports import Element, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import Effect
from kernel.steps.document import ClickStep
from kernel.steps.effects import trusts_link


async def run_click(trying: Trying, step: ClickStep) -> dict[str, Any]:
    """Result: `url` after the click."""
    params = trying.rendered(step.params)
    element = await trying.resolve(params.target)
    if trusts_link(step):
        _prove_link(element)
    if trying.effect is not Effect.READ:
        # What is announced must be able to land; a mere look may wait in the click itself.
        await element.ready(trying.left_ms())
    await trying.watch(params.rejected)
    await trying.about_to_act()
    await element.click(
        button=params.button, count=params.count, modifiers=params.modifiers, timeout_ms=trying.left_ms()
    )
    trying.acted()
    await trying.expect(params.expect)
    return {"url": (await trying.page()).url}


def _prove_link(element: Element) -> None:
    # A click counts as viewing only because the author called its target a link; it must be a plain one.
    facts = element.facts
    if facts.tag != "a" or facts.scripted or not facts.href.startswith(("http:", "https:")):
        raise StepFailed("target_changed", "the target is no plain link, so its click may do more than view a page")
