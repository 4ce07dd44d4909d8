"""`assert`: prove something about values, about their shape, or about the page."""

from __future__ import annotations

from typing import Any

from browser_runner.conditions import until_holds, why_not
from browser_runner.ports import StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import FailureKind
from kernel.steps.document import Assert, AssertStep
from kernel.steps.schemas import violations


async def run_assert(trying: Trying, step: AssertStep) -> dict[str, Any]:
    """Result: `ok`, and `reasons` when it is false (only with `onFail: branch`)."""
    await trying.about_to_act()
    reasons = _value_reasons(trying, step.params)
    about_page = False
    if not reasons and step.params.page is not None:
        reasons = await _page_reasons(trying, step.params)
        about_page = True
    trying.acted()
    if not reasons:
        return {"ok": True}
    if step.params.on_fail == "branch":
        return {"ok": False, "reasons": reasons}
    message = trying.value(step.params.message) if step.params.message else ""
    told = "; ".join([str(message), *reasons] if message else reasons)
    if step.params.on_fail == "terminate":
        raise StepFailed("terminated", told)
    raise StepFailed("assert_failed", told, FailureKind.TEMPORARY if about_page else FailureKind.PERMANENT)


def _value_reasons(trying: Trying, params: Assert) -> list[str]:
    reasons = [f"`{source}` does not hold" for source in params.that if trying.evaluate(source) is not True]
    if params.schema is not None and params.value is not None:
        reasons += violations(params.schema, trying.evaluate(params.value))
    return reasons


async def _page_reasons(trying: Trying, params: Assert) -> list[str]:
    rendered = trying.rendered(params)
    page = await trying.page()
    assert rendered.page is not None
    expect = rendered.page
    missing = await until_holds(page, trying.clock, trying.until_ms, lambda: why_not(page, expect, trying.clock))
    return [] if missing is None else [missing]
