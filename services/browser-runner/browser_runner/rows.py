"""Rows as they come out of pages: which are new, what type their values have, where they stood, how they are kept.

Pure. A row that does not fit is kept as it is, with the reason; what that does to the step is the step's affair.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kernel.steps.document import ColumnOf, FieldOf

FAULTS_MAX = 100
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a text that begins so; in front of it goes an apostrophe."""

Row = dict[str, Any]
RawRow = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stood: `page` counts the pages (or rounds of scrolling) from 0, `position` the rows there."""

    page: int
    position: int


@dataclass(slots=True)
class Harvest:
    """What was read so far. `add` it page by page until `is_over`."""

    wanted: Mapping[str, FieldOf | ColumnOf]
    """What is known of the values, by name; a name that is not here is text."""
    max_items: int
    ends_at: Callable[[Row], bool]
    rows: list[Row] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    pages: list[dict[str, str]] = field(default_factory=list)
    """Of each page its `url`, and the artifact id of its `screenshot` or nothing."""
    faults: list[str] = field(default_factory=list)
    lacks: bool = False
    """A required value was missing: the page may not have been ready."""
    is_over: bool = False
    read: int = 0
    """How many rows were looked at, those that were not new left out."""
    _seen: set[bytes] = field(default_factory=set)

    def add(self, raw: Sequence[RawRow], url: str, screenshot: str, new: Iterable[int]) -> None:
        """Take the rows at the places `new` of one page."""
        self.pages.append({"url": url, "screenshot": screenshot})
        for position in new:
            self.read += 1
            row = self._typed(raw[position])
            if self.ends_at(row):
                self.is_over = True
                return
            self.rows.append(row)
            self.places.append(Place(len(self.pages) - 1, position))
            if len(self.rows) >= self.max_items:
                self.is_over = True
                return

    def unseen(self, raw: Sequence[RawRow], key: Sequence[str] = (), *, within_page: bool = False) -> list[int]:
        """Places of the rows that no earlier page had, told apart by `key` or, without one, by all they hold.

        On one page equal rows are data, unless `within_page` says that the page may show one row twice.
        """
        keys = [msgspec.json.encode([row.get(name) for name in key] if key else dict(row)) for row in raw]
        places, fresh = [], set()
        for place, one in enumerate(keys):
            if one in self._seen or (within_page and one in fresh):
                continue
            fresh.add(one)
            places.append(place)
        self._seen |= fresh
        return places

    def _typed(self, raw: RawRow) -> Row:
        return {name: self._value(name, text) for name, text in raw.items()}

    def _value(self, name: str, text: str | None) -> Any:
        wanted = self.wanted.get(name, _TEXT)
        value = text.strip() if text is not None else None
        if not value:
            if wanted.required:
                self.lacks = True
                self._fault(name, "is missing")
            return value
        typed = typed_value(wanted.type, value)
        if typed is None:
            self._fault(name, f"is no {wanted.type}")
            return value
        return typed

    def _fault(self, name: str, reason: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(f"/{len(self.rows)}/{name}: {reason}")


_TEXT = FieldOf()
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
_TRUE = frozenset({"true", "yes", "1", "on", "checked"})


def typed_value(kind: str, text: str) -> Any:
    """`text` as what it is said to be; None when it is not."""
    match kind:
        case "string":
            return text
        case "boolean":
            return text.casefold() in _TRUE
        case _:
            plain = re.sub(r"[\s'\u00a0]", "", text)
            if _GROUPED.fullmatch(plain):
                plain = plain.replace(",", "")
            elif "," in plain:
                plain = plain.replace(".", "").replace(",", ".")
            if not _NUMBER.fullmatch(plain) or (kind == "integer" and "." in plain):
                return None
            return int(plain) if kind == "integer" else float(plain)


# ---------------------------------------------------------------- artifacts


def lineage(harvest: Harvest, step: str, locator: str) -> dict[str, Any]:
    """Where each row came from; `rows` in their order, `page` an index into `pages`."""
    return {
        "step": step,
        "locator": locator,
        "pages": harvest.pages,
        "rows": [{"page": place.page, "position": place.position} for place in harvest.places],
    }


def as_csv(names: Sequence[str], rows: Iterable[Row]) -> bytes:
    """UTF-8 with a head line; texts that a spreadsheet would run as a formula are made harmless."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow([_harmless(name) for name in names])
    for row in rows:
        writer.writerow([_harmless(row.get(name)) for name in names])
    return target.getvalue().encode()


def _harmless(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value
