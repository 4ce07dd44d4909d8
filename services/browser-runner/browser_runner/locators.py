"""Targets in words, and whether a name is the one that was meant. What finds them is `browser_runner.browser.engine`.

The rules (browser-automation 3.3): each locator counts only when exactly one element is left that will do. Those that
count must agree on it: two that differ stop the step, there is no vote. Then the element must be what the identity
says; for a `once` step its name must be equal, for others a name that contains the other will do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from browser_runner.ports import Aim, Element, Hit, Page
from kernel.clock import Clock
from kernel.steps.targets import Identity, Locator, Target

_ICONS = re.compile("[\ue000-\uf8ff]+")


def name_problem(identity: Identity, role: str, name: str, *, exact_name: bool) -> str | None:
    """How the role and name of an element differ from what they must be, or None. Pure."""
    if identity.role and identity.role != role:
        return f"role is {role!r}, not {identity.role!r}"
    if identity.name and not _same_name(identity.name, name, exact=exact_name):
        return f"name is {name!r}, not {identity.name!r}"
    return None


def _same_name(wanted: str, found: str, *, exact: bool) -> bool:
    left, right = normal(wanted), normal(found)
    return left == right or (not exact and bool(right) and (left in right or right in left))


def normal(text: str) -> str:
    """Text as names are compared: space collapsed, case folded, without the letters that icon fonts draw with."""
    return " ".join(_ICONS.sub(" ", text).split()).casefold()


def describe(locator: Locator) -> str:
    """A locator in words, for messages."""
    around = f" with {locator.has_text!r}" if locator.has_text else ""
    if locator.role:
        return f"role {locator.role}" + (f" {locator.name!r}" if locator.name else "") + around
    for word, value in (
        ("test id", locator.test_id), ("label", locator.label), ("placeholder", locator.placeholder),
        ("alternative text", locator.alt), ("title", locator.title), ("text", locator.text), ("css", locator.css),
    ):  # fmt: skip
        if value:
            return f"{word} {value!r}{around}"
    return "nothing"


def title_of(target: Target) -> str:
    """A target in words."""
    return f"{target.description!r}" if target.description else "the target"


def why_not_usable(aim: Aim, hit: Hit) -> str:
    """Why a locator does not choose the element, in words; empty when it does. Pure."""
    if hit.usable == 1:
        return ""
    if hit.matches == 0:
        return "matches nothing"
    many = f"matches {hit.matches}"
    if hit.visible == 0 and not aim.hidden:
        return f"{many}, none of them visible"
    if hit.enabled == 0 and aim.enabled and not aim.hidden:
        return f"{many}, none of them enabled"
    identity = aim.target.identity
    if hit.usable == 0:
        return (
            f"{many}, none of them in a {identity.container}"
            if identity and identity.container
            else f"{many}, none usable"
        )
    return f"matches {hit.usable} that will do, not exactly one"


def tried_in_words(aim: Aim, hits: Sequence[Hit]) -> str:
    """Each locator with what became of it. Pure."""
    told = [
        f"{describe(locator)} {why_not_usable(aim, hit) or 'matches one'}"
        for locator, hit in zip(aim.target.locators, hits, strict=False)
    ]
    return "; ".join(told)


async def resolve(
    page: Page,
    target: Target,
    clock: Clock,
    until_ms: float,
    *,
    for_act: bool = True,
    exact_name: bool = False,
    hidden: bool = False,
) -> Element:
    """The element that `target` means, waited for until `until_ms` (of `boot_ms`); `hidden`: one out of sight counts.

    Raises as `Element.prove`. Whatever uses the element proves it anew.
    """
    element = page.element(Aim(target, enabled=for_act, hidden=hidden, exact_name=exact_name))
    await element.prove(until_ms - clock.boot_ms())
    return element
