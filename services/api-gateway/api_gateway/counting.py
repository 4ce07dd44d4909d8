"""How many rows a list has, kept beside the rows: what `total` of a list is added up from.

A counted table has a table of cells, one for each combination of the columns that its list is filtered by. Triggers of
the rows move the cells in the same statement, so whoever writes or deletes rows (projection, rebuild, retention) need
not know of them, and a cell is never another number than that of its rows. A cell that has become zero stays.

Where partitions are projected side by side (PostgreSQL), each has cells of its own: cells that they share would make
them wait for each other, and now and then for ever. A row that one writer counted and another one took leaves a number
below zero behind; only the sum means something.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.sql.port import Dialect


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows of `table` are counted in `cells`, by organization and `columns`."""

    table: str
    cells: str
    columns: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The primary key of `cells`."""
        return ("organization_id", *self.columns)


WORKFLOW_RUNS = Counted("workflow_runs", "workflow_run_counts", ("workflow_id", "test_mode", "status"))
JOB_RUNS = Counted("job_runs", "job_run_counts", ("job_id", "test_mode", "status"))
ARTIFACTS = Counted("artifacts", "artifact_counts", ("workflow_id", "type"))
INPUT_REQUESTS = Counted("input_requests", "input_request_counts", ("status",))
COUNTED = (WORKFLOW_RUNS, JOB_RUNS, ARTIFACTS, INPUT_REQUESTS)

_NUMBERS = frozenset({"test_mode"})


_PARTITION = "towpath.partition"
"""The setting by which a transaction says whose cells it moves; whoever says nothing has cells of its own, too."""


def taking_part(partition: int, dialect: Dialect) -> tuple[str, tuple[str, ...]]:
    """A condition that holds, for the first statement of a projecting transaction, and its parameters.

    It chooses the cells of `partition` for that transaction.
    """
    if dialect == "sqlite":
        return "", ()
    return f" AND set_config('{_PARTITION}', ?, true) IS NOT NULL", (str(partition),)


def statements(counted: Counted, dialect: Dialect) -> tuple[str, ...]:
    """What makes cells and triggers, and counts the rows that are there."""
    keys = ", ".join(counted.keys)
    columns = ", ".join(f"{key} {'BIGINT' if key in _NUMBERS else 'TEXT'} NOT NULL" for key in counted.keys)
    if dialect == "sqlite":
        layout = f"{columns}, number BIGINT NOT NULL, PRIMARY KEY ({keys})) WITHOUT ROWID"
    else:
        layout = f"{columns}, part TEXT NOT NULL DEFAULT '', number BIGINT NOT NULL, PRIMARY KEY ({keys}, part))"
    make = f"CREATE TABLE {counted.cells} ({layout}"
    if dialect == "sqlite":
        return make, _count(counted), *_sqlite_triggers(counted)
    return make, _postgres_function(counted), *recounting(counted)


def recounting(counted: Counted) -> tuple[str, ...]:
    """What fills empty cells of PostgreSQL with the rows that are there, and has those counted that come."""
    return _count(counted), *_postgres_triggers(counted)


def _count(counted: Counted) -> str:
    keys = ", ".join(counted.keys)
    return f"INSERT INTO {counted.cells} ({keys}, number) SELECT {keys}, count(*) FROM {counted.table} GROUP BY {keys}"  # noqa: S608 (our own names)


def _row(counted: Counted, of: str) -> str:
    return ", ".join(f"{of}.{key}" for key in counted.keys)


def _add(counted: Counted) -> str:
    keys = ", ".join(counted.keys)
    return (
        f"INSERT INTO {counted.cells} ({keys}, number) VALUES ({_row(counted, 'new')}, 1)"  # noqa: S608 (our own names)
        f" ON CONFLICT ({keys}) DO UPDATE SET number = {counted.cells}.number + 1;"
    )


def _take(counted: Counted) -> str:
    found = " AND ".join(f"{key} = old.{key}" for key in counted.keys)
    return f"UPDATE {counted.cells} SET number = number - 1 WHERE {found};"  # noqa: S608 (our own names)


def _sqlite_triggers(counted: Counted) -> tuple[str, ...]:
    table, add, take = counted.table, _add(counted), _take(counted)
    moved = f"({_row(counted, 'old')}) <> ({_row(counted, 'new')})"
    of = ", ".join(counted.keys)
    return (
        f"CREATE TRIGGER {table}_come AFTER INSERT ON {table} BEGIN {add} END",
        f"CREATE TRIGGER {table}_move AFTER UPDATE OF {of} ON {table} WHEN {moved} BEGIN {take} {add} END",
        f"CREATE TRIGGER {table}_go AFTER DELETE ON {table} BEGIN {take} END",
    )


def _postgres_function(counted: Counted) -> str:
    """Rows come and go many at a time, and are counted by the statement; those that change are looked at one by one."""
    table, cells, keys = counted.table, counted.cells, ", ".join(counted.keys)

    def moved(rows: str, number: str) -> str:
        return (
            f"INSERT INTO {cells} ({keys}, part, number) SELECT {keys}, whose, {number} FROM {rows} GROUP BY {keys}"  # noqa: S608 (our own names)
            f" ON CONFLICT ({keys}, part) DO UPDATE SET number = {cells}.number + excluded.number;"
        )

    changed = f"(VALUES ({_row(counted, 'old')}, -1), ({_row(counted, 'new')}, 1)) AS changed ({keys}, step)"
    body = (
        f"DECLARE whose TEXT := coalesce(current_setting('{_PARTITION}', true), ''); BEGIN"
        f" IF tg_op = 'INSERT' THEN {moved('came', 'count(*)')}"
        f" ELSIF tg_op = 'DELETE' THEN {moved('went', '-count(*)')}"
        f" ELSE {moved(changed, 'sum(step)')} END IF; RETURN NULL; END"
    )
    return f"CREATE FUNCTION count_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"


def _postgres_triggers(counted: Counted) -> tuple[str, ...]:
    table, keys = counted.table, ", ".join(counted.keys)
    call = f"EXECUTE FUNCTION count_{table}()"
    is_moved = f"({_row(counted, 'old')}) IS DISTINCT FROM ({_row(counted, 'new')})"
    return (
        f"CREATE TRIGGER {table}_come AFTER INSERT ON {table} REFERENCING NEW TABLE AS came FOR EACH STATEMENT {call}",
        f"CREATE TRIGGER {table}_move AFTER UPDATE OF {keys} ON {table} FOR EACH ROW WHEN ({is_moved}) {call}",
        f"CREATE TRIGGER {table}_go AFTER DELETE ON {table} REFERENCING OLD TABLE AS went FOR EACH STATEMENT {call}",
    )
