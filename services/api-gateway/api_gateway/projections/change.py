"""What a projection is told, and what it answers: a fact in, changes of single rows out.

A change never depends on what the row holds, so a batch may merge all changes of one row into one statement, and a
rebuild from offset 0 ends in the same rows. The shell around it (`api_gateway.projecting`) drops repeated facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from kernel.building import quickly_made

Cell = str | int | bytes


@quickly_made
@dataclass(frozen=True, slots=True)
class Fact:
    """One public record. `key` is the root run or the entity, `sequence` its gapless number under that key.

    `value` is the record's own protobuf value, for projections that keep the fact as it is; `wire` its dotted type.
    `event` is None when a newer version wrote what this one does not know: it takes its number and changes no row.
    """

    key: str
    sequence: int
    wire: str
    time_ms: int
    event: Any
    value: bytes
    traceparent: str = ""
    """The span that asked for it, when it was asked for and somebody traces."""
    tracestate: str = ""
    """What goes along with it."""


class Kind(StrEnum):
    """PUT inserts a row or overwrites the named columns, PATCH changes a row, KEEP inserts unless it is there."""

    PUT = "put"
    PATCH = "patch"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Table:
    """A read model's table and its primary key."""

    name: str
    key: tuple[str, ...]
    only_added: bool = False
    """Each row is the row of one fact, which the key names: it comes once, as the fact does, and never changes."""
    often: Mapping[str, type] = field(default_factory=dict, compare=False)
    """Columns that facts change in many combinations, by name and in that order, with the type of their values."""


class Change(NamedTuple):
    """One row: `key` beside `table.key`, and the columns that change."""

    kind: Kind
    table: Table
    key: tuple[Cell, ...]
    columns: dict[str, Cell]


Project = Callable[[Fact], Change]
"""What one event type means for one table."""
