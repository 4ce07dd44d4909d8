"""`fill`: replace the content of a field. A secret is opened here, typed here, and known nowhere else."""

from __future__ import annotations

from typing import Any

from browser_runner.ports import Element, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import FailureKind
from kernel.steps.document import FillStep
from kernel.store.secret import Secret

_VALUE = frozenset({"value"})


async def run_fill(trying: Trying, step: FillStep) -> dict[str, Any]:
    """Result: `length` of what was typed; for a secret nothing."""
    params = trying.rendered(step.params, skip=_VALUE)
    element = await trying.aimed(params.target)
    value = await trying.typed(params.value)
    if isinstance(value, Secret):
        await _prove_host(trying, element)
    async with trying.listening(params.expect):
        await trying.watch(params.rejected)
        await trying.about_to_act()
        await element.fill(value, trying.left_ms())
        trying.acted()
        if params.verify:
            await _verify(element, value)
        await trying.expect(params.expect, element)
    return {} if isinstance(value, Secret) else {"length": len(value)}


async def _prove_host(trying: Trying, element: Element) -> None:
    host = await element.host()
    if not trying.desk.may_type_secret(host):
        raise StepFailed("secret_host_refused", f"no secret may be typed into a page of {host or 'no host'}")


async def _verify(element: Element, value: str | Secret) -> None:
    wanted = value.reveal_text() if isinstance(value, Secret) else value
    if "".join((await element.value()).split()) != "".join(wanted.split()):
        raise StepFailed("expect_failed", "the field did not keep what was typed", FailureKind.TEMPORARY)
