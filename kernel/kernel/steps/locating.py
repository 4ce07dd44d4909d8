"""How far a locator can be trusted, said when a document is saved (browser-automation 3.1). Pure.

    1 test id   2 role and name   3 label, placeholder, alt, title   4 text below a container
    5 css that names a stable attribute   6 css that tells structure, below an anchor of rank 1 to 4

Only targets that are acted on are held to it: what merely looks may be as wide as its author likes.
"""

from __future__ import annotations

import re

from kernel.steps.targets import Locator, Target

STRUCTURAL = 6
"""The rank of css that is bound to how a page happens to be built."""

_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_IN_BRACKETS = re.compile(r"\[[^\]]*\]|\([^()]*\)")
_ATTRIBUTE_VALUE = re.compile(r"\[\s*([\w-]+)\s*[~|^$*]?=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\]\s]+))")
_NAMED = re.compile(r"[#.]((?:[\w-]|\\.|[^\x00-\x7f])+)")
_POSITION = re.compile(r"[>+~]|:(?:nth|first|last|only)-")
_FRAMEWORK = re.compile(
    r"^(?:ember\d|ext-(?:gen|comp)|gwt-uid|yui_|mui-|radix-|headlessui-|react-(?:aria|select|tabs)|ng-tns-|_ng(?:content|host)"
    r"|data-v-|j_idt\d|dijit_|__BVID__|el-id-|rc_\w+_\d|cdk-|mat-\w+-\d|css-[a-z0-9]{5}|sc-[A-Za-z]{5}|jss\d|emotion-"
    r"|svelte-[a-z0-9]{5}|select2-.*-container$|uid-?\d)"
)
_LONG_DIGITS = re.compile(r"\d{5}")
_HASH = re.compile(r"(?<![0-9A-Za-z])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}(?![0-9A-Za-z])", re.IGNORECASE)
_MODULE = re.compile(r"__(?=\w*\d)(?=\w*[a-z])(?=\w*[A-Z])\w{5,}$")
_REACT_ID = re.compile(r"^(?::r\w*:|_r_\w+_|«\w+»)")


def rank_of(locator: Locator) -> int:
    """1 (best) to 6; text counts as 4 whatever stands around it."""
    if locator.test_id:
        return 1
    if locator.role:
        return 2
    if locator.label or locator.placeholder or locator.alt or locator.title:
        return 3
    if locator.text:
        return 4
    return max(_css_rank(part) for part in _IN_BRACKETS.sub(_without_commas, locator.css).split(","))


def _without_commas(found: re.Match[str]) -> str:
    return found.group().replace(",", " ")


def _css_rank(css: str) -> int:
    bare = _IN_BRACKETS.sub(lambda found: "[]" if found.group().startswith("[") else "()", css).strip()
    last = bare.split()[-1] if bare else ""
    names_attribute = "[]" in last or "#" in last
    return 5 if names_attribute and not _POSITION.search(bare) else STRUCTURAL


def generated_part(locator: Locator) -> str:
    """The id, class or attribute value of a locator that a program seems to have made up; empty when there is none."""
    if locator.test_id:
        return locator.test_id if looks_generated(locator.test_id) else ""
    css = _TEMPLATE.sub("", locator.css)
    values = [next(filter(None, found[1:]), "") for found in _ATTRIBUTE_VALUE.findall(css) if found[0] not in _SAID]
    values += [name.replace("\\", "") for name in _NAMED.findall(_IN_BRACKETS.sub(" ", css))]
    return next((value for value in values if looks_generated(value)), "")


_SAID = frozenset({"href", "src", "action", "value", "alt", "title", "placeholder", "aria-label"})
"""Attributes that say what they mean to people or to the site; numbers in them are no accident."""


def looks_generated(name: str) -> bool:
    """Whether an id or class will be another one after the next build or reload: hash, counter, framework prefix."""
    name = _TEMPLATE.sub("", name)
    return any(pattern.search(name) for pattern in (_FRAMEWORK, _LONG_DIGITS, _HASH, _MODULE, _REACT_ID))


def too_wide(target: Target, locator: Locator) -> str:
    """Why `locator` may not choose what `target` acts on, with a way out; empty when it may."""
    anchored = target.within is not None and rank_of(target.within) < 5
    match rank_of(locator):
        case 4 if target.within is None:
            return "text is never looked up on a whole page: name its container in `within`, or use `role` and `name`"
        case 6 if not anchored:
            return (
                "css that tells structure needs an anchor: a `within` with testId, role, label or text; "
                "better name an attribute, such as `[name=quantity]`"
            )
        case _:
            return ""
