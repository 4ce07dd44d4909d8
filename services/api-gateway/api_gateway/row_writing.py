"""Changes of rows as statements: each changed row once, however many facts changed it, in as few statements as can be.

SQLite        inserts of many rows share a statement (few sizes, so that few texts are to be prepared); it is in this
              process, so a statement for each patch costs no trip
PostgreSQL    one statement for all rows of a table that change alike; each column travels as an array, so the text
              is the same for any number of rows
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter

from api_gateway.projections import catalog
from api_gateway.projections.change import Cell, Change, Fact, Kind, Table
from kernel.sql.port import Dialect, Statement

_ROWS_PER_STATEMENT = (32, 16, 8, 4, 2, 1)
_ARRAYS: dict[type, str] = {bytes: "BYTEA[]", int: "BIGINT[]"}
"""What a column travels as; everything else is text."""


def statements_of(facts: Iterable[Fact], dialect: Dialect, *, loads: bool = False) -> list[Statement]:
    """The statements of a batch. `loads`: into tables of PostgreSQL of which the rows that only come may be copied."""
    tables: dict[str, dict[tuple[Cell, ...], Change]] = {}
    for fact in facts:
        for change in catalog.changes(fact):
            _, table, key, _ = change
            rows = tables.get(table.name)
            if rows is None:
                rows = tables[table.name] = {}
            earlier = rows.get(key)
            rows[key] = change if earlier is None else _merged(earlier, change)
    statements: list[Statement] = []
    for rows in tables.values():
        statements += _statements_of_rows(rows.values(), dialect, loads=loads)
    return statements


def _statements_of_rows(changes: Iterable[Change], dialect: Dialect, *, loads: bool) -> list[Statement]:
    """Of one table."""
    alike: dict[tuple[Kind, tuple[str, ...]], list[Change]] = {}
    for change in changes:
        alike.setdefault((change.kind, _ordered(tuple(change.columns))), []).append(change)
    statements: list[Statement] = []
    for (kind, columns), group in alike.items():
        table, cells = group[0].table, itemgetter(*columns) if len(columns) > 1 else _only(columns[0])
        values = [cells(change.columns) + change.key for change in group]
        if loads and table.only_added:
            statements.append((f"COPY {table.name} ({', '.join((*columns, *table.key))}) FROM STDIN", values))
        else:
            statements += row_statements(kind, table, columns, values, dialect)
    return statements


def _only(column: str) -> Callable[[dict[str, Cell]], tuple[Cell, ...]]:
    return lambda columns: (columns[column],)


def row_statements(
    kind: Kind, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Cell, ...]], dialect: Dialect
) -> list[Statement]:
    """Write `rows` (columns, then the key), each of another row of `table`."""
    if not rows:
        return []
    if dialect == "postgres":
        arrays = tuple(_ARRAYS.get(type(cell), "TEXT[]") for cell in rows[0])
        return [(_many_sql(kind, table, columns, arrays), tuple(zip(*rows, strict=True)))]
    if kind is Kind.PATCH:
        return [(_patch_sql(table, columns), row) for row in rows]
    statements: list[Statement] = []
    begin = 0
    while begin < len(rows):
        count = next(size for size in _ROWS_PER_STATEMENT if size <= len(rows) - begin)
        statements.append((_insert_sql(kind, table, columns, count), (*chain(*rows[begin : begin + count]),)))
        begin += count
    return statements


def among(texts: Sequence[str], dialect: Dialect) -> Statement:
    """What is said behind a column that holds one of `texts`, and the parameters."""
    if dialect == "postgres":
        return "= ANY (?::TEXT[])", (texts,)
    return f"IN ({', '.join('?' * len(texts))})", texts


def _merged(earlier: Change, later: Change) -> Change:
    if later.kind is Kind.KEEP:
        return earlier
    kind = earlier.kind if earlier.kind is Kind.PUT else later.kind
    return Change(kind, later.table, later.key, {**earlier.columns, **later.columns})


@lru_cache(maxsize=4096)
def _ordered(columns: tuple[str, ...]) -> tuple[str, ...]:
    """One order, however the columns came together: fewer texts."""
    return tuple(sorted(columns))


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
def _many_sql(kind: Kind, table: Table, columns: tuple[str, ...], arrays: tuple[str, ...]) -> str:
    """Parameters: an array for each of the columns, then of the key."""
    rows = f"unnest({', '.join(f'?::{array}' for array in arrays)})"
    if kind is not Kind.PATCH:
        return f"{_into(table, columns)} SELECT * FROM {rows} {_conflict(kind, table, columns)}"  # noqa: S608 (our own names)
    changed = ", ".join(f"{column} = new.{column}" for column in columns)
    found = " AND ".join(f"{table.name}.{column} = new.{column}" for column in table.key)
    named = ", ".join((*columns, *table.key))
    return f"UPDATE {table.name} SET {changed} FROM {rows} AS new ({named}) WHERE {found}"  # noqa: S608 (our own names)


def _into(table: Table, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join((*columns, *table.key))})"


def _conflict(kind: Kind, table: Table, columns: tuple[str, ...]) -> str:
    if kind is Kind.KEEP:
        return "ON CONFLICT DO NOTHING"
    changed = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changed}"
