"""Targets as Playwright's selectors: pure composition, nothing is asked of a page here."""

from __future__ import annotations

import re
from typing import Any, cast

from playwright.async_api import FrameLocator as PlaywrightFrameLocator
from playwright.async_api import Locator as PlaywrightLocator
from playwright.async_api import Page as PlaywrightPage

from browser_runner.browser.engine import KINDS_OF_CONTAINERS, part
from browser_runner.locators import normal
from browser_runner.ports import Aim
from kernel.steps.targets import Identity, Locator

Root = PlaywrightPage | PlaywrightFrameLocator | PlaywrightLocator


def located(root: Root, locator: Locator) -> PlaywrightLocator:
    """One locator below `root`."""
    found = _by_way(root, locator)
    return found.filter(has_text=locator.has_text) if locator.has_text else found


def _by_way(root: Root, locator: Locator) -> PlaywrightLocator:
    exact = locator.exact
    if locator.test_id:
        if not locator.test_id_attribute:
            return root.get_by_test_id(locator.test_id)
        return root.locator(f"css=[{locator.test_id_attribute}={_css_string(locator.test_id)}]")
    if locator.role:
        name = named(locator.name) if locator.name and exact else locator.name or None
        return root.get_by_role(_role(locator.role), name=name)
    if locator.label:
        return root.get_by_label(locator.label, exact=exact)
    if locator.placeholder:
        return root.get_by_placeholder(locator.placeholder, exact=exact)
    if locator.alt:
        return root.get_by_alt_text(locator.alt, exact=exact)
    if locator.title:
        return root.get_by_title(locator.title, exact=exact)
    if locator.text:
        return root.get_by_text(locator.text, exact=exact)
    return root.locator(f"css={locator.css}")


def _css_string(text: str) -> str:
    escaped = re.sub(r'["\\\n\r\f]', lambda found: f"\\{ord(found.group()):x} ", text)
    return f'"{escaped}"'


def _role(role: str) -> Any:
    return cast("Any", role)  # Playwright lists the roles; an unknown one just matches nothing


def root_of(page: PlaywrightPage, frame: str) -> PlaywrightPage | PlaywrightFrameLocator:
    """The page, or the frame in it that css names."""
    return page.frame_locator(frame) if frame else page


def judged(page: PlaywrightPage, aim: Aim, proof: Identity | None, **more: Any) -> PlaywrightLocator:
    """The one element that `aim` means; `proof` is the role and name that it must have."""
    return _marked(page, aim, proof).locator(part("judge", **_told(aim, proof), **more))


def noted(page: PlaywrightPage, aim: Aim, proof: Identity | None, **more: Any) -> PlaywrightLocator:
    """A note of what `aim` finds now."""
    found = _marked(page, aim, proof).locator(part("none"))
    return found.or_(page.locator(part("note", what="sight", **_told(aim, proof), **more)))


def covering(page: PlaywrightPage, aim: Aim, ref: int) -> PlaywrightLocator:
    """What is to be masked where `aim` was used: that very element, and all that its locators find."""
    root = root_of(page, aim.target.frame)
    found = root.locator(part("held", ref=ref))
    for locator in aim.target.locators:
        found = found.or_(located(page, locator))
    return found


def note(page: PlaywrightPage, what: str, frame: str = "", **more: Any) -> PlaywrightLocator:
    """A note of something that needs no target."""
    return root_of(page, frame).locator(part("note", what=what, **more))


def _marked(page: PlaywrightPage, aim: Aim, proof: Identity | None) -> PlaywrightLocator:
    target = aim.target
    begun = root_of(page, target.frame).locator(part("begin"))
    if target.within is not None:
        begun = begun.locator(located(page, target.within)).locator(part("box")).locator(part("only"))
    ways = [(str(index), located(page, locator)) for index, locator in enumerate(target.locators)]
    if proof is not None and proof.role and not _proven_by(aim, proof):
        ways.append(("proof", _with_identity(page, proof, exact=aim.exact_name)))
    union: PlaywrightLocator | None = None
    for name, way in ways:
        marked = way.locator(part("mark", **{"as": name}))
        union = marked if union is None else union.or_(marked)
    assert union is not None, "a target has at least one locator"
    return begun.locator(union)


def _told(aim: Aim, proof: Identity | None) -> dict[str, Any]:
    identity = aim.target.identity or Identity()
    told = {
        "locators": len(aim.target.locators),
        "enabled": aim.enabled,
        "hidden": aim.hidden,
        "link": aim.plain_link,
        "tag": identity.tag.lower(),
        "type": identity.type.lower(),
        "container": identity.container or "",
        "around": KINDS_OF_CONTAINERS.get(identity.container or "", ""),
        "proof": (_proven_by(aim, proof) or ["proof"]) if proof is not None else None,
    }
    return {name: value for name, value in told.items() if value}


def _proven_by(aim: Aim, proof: Identity) -> list[str]:
    """Locators that find nothing but elements of this role and name; no further look is needed for those."""
    return [str(index) for index, locator in enumerate(aim.target.locators) if _implies(locator, proof)]


def _implies(locator: Locator, proof: Identity) -> bool:
    if not locator.role or locator.role != proof.role:
        return False
    return not proof.name or (locator.exact and normal(locator.name) == normal(proof.name))


_ICONS = r"[\s\ue000-\uf8ff]*"
"""Icon fonts draw their pictures as letters for private use, and browsers count those among an element's name."""
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def _escaped(found: re.Match[str]) -> str:
    # As a number: the pattern passes two parsers, of selectors and of JavaScript, that read punctuation differently.
    return f"\\x{ord(found.group()):02x}"


def _with_identity(page: PlaywrightPage, proof: Identity, *, exact: bool) -> PlaywrightLocator:
    if not proof.name:
        return page.get_by_role(_role(proof.role))
    if not exact:
        return page.get_by_role(_role(proof.role), name=proof.name)
    return page.get_by_role(_role(proof.role), name=named(proof.name, re.IGNORECASE))


def named(name: str, flags: int = 0) -> re.Pattern[str]:
    """What an accessible name must be: this one, whatever space is in it and whatever icons stand around it."""
    words = r"\s+".join(_PUNCTUATION.sub(_escaped, word) for word in name.split())
    return re.compile(f"^{_ICONS}{words}{_ICONS}$", flags)
