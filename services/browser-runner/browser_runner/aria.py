"""What a screen reader is told of a page, read by rule: a tree of roles and names, and rows found in it. Pure.

The text is Playwright's aria snapshot, a small part of YAML: two spaces per level, `- role "name" [attribute]:`,
`- text: words`, `- /url: value`. A line that is none of these is passed over, for a page can say anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from kernel.steps.document import FieldOf
from kernel.steps.targets import Locator

DEPTH_MAX = 200
_HEAD = re.compile(r'(?P<role>[a-z]+)(?: (?P<name>"(?:[^"\\]|\\.)*"))?(?P<marks>(?: \[[^\]]*\])*)')
_MARK = re.compile(r"\[([\w-]+)(?:=([^\]]*))?\]")
_QUOTED_KEY = re.compile(r"'((?:[^']|'')*)'(.*)", re.DOTALL)
_HEX = re.compile(r"\\x([0-9a-fA-F]{2})")
_TYPED_IN = frozenset({"textbox", "searchbox", "combobox", "spinbutton", "slider"})
"""Roles whose name is their label: what they hold is behind the colon."""


@dataclass(slots=True)
class Node:
    """One thing that the page shows."""

    role: str
    name: str = ""
    text: str = ""
    marks: dict[str, str] = field(default_factory=dict)
    """`level`, `checked`, …, and properties such as `url`."""
    children: list[Node] = field(default_factory=list)


def parse(snapshot: str) -> Node:
    """The tree; its root has no role."""
    root = Node("")
    open_nodes = [root]
    for line in snapshot.splitlines():
        content = line.lstrip(" ")
        depth = (len(line) - len(content)) // 2
        if not content.startswith("- ") or depth >= min(len(open_nodes), DEPTH_MAX):
            continue
        del open_nodes[depth + 1 :]
        parent = open_nodes[depth]
        key, value = _key_and_value(content[2:])
        if key.startswith("/"):
            parent.marks[key[1:]] = value
            continue
        node = Node("text", text=value) if key == "text" else _node(key, value)
        if node is not None:
            parent.children.append(node)
            open_nodes.append(node)
    return root


def _key_and_value(content: str) -> tuple[str, str]:
    quoted = _QUOTED_KEY.fullmatch(content)
    if quoted is not None:
        return quoted[1].replace("''", "'"), _scalar(quoted[2].removeprefix(":").strip())
    head = _HEAD.match(content)
    if head is not None and content[head.end() : head.end() + 1] in {"", ":"}:
        return head[0], _scalar(content[head.end() + 1 :].strip())
    key, _, value = content.partition(":")
    return key, _scalar(value.strip())


def _scalar(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _unquoted(text)
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text


def _unquoted(text: str) -> str:
    try:
        return msgspec.json.decode(_HEX.sub(r"\\u00\1", text), type=str)
    except msgspec.DecodeError:
        return text[1:-1]


def _node(key: str, value: str) -> Node | None:
    head = _HEAD.fullmatch(key)
    if head is None:
        return None
    marks = {name: given or "true" for name, given in _MARK.findall(head["marks"])}
    return Node(head["role"], _unquoted(head["name"]) if head["name"] else "", value, marks)


# ---------------------------------------------------------------- rows


def rows_of(root: Node, rows: Locator, fields: Mapping[str, FieldOf]) -> list[dict[str, str | None]]:
    """The texts of `fields` in each node that `rows` means; a row in which nothing is found is none."""
    found = ({name: _field(row, wanted) for name, wanted in fields.items()} for row in _matching(root, rows))
    return [row for row in found if any(value is not None for value in row.values())]


def _matching(node: Node, locator: Locator) -> Iterator[Node]:
    for child in node.children:
        if child.role == locator.role and _is_named(child.name, locator):
            yield child
        yield from _matching(child, locator)


def _is_named(name: str, locator: Locator) -> bool:
    if not locator.name:
        return True
    wanted, found = " ".join(locator.name.split()), " ".join(name.split())
    return wanted == found if locator.exact else wanted.casefold() in found.casefold()


def _field(row: Node, wanted: FieldOf) -> str | None:
    if wanted.locator is None:
        return _value(row, wanted.attribute)
    for place, node in enumerate(_matching(row, wanted.locator)):
        if place == wanted.nth:
            return _value(node, wanted.attribute)
    return None


def _value(node: Node, attribute: str) -> str | None:
    if attribute:
        return node.marks.get({"href": "url"}.get(attribute, attribute))
    if node.role in _TYPED_IN:
        return node.text
    return node.name or node.text or " ".join(filter(None, map(_spoken, node.children)))


def _spoken(node: Node) -> str:
    return _value(node, "") or ""
