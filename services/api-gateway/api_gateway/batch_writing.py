"""What a projected batch writes: its position, on which everything else hangs, then its rows and the word of it.

SQLite        a guarded transaction, statement by statement
PostgreSQL    one statement, hence one trip and one plan: the position is moved by a part of it, and all other parts
              write a row for each new row and each moved position, so nothing where another projector was first. Rows
              of tables that few batches touch follow in the same transaction: so there are few texts, which the server
              plans once and keeps

The parts of a statement see the tables as they were before it. None of them reads what another one writes: the rows of
one table are all different rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from api_gateway.row_writing import Rows, many_rows, row_statements
from kernel.sql.port import Dialect, Statement

TOGETHER = frozenset({"workflow_runs", "steps", "run_events", "request_outcomes", "projected_streams"})
"""Tables that most batches of runs touch."""


def batch_statements(
    moved: Statement, rows: Iterable[Rows], announcement: Sequence[Statement], dialect: Dialect, *, loads: bool
) -> list[Statement]:
    """A guarded transaction: `moved` is the condition, `rows` are all of different rows.

    `announcement`: at most one statement, a SELECT of a function. `loads` as in `row_statements`, and nobody is told.
    """
    if dialect == "sqlite" or loads:
        written = [statement for one in rows for statement in row_statements(one, dialect, loads=loads)]
        return [moved, *written, *announcement]
    parts: list[Statement] = []
    others: list[Statement] = []
    for one in rows:
        if one.table.name not in TOGETHER:
            others += row_statements(one, dialect)
        elif one.values:
            parts.append(many_rows(one, beside="moved"))
    told, told_params = announcement[0] if announcement else ("SELECT 1", ())
    text = _one_text(moved[0], tuple(part for part, _ in parts), told)
    params = [*moved[1]]
    for _, arrays in parts:
        params += arrays
    return [(text, (*params, *told_params)), *others]


@lru_cache(maxsize=1024)
def _one_text(moved: str, parts: tuple[str, ...], told: str) -> str:
    """One row when the position was moved, none otherwise."""
    named = "".join(f", part_{number} AS ({part})" for number, part in enumerate(parts))
    return f"WITH moved AS ({moved} RETURNING 1){named} {told} FROM moved"
