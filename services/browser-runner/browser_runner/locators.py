"""Finding the one element that a target means, proven to be the right control before it is touched.

Locators are looked up in the author's rank order; each counts only when exactly one visible match is left. Those that
count must agree on the element: two that differ stop the step, there is no vote. Then the element must be what the
identity says; for a `once` step its name must be equal, for others a name that contains the other will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from browser_runner.ports import Element, Facts, Page, StepFailed
from kernel.clock import Clock
from kernel.domain.values import FailureKind
from kernel.steps.targets import Identity, Locator, Target

_LOOK_AGAIN_MS = 500
_CONFLICT_LOOKS = 2
"""A page that is being redrawn may disagree with itself once."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What one locator found: how many, and which of them could be meant."""

    locator: Locator
    matches: int
    usable: tuple[int, ...]
    """Keys of the visible (and, for an act, enabled) ones."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`key` of the element that is meant, or None and whether locators disagree."""

    key: int | None
    conflict: bool = False


def judge(hits: Sequence[Hit]) -> Verdict:
    """Which element the locators mean. Pure."""
    meant = {hit.usable[0] for hit in hits if len(hit.usable) == 1}
    if len(meant) == 1:
        return Verdict(next(iter(meant)))
    return Verdict(None, conflict=len(meant) > 1)


def identity_problem(identity: Identity, facts: Facts, role: str, name: str, *, exact_name: bool) -> str | None:
    """How an element differs from what it must be, or None. Pure."""
    if identity.tag and identity.tag.lower() != facts.tag.lower():
        return f"tag is {facts.tag!r}, not {identity.tag!r}"
    if identity.type and identity.type.lower() != facts.type.lower():
        return f"type is {facts.type!r}, not {identity.type!r}"
    if identity.role and identity.role != role:
        return f"role is {role!r}, not {identity.role!r}"
    if identity.name and not _same_name(identity.name, name, exact=exact_name):
        return f"name is {name!r}, not {identity.name!r}"
    return None


def _same_name(wanted: str, found: str, *, exact: bool) -> bool:
    left, right = normal(wanted), normal(found)
    return left == right or (not exact and bool(right) and (left in right or right in left))


def normal(text: str) -> str:
    """Text as names are compared: space collapsed, case folded."""
    return " ".join(text.split()).casefold()


def describe(locator: Locator) -> str:
    """A locator in words, for messages."""
    if locator.role:
        return f"role {locator.role}" + (f" {locator.name!r}" if locator.name else "")
    for word, value in (
        ("test id", locator.test_id), ("label", locator.label), ("placeholder", locator.placeholder),
        ("text", locator.text), ("css", locator.css),
    ):  # fmt: skip
        if value:
            return f"{word} {value!r}"
    return "nothing"


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

    `StepFailed`: `target_missing` (temporary), `target_conflict`, `target_changed`; nothing was touched.
    """
    conflicts = 0
    while True:
        elements, hits = await _look(page, target, for_act=for_act, hidden=hidden)
        verdict = judge(hits)
        if verdict.key is not None:
            await _prove(target, elements[verdict.key], exact_name=exact_name)
            return elements[verdict.key]
        conflicts += verdict.conflict
        if conflicts >= _CONFLICT_LOOKS:
            raise StepFailed(
                "target_conflict", f"locators disagree about {_title(target)}: {_told(hits)}; at {page.url}"
            )
        left_ms = until_ms - clock.boot_ms()
        if left_ms <= 0:
            raise await _missing(page, target, hits)
        await page.changed(min(left_ms, _LOOK_AGAIN_MS))


async def _look(page: Page, target: Target, *, for_act: bool, hidden: bool) -> tuple[dict[int, Element], list[Hit]]:
    elements: dict[int, Element] = {}
    hits = []
    for locator in target.locators:
        found = await page.find(locator, within=target.within, frame=target.frame)
        shown = [element for element in found if element.facts.visible or hidden]
        usable = [element for element in shown if element.facts.enabled or not for_act]
        for element in usable:
            elements.setdefault(element.facts.key, element)
        hits.append(Hit(locator, len(found), tuple(element.facts.key for element in usable)))
    return elements, hits


async def _prove(target: Target, element: Element, *, exact_name: bool) -> None:
    identity = target.identity
    if identity is None:
        return
    role, name = await element.role_and_name() if identity.role or identity.name else ("", "")
    problem = identity_problem(identity, element.facts, role, name, exact_name=exact_name)
    if problem is not None:
        raise StepFailed("target_changed", f"{_title(target)} is not what it was: {problem}")


async def _missing(page: Page, target: Target, hits: Sequence[Hit]) -> StepFailed:
    seen = ", ".join(await page.outline()) or "no controls"
    message = f"{_title(target)} was not found: {_told(hits)}; the page {page.url} shows {seen}"
    return StepFailed("target_missing", message, FailureKind.TEMPORARY)


def _title(target: Target) -> str:
    return f"{target.description!r}" if target.description else "the target"


def _told(hits: Sequence[Hit]) -> str:
    return "; ".join(f"{describe(hit.locator)}: {hit.matches} matches, {len(hit.usable)} usable" for hit in hits)
