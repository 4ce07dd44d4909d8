"""What `rejected` may say, checked when a document is saved: where the question stands, and what is done again. Pure.

A rejected answer sends the run back to its question. What stands between is walked again, so the question must stand
where a walk can come back to (this list or one around it, inside the same loop), and nothing between may act `once`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernel.domain.values import Effect
from kernel.errors import Detail
from kernel.steps.document import AskUserStep, ForEachStep, IfStep, Rejection, Step, StepsDocument
from kernel.steps.effects import effect_of

Asked = Mapping[str, tuple[str, ...]]
"""Questions that may be gone back to, each with the `once` steps that have been passed since."""


def rejection_faults(document: StepsDocument) -> Iterator[Detail]:
    """Codes: `validation_failed`, `unknown_reference`, `once_repeated`."""
    yield from _of_list(document.session_check, "/sessionCheck", {})
    yield from _of_list(document.steps, "/steps", {})
    yield from _of_list(document.finally_, "/finally", {})


def _of_list(steps: tuple[Step, ...], base: str, outer: Asked) -> Iterator[Detail]:
    asked = dict(outer)
    for index, step in enumerate(steps):
        at = f"{base}/{index}/params"
        rejection = getattr(step.params, "rejected", None)
        if rejection is not None:
            yield from _of_step(step, rejection, f"{at}/rejected", asked)
        match step:
            case IfStep():
                yield from _of_list(step.params.then, f"{at}/then", asked)
                yield from _of_list(step.params.else_, f"{at}/else", asked)
            case ForEachStep():
                yield from _of_list(step.params.body, f"{at}/body", {})
            case _:
                pass
        if effect_of(step) is Effect.ONCE:
            asked = {question: (*since, step.id) for question, since in asked.items()}
        if isinstance(step, AskUserStep):
            asked[step.id] = ()


def _of_step(step: Step, rejection: Rejection, at: str, asked: Asked) -> Iterator[Detail]:
    if getattr(step.params, "expect", None) is None:
        yield Detail(at, "validation_failed", "needs `expect`: without it nothing tells that an answer was accepted")
    if rejection.when.response is not None or rejection.when.download is not None:
        yield Detail(f"{at}/when", "validation_failed", "tells what the page shows, neither `response` nor `download`")
    if not rejection.ask:
        return
    if rejection.ask not in asked:
        message = f"`{rejection.ask}` names no `ask_user` before this step, in this list or one around it"
        yield Detail(f"{at}/ask", "unknown_reference", message)
    elif asked[rejection.ask]:
        again = ", ".join(f"`{step_id}`" for step_id in asked[rejection.ask])
        message = f"{again} would be done again, and may happen only once: ask behind it"
        yield Detail(f"{at}/ask", "once_repeated", message)
