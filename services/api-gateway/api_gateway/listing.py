"""How a list is asked for: which rows, in which order, how many in all; never at the price of everything there is.

Newest first, ties by id. What the lists of a busy organization are filtered by falls in two kinds:

    arms      columns of few values (status, test mode, type). The index begins with them, and the list is merged from
              one walk for each combination of values, each in the right order: no sorting, no row that is not wanted
    narrow    columns that pick the rows of one run, or of one customer, by an index of their own

`total` is exact: the sum of counted cells (`api_gateway.counting`), and for narrow filters a count of that run's or
customer's rows. A page costs the walk to it, over index entries only and from whichever end of the list is nearer.
Pure: statements and their parameters; the reader of them is `api_gateway.queries`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, TypeVar

from api_gateway import counting
from api_gateway.counting import Counted
from kernel.domain.input_request import InputRequestStatus
from kernel.domain.job_run import JobRunStatus
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.sql.port import Dialect, Statement

T = TypeVar("T")
Value = str | int
Wanted = Value | tuple[str, ...] | None
Where = Mapping[str, Wanted]
"""Column to wanted value, or to any of several; None leaves the column open."""

LIKE = "LIKE"
_ESCAPE = "!"
_TEST_MODE: tuple[Value, ...] = (0, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: `limit` rows behind the first `offset`, newest first."""

    limit: int
    offset: int


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A part of a list, and how long the whole is."""

    items: list[T]
    total: int


@dataclass(frozen=True, slots=True)
class Arm:
    """A column of few values; without `values` they are those that its cells have seen."""

    column: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Narrow:
    """A column whose index leads to few rows; `condition` is what that index says of its rows."""

    column: str
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A table as its list sees it. Without `counted` it is short: definitions, which people make by hand."""

    table: str
    counted: Counted | None = None
    arms: tuple[Arm, ...] = ()
    narrow: tuple[Narrow, ...] = ()
    """The narrowest first."""


_OF_JOB_RUN = Narrow("job_run_id", "job_run_id <> ''")
_OF_CUSTOMER = Narrow("subject_id", "length(external_id) > 0")

WORKFLOWS = Listed("workflows")
JOBS = Listed("jobs")
JOB_RUNS = Listed(
    "job_runs",
    counting.JOB_RUNS,
    (Arm("test_mode", _TEST_MODE), Arm("status", tuple(status.value for status in JobRunStatus))),
    (_OF_CUSTOMER,),
)
WORKFLOW_RUNS = Listed(
    "workflow_runs",
    counting.WORKFLOW_RUNS,
    (Arm("test_mode", _TEST_MODE), Arm("status", tuple(status.value for status in WorkflowRunStatus))),
    (_OF_JOB_RUN, _OF_CUSTOMER),
)
ARTIFACTS = Listed("artifacts", counting.ARTIFACTS, (Arm("type"),), (Narrow("workflow_run_id"), _OF_JOB_RUN))
INPUT_REQUESTS = Listed(
    "input_requests",
    counting.INPUT_REQUESTS,
    (Arm("status", tuple(status.value for status in InputRequestStatus)),),
    (Narrow("workflow_run_id"),),
)
LISTED = {one.table: one for one in (WORKFLOWS, JOBS, JOB_RUNS, WORKFLOW_RUNS, ARTIFACTS, INPUT_REQUESTS)}
"""All lists, by table."""


def containing(text: str) -> str:
    """The pattern of a column that has `text` somewhere in it, for a column with `LIKE` behind its name."""
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return f"%{text}%"


def seen_values(listed: Listed, where: Where) -> Statement | None:
    """The question which values an open arm has, for lists where that is not known beforehand."""
    open_arm = next((arm for arm in listed.arms if not arm.values and where.get(arm.column) is None), None)
    if open_arm is None or listed.counted is None or _narrow(listed, where) is not None:
        return None
    found, params = _conditions(_cells_where(listed, listed.counted, where))
    return f"SELECT DISTINCT {open_arm.column} FROM {listed.counted.cells} WHERE {found}", params  # noqa: S608 (our own names)


def total(listed: Listed, where: Where) -> Statement:
    """The question how many rows the list has; `where` names the organization."""
    if listed.counted is not None and _narrow(listed, where) is None:
        found, params = _conditions(_cells_where(listed, listed.counted, where))
        return f"SELECT coalesce(sum(number), 0) FROM {listed.counted.cells} WHERE {found}", params  # noqa: S608 (our own names)
    found, params = _row_conditions(listed, where)
    return f"SELECT count(*) FROM {listed.table} WHERE {found}", params  # noqa: S608 (our own names)


def page(
    listed: Listed,
    columns: str,
    where: Where,
    window: Window,
    *,
    count: int,
    dialect: Dialect,
    seen: Sequence[Value] = (),
) -> Statement:
    """The question for the rows in `window` of a list of `count`; `seen` answers `seen_values`."""
    left = count - window.offset
    take = min(window.limit, left)
    backwards = window.offset > left
    skip = left - take if backwards else window.offset
    way = "ASC" if backwards else "DESC"
    entry = f"SELECT created_ms AS page_ms, id AS page_id FROM {listed.table} WHERE"  # noqa: S608 (our own names)
    ordered = ""
    arms = list(_walks(listed, where, seen))
    if dialect == "postgres" and len(arms) > 1:
        # It merges walks that say themselves how far they go, and otherwise reads and sorts all of them.
        entry, ordered = f"({entry}", f" ORDER BY created_ms {way}, id {way} LIMIT ?)"
    walks: list[str] = []
    params: list[Value] = []
    for found, its in arms:
        walks.append(f"{entry} {found}{ordered}")
        params += [*its, skip + take] if ordered else its
    sql = (
        f"SELECT {columns} FROM ({' UNION ALL '.join(walks)} ORDER BY page_ms {way}, page_id {way} LIMIT ? OFFSET ?)"  # noqa: S608 (our own names)
        f" AS page JOIN {listed.table} ON id = page_id ORDER BY page_ms DESC, page_id DESC"
    )
    return sql, (*params, take, skip)


def _walks(listed: Listed, where: Where, seen: Sequence[Value]) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """The conditions of each walk through an index, which together find every row of the list once."""
    if listed.counted is None or _narrow(listed, where) is not None:
        yield _row_conditions(listed, where)
        return
    columns = [arm.column for arm in listed.arms]
    choices = [_values(where.get(arm.column)) or arm.values or tuple(seen) for arm in listed.arms]
    for chosen in product(*choices):
        yield _conditions({**where, **dict(zip(columns, chosen, strict=True))})


def _values(wanted: Wanted) -> tuple[Value, ...]:
    if wanted is None:
        return ()
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _narrow(listed: Listed, where: Where) -> Narrow | None:
    return next((narrow for narrow in listed.narrow if where.get(narrow.column) is not None), None)


def _row_conditions(listed: Listed, where: Where) -> tuple[str, tuple[Value, ...]]:
    found, params = _conditions(where)
    narrow = _narrow(listed, where)
    return (f"{found} AND {narrow.condition}" if narrow is not None and narrow.condition else found), params


def _cells_where(listed: Listed, counted: Counted, where: Where) -> Where:
    """What a list without narrow filters asks of its cells. `KeyError` for a column that no cell knows."""
    wanted = {column: value for column, value in where.items() if value is not None}
    if unknown := wanted.keys() - set(counted.keys):
        raise KeyError(f"{listed.table} is not counted by {sorted(unknown)}")
    return wanted


def _conditions(where: Where) -> tuple[str, tuple[Value, ...]]:
    """SQL and its parameters."""
    texts: list[str] = []
    params: list[Value] = []
    for column, wanted in where.items():
        if isinstance(wanted, tuple):
            texts.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            params.extend(wanted)
        elif wanted is not None:
            texts.append(f"{column} ? ESCAPE '{_ESCAPE}'" if column.endswith(LIKE) else f"{column} = ?")
            params.append(wanted)
    return " AND ".join(texts), tuple(params)
