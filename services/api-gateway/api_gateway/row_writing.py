"""Changes of rows as statements: each changed row once, however many facts changed it, in as few statements as can be.

SQLite        inserts of many rows share a statement (few sizes, so that few texts are to be prepared); it is in this
              process, so a statement for each patch costs no trip
PostgreSQL    one statement for all rows of a table that change alike; each column travels as an array, so the text
              is the same for any number of rows. Patches of the columns that a table names (`Table.often`) are alike,
              too: what a row keeps travels as NULL
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from api_gateway.projections import catalog
from api_gateway.projections.change import Cell, Change, Fact, Kind, Table
from kernel.sql.port import Dialect, Statement

_ROWS_PER_STATEMENT = (32, 16, 8, 4, 2, 1)
_ARRAYS: dict[type, str] = {bytes: "BYTEA[]", int: "BIGINT[]"}
"""What a column travels as; everything else is text."""


class Rows(NamedTuple):
    """Rows of a table that change alike, each another one: the columns that change, then the key. None: it stays."""

    kind: Kind
    table: Table
    columns: tuple[str, ...]
    values: Sequence[tuple[Cell | None, ...]]
    types: tuple[type, ...] = ()
    """Of columns and key; empty: those of the first row."""


def statements_of(facts: Iterable[Fact], dialect: Dialect, *, loads: bool = False) -> list[Statement]:
    """The statements of a batch. `loads`: into tables of PostgreSQL of which the rows that only come may be copied."""
    return [*chain.from_iterable(row_statements(rows, dialect, loads=loads) for rows in rows_of(facts, dialect))]


def rows_of(facts: Iterable[Fact], dialect: Dialect) -> list[Rows]:
    """All rows that a batch changes."""
    tables: dict[str, dict[tuple[Cell, ...], Change]] = {}
    for fact in facts:
        for change in catalog.changes(fact):
            _, table, key, _ = change
            rows = tables.get(table.name)
            if rows is None:
                rows = tables[table.name] = {}
            earlier = rows.get(key)
            rows[key] = change if earlier is None else _merged(earlier, change)
    found: list[Rows] = []
    for rows in tables.values():
        found += _alike(rows.values(), dialect)
    return found


def row_statements(rows: Rows, dialect: Dialect, *, loads: bool = False) -> list[Statement]:
    """What writes `rows`."""
    kind, table, columns, values, _ = rows
    if not values:
        return []
    if loads and table.only_added:
        return [(f"COPY {table.name} ({', '.join((*columns, *table.key))}) FROM STDIN", values)]
    if dialect == "postgres":
        return [many_rows(rows)]
    if kind is Kind.PATCH:
        return [(_patch_sql(table, columns), row) for row in values]
    statements: list[Statement] = []
    begin = 0
    while begin < len(values):
        count = next(size for size in _ROWS_PER_STATEMENT if size <= len(values) - begin)
        statements.append((_insert_sql(kind, table, columns, count), (*chain(*values[begin : begin + count]),)))
        begin += count
    return statements


def many_rows(rows: Rows, *, beside: str = "") -> Statement:
    """One statement of PostgreSQL for all of `rows`; it writes them once for each row of the source `beside`."""
    arrays = tuple(_ARRAYS.get(cell, "TEXT[]") for cell in rows.types or map(type, rows.values[0]))
    text = _many_sql(rows.kind, rows.table, rows.columns, arrays, f", {beside}" if beside else "")
    return text, tuple(zip(*rows.values, strict=True))


def few(rows: str) -> str:
    """A source of `rows` of which the planner of PostgreSQL expects one, so that what it meets is found by its key.

    The limit is none, but the planner cannot know that. It would read all of a young table otherwise, stay with that
    plan while the table grows, and plan anew for each short array.
    """
    return f"(SELECT * FROM {rows} LIMIT (SELECT NULL::BIGINT))"  # noqa: S608 (our own texts)


def among(texts: Sequence[str], dialect: Dialect) -> Statement:
    """What is said behind a column that holds one of `texts`, and the parameters."""
    if dialect == "postgres":
        return "= ANY (?::TEXT[])", (texts,)
    return f"IN ({', '.join('?' * len(texts))})", texts


def _alike(changes: Iterable[Change], dialect: Dialect) -> list[Rows]:
    """Changes of one table."""
    alike: dict[tuple[Kind, tuple[str, ...]], list[Change]] = {}
    for change in changes:
        columns = _ordered(tuple(change.columns))
        if dialect == "postgres" and change.kind is Kind.PATCH:
            columns = _often(change.table, columns)
        alike.setdefault((change.kind, columns), []).append(change)
    found: list[Rows] = []
    for (kind, columns), group in alike.items():
        table = group[0].table
        if kind is Kind.PATCH and columns == tuple(table.often):
            cells = [(*map(change.columns.get, columns), *change.key) for change in group]
            found.append(Rows(kind, table, columns, cells, (*table.often.values(), *map(type, group[0].key))))
        else:
            get = itemgetter(*columns) if len(columns) > 1 else _only(columns[0])
            found.append(Rows(kind, table, columns, [get(change.columns) + change.key for change in group]))
    return found


def _only(column: str) -> Callable[[Mapping[str, Cell]], tuple[Cell, ...]]:
    return lambda columns: (columns[column],)


def _merged(earlier: Change, later: Change) -> Change:
    if later.kind is Kind.KEEP:
        return earlier
    kind = earlier.kind if earlier.kind is Kind.PUT else later.kind
    return Change(kind, later.table, later.key, {**earlier.columns, **later.columns})


@lru_cache(maxsize=4096)
def _ordered(columns: tuple[str, ...]) -> tuple[str, ...]:
    """One order, however the columns came together: fewer texts."""
    return tuple(sorted(columns))


@lru_cache(maxsize=4096)
def _often(table: Table, columns: tuple[str, ...]) -> tuple[str, ...]:
    """All columns that often change, when it is only such that do."""
    return tuple(table.often) if table.often.keys() >= set(columns) else columns


@lru_cache(maxsize=1024)
def _patch_sql(table: Table, columns: tuple[str, ...]) -> str:
    changed = ", ".join(f"{column} = ?" for column in columns)
    found = " AND ".join(f"{column} = ?" for column in table.key)
    return f"UPDATE {table.name} SET {changed} WHERE {found}"  # noqa: S608 (our own names)


@lru_cache(maxsize=1024)
def _insert_sql(kind: Kind, table: Table, columns: tuple[str, ...], rows: int) -> str:
    """Parameters: the columns, then the key, row by row."""
    marks = ", ".join("?" * (len(columns) + len(table.key)))
    return f"{_into(table, columns)} VALUES {', '.join([f'({marks})'] * rows)} {_conflict(kind, table, columns)}"


@lru_cache(maxsize=1024)
def _many_sql(kind: Kind, table: Table, columns: tuple[str, ...], arrays: tuple[str, ...], beside: str) -> str:
    """Parameters: an array for each of the columns, then of the key."""
    rows, named = f"unnest({', '.join(f'?::{array}' for array in arrays)})", ", ".join((*columns, *table.key))
    if kind is not Kind.PATCH:
        return f"{_into(table, columns)} SELECT new.* FROM {rows} AS new{beside} {_conflict(kind, table, columns)}"  # noqa: S608 (our own names)
    value = "{0} = coalesce(new.{0}, {1}.{0})" if columns == tuple(table.often) else "{0} = new.{0}"
    changed = ", ".join(value.format(column, table.name) for column in columns)
    found = " AND ".join(f"{table.name}.{column} = new.{column}" for column in table.key)
    return f"UPDATE {table.name} SET {changed} FROM {few(rows)} AS new ({named}){beside} WHERE {found}"  # noqa: S608 (our own names)


def _into(table: Table, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join((*columns, *table.key))})"


def _conflict(kind: Kind, table: Table, columns: tuple[str, ...]) -> str:
    if kind is Kind.KEEP:
        return "ON CONFLICT DO NOTHING"
    changed = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changed}"
