"""What a step may do to the world when a crash makes it run twice (browser-automation 2.3 and 2.4). Pure."""

from __future__ import annotations

from kernel.domain.values import Effect
from kernel.steps.document import (
    ClickStep,
    FillStep,
    ForEachStep,
    IfStep,
    PressStep,
    Retry,
    SelectStep,
    Step,
    TickStep,
    UploadStep,
    children_of,
)
from kernel.steps.targets import Check, Target

_STRENGTH = {Effect.READ: 0, Effect.IDEMPOTENT: 1, Effect.ONCE: 2}
_VIEW_ROLES = frozenset({"link"})
_SWITCH_ROLES = frozenset({"tab", "treeitem", "menuitem"})


def is_weaker(one: Effect, other: Effect) -> bool:
    """Whether `one` promises less harm than `other`."""
    return _STRENGTH[one] < _STRENGTH[other]


def strongest(effects: list[Effect]) -> Effect:
    """The most harmful of them; `read` when there is none."""
    return max(effects, key=_STRENGTH.__getitem__, default=Effect.READ)


def default_effect(step: Step) -> Effect:
    """The effect of a step that names none."""
    match step:
        case ClickStep():
            return _click_effect(step.params.target)
        case PressStep():
            return Effect.ONCE if "Enter" in step.params.keys else Effect.IDEMPOTENT
        case FillStep() | SelectStep() | TickStep():
            return Effect.IDEMPOTENT
        case UploadStep():
            # A file input holds what was put in last; a zone takes whatever is dropped, each time.
            return Effect.ONCE if step.params.drop else Effect.IDEMPOTENT
        case IfStep() | ForEachStep():
            return strongest([effect_of(child) for child in children_of(step)])
        case _:
            return Effect.READ


def effect_of(step: Step) -> Effect:
    """The effect that counts; a control step is as strong as its strongest child, whatever it says."""
    if isinstance(step, IfStep | ForEachStep):
        return default_effect(step)
    return step.effect or default_effect(step)


def retry_of(step: Step) -> Retry:
    """How often a step is tried, and when: the author's policy, else one try for `once` and three for the rest."""
    if step.retry is not None:
        return step.retry
    return Retry(max_attempts=1 if effect_of(step) is Effect.ONCE else 3)


def check_of(step: Step) -> Check | None:
    """The question that settles this step when its outcome is unknown."""
    return getattr(step.params, "check", None)


def trusts_link(step: Step) -> bool:
    """Whether a click counts as mere viewing only because its target is called a link; proven before the act."""
    return isinstance(step, ClickStep) and step.effect is None and default_effect(step) is Effect.READ


def role_of(target: Target) -> str:
    """The role that the author gave, by identity or by the first locator that names one."""
    if target.identity is not None and target.identity.role:
        return target.identity.role
    return next((locator.role for locator in target.locators if locator.role), "")


def _click_effect(target: Target) -> Effect:
    role = role_of(target)
    if role in _VIEW_ROLES:
        return Effect.READ
    return Effect.IDEMPOTENT if role in _SWITCH_ROLES else Effect.ONCE
