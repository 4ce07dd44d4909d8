"""What is known of a failed step beyond its code: what was tried, what is there instead, where the page stands.

Text of the page in it is hostile and bounded; what fields hold is never part of it. Secrets are taken out by whoever
seals it (`browser_runner.record`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import SequenceMatcher
from typing import Any

from browser_runner import aria
from browser_runner.locators import normal
from kernel.steps.targets import Target

NEAREST_MAX = 5
TEXT_CHARS_MAX = 200
URL_CHARS_MAX = 1000
SIMILARITY_MIN = 40
"""Percent; what is less alike, and of another role, is no help."""
OTHER_ROLE = 20
"""Percent that another role takes away."""

_CANDIDATES_MAX = 500
_CONTAINED = 85
"""Percent of likeness of a name that holds the whole of the other."""
_UNKNOWN_AT_0 = frozenset({"status", "may_retry"})
_CONTROLS = frozenset(
    {"button", "checkbox", "combobox", "link", "listbox", "menuitem", "menuitemcheckbox", "menuitemradio", "option"}
    | {"radio", "searchbox", "slider", "spinbutton", "switch", "tab", "textbox", "treeitem"}
)


@dataclass(frozen=True, slots=True)
class Tried:
    """One locator and how many elements it found."""

    locator: str
    matches: int
    visible: int
    enabled: int
    """Visible and enabled."""
    why: str
    """Why it does not choose the element; empty when it chooses one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A control that the page shows and that resembles what was looked for."""

    role: str
    name: str
    similarity: int
    """Percent."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Of one failure. Whatever is empty is not known or not the case."""

    url: str = ""
    status: int = 0
    """HTTP status of the page."""
    frame: str = ""
    """css of the frame that the target is in."""
    tried: tuple[Tried, ...] = ()
    differs: str = ""
    """How the element differs from its identity."""
    covered_by: str = ""
    """What a click would have hit."""
    dialog: str = ""
    """What an open dialog says."""
    nearest: tuple[Candidate, ...] = ()
    """Best first."""
    console: tuple[str, ...] = ()
    """Last errors of the page's console."""
    may_retry: bool = False
    """Whether the same step may succeed when it is tried again."""


def diagnosis_json(diagnosis: Diagnosis, *, code: str, path: str, name: str) -> dict[str, Any]:
    """As it stands in `step.finished` and in the API: camel case, `step` and `code` first, empty members left out."""
    return {"step": {"path": path, "name": name}, "code": code, **_said(diagnosis), "mayRetry": diagnosis.may_retry}


def _said(value: Any) -> dict[str, Any]:
    told = {field.name: getattr(value, field.name) for field in fields(value)}
    return {
        _camel(name): _plain(found)
        for name, found in told.items()
        if found not in ("", ()) and not (found == 0 and name in _UNKNOWN_AT_0)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _said(value) if is_dataclass(value) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def bounded(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """Text of a page, as long as it may be; control characters become space."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: chars_max * 2])
    plain = " ".join(plain.split())
    return plain if len(plain) <= chars_max else plain[: chars_max - 1] + "…"


# ---------------------------------------------------------------- the nearest


def nearest(target: Target, snapshot: str) -> tuple[Candidate, ...]:
    """The controls of an aria snapshot that are most like the target by role and name, at most five. Pure.

    One of the same role is told however little its name is alike: it may have been renamed.
    """
    roles, names = wanted_of(target)
    found: dict[tuple[str, str], Candidate] = {}
    for node in _controls(aria.parse(snapshot).children):
        same_role = node.role in roles
        likeness = max((_likeness(name, node.name) for name in names), default=0)
        similarity = max(likeness - (0 if same_role or not roles else OTHER_ROLE), 0)
        if same_role or similarity >= SIMILARITY_MIN:
            found.setdefault((node.role, node.name), Candidate(node.role, bounded(node.name), similarity))
        if len(found) >= _CANDIDATES_MAX:
            break
    best = sorted(found.values(), key=lambda candidate: -candidate.similarity)
    return tuple(best[:NEAREST_MAX])


def wanted_of(target: Target) -> tuple[frozenset[str], tuple[str, ...]]:
    """The roles and the names that a target speaks of."""
    roles = {locator.role for locator in target.locators}
    names = [
        text
        for locator in target.locators
        for text in (locator.name, locator.label, locator.placeholder, locator.alt, locator.title, locator.text)
    ]
    if target.identity is not None:
        roles.add(target.identity.role)
        names.append(target.identity.name)
    return frozenset(roles - {""}), tuple(dict.fromkeys(filter(None, names)))


def _controls(nodes: Sequence[aria.Node]) -> Iterator[aria.Node]:
    for node in nodes:
        if node.name and node.role in _CONTROLS:
            yield node
        yield from _controls(node.children)


def _likeness(one: str, other: str) -> int:
    left, right = normal(one)[:TEXT_CHARS_MAX], normal(other)[:TEXT_CHARS_MAX]
    ratio = round(SequenceMatcher(None, left, right).ratio() * 100)
    return max(ratio, _CONTAINED) if f" {left} " in f" {right} " else ratio
