"""Forgetting ended runs, as far as rows go: what they have left in the read models, and which are being forgotten.

Forgetting takes several commits (rows here, records in the log, blobs in the store), any of which may be the last one
before a crash. So the first one notes the run in `forgotten_runs`. A projector passes over the facts of a run that is
noted, hence a rebuild at any moment in between ends in the kept rows. The note goes when nothing else is left.

On Kafka the records of single runs cannot be dropped: how long public facts are kept is a setting of their topic, and
an operator's. There rows and blobs go, and the notes stay, so that the facts which are still there bring nothing back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kernel.clock import Clock
from kernel.log.topics import Topic
from kernel.sql.port import Database, Statement
from kernel.store.port import ByteStore

DAY_MS = 24 * 3600 * 1000
MARGIN_MS = 3600 * 1000
"""How much later than decided a fact may be appended; a run is forgotten so much later, that none of it is left."""
PAUSE_SECONDS = 0.02
"""Between two portions: whoever waits for the database goes first."""
RUNS_AT_ONCE = 100
"""Some thousand rows: a few milliseconds of the writer's time."""
_MARKS_MAX = 500

_ENDED = (
    "SELECT id FROM job_runs WHERE completed_ms > 0 AND completed_ms < ? ORDER BY completed_ms LIMIT ?",
    (
        "SELECT id FROM workflow_runs WHERE job_run_id = '' AND completed_ms > 0 AND completed_ms < ?"
        " ORDER BY completed_ms LIMIT ?"
    ),
)
_BY_WORKFLOW_RUN = ("steps", "artifacts", "input_requests")
_OF_JOB_RUN = "job_run_id <> '' AND job_run_id"


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Ended runs are kept for `days`, as far as their rows and blobs go: what a gateway of a cluster does."""

    days: int
    db: Database
    store: ByteStore
    clock: Clock

    async def forget(self) -> int:
        """Forget what is old now; how many runs that were. Repeatable: what a crash leaves is made up for."""
        runs = await forget_all_rows(self.db, self.clock, self.clock.now_ms() - self.days * DAY_MS)
        while roots := await self._unhanded():
            await self.store.unname(roots)
            marks = _marks(roots)
            await self.db.execute(f"UPDATE forgotten_runs SET handed = 1 WHERE root_run_id IN ({marks})", roots)  # noqa: S608 (marks only)
            await self.clock.sleep(PAUSE_SECONDS)
        return runs

    async def _unhanded(self) -> list[str]:
        rows = await self.db.fetch_all(
            "SELECT root_run_id FROM forgotten_runs WHERE handed = 0 ORDER BY root_run_id LIMIT ?", (_MARKS_MAX,)
        )
        return [row[0] for row in rows]


async def forget_all_rows(db: Database, clock: Clock, before_ms: int) -> int:
    """`forget_rows` of all runs that ended an hour before `before_ms`, portion by portion; how many runs that were."""
    runs = 0
    while portion := await forget_rows(db, before_ms - MARGIN_MS):
        runs += portion
        await clock.sleep(PAUSE_SECONDS)
    return runs


async def forget_rows(db: Database, before_ms: int) -> int:
    """Note a few of the root runs that ended before `before_ms`, oldest first, and delete their rows; how many."""
    for ended in _ENDED:
        rows = await db.fetch_all(ended, (before_ms, RUNS_AT_ONCE))
        if rows:
            await _forget(db, [row[0] for row in rows])
            return len(rows)
    return 0


async def _forget(db: Database, roots: Sequence[str]) -> None:
    marks = ", ".join(["(?)"] * len(roots))
    note = f"INSERT INTO forgotten_runs (root_run_id) VALUES {marks} ON CONFLICT DO NOTHING"  # noqa: S608 (marks only)
    await db.transaction([(note, tuple(roots)), *await deletions(db, roots)])


async def deletions(db: Database, roots: Sequence[str]) -> list[Statement]:
    """What deletes all rows of these root runs (at most `RUNS_AT_ONCE`)."""
    marks = _marks(roots)
    found = await db.fetch_all(f"SELECT id FROM workflow_runs WHERE {_OF_JOB_RUN} IN ({marks})", tuple(roots))  # noqa: S608 (our own names)
    runs = [*(row[0] for row in found), *roots]
    statements: list[Statement] = [
        (f"DELETE FROM run_events WHERE root_run_id IN ({marks})", tuple(roots)),  # noqa: S608 (marks only)
        (
            f"DELETE FROM projected_streams WHERE topic = ? AND stream IN ({marks})",  # noqa: S608 (marks only)
            (Topic.JOB_RUNS.value, *roots),
        ),
        (f"DELETE FROM job_runs WHERE id IN ({marks})", tuple(roots)),  # noqa: S608 (marks only)
    ]
    for begin in range(0, len(runs), _MARKS_MAX):
        part = tuple(runs[begin : begin + _MARKS_MAX])
        found_by = f"workflow_run_id IN ({_marks(part)})"
        statements += [(f"DELETE FROM {table} WHERE {found_by}", part) for table in _BY_WORKFLOW_RUN]  # noqa: S608 (our own names)
        statements.append((f"DELETE FROM workflow_runs WHERE id IN ({_marks(part)})", part))  # noqa: S608 (marks only)
    return statements


async def noted(db: Database, roots: Collection[str]) -> set[str]:
    """Which of `roots` are being forgotten."""
    found: set[str] = set()
    for part in _parts(roots):
        rows = await db.fetch_all(
            f"SELECT root_run_id FROM forgotten_runs WHERE root_run_id IN ({_marks(part)})",  # noqa: S608 (marks only)
            part,
        )
        found.update(row[0] for row in rows)
    return found


async def some_noted(db: Database, after: str) -> list[str]:
    """A few of the runs that are being forgotten, by id, behind `after`."""
    rows = await db.fetch_all(
        "SELECT root_run_id FROM forgotten_runs WHERE root_run_id > ? ORDER BY root_run_id LIMIT ?", (after, _MARKS_MAX)
    )
    return [row[0] for row in rows]


async def forget_notes(db: Database, roots: Collection[str]) -> None:
    """Nothing else is left of these runs."""
    for part in _parts(roots):
        await db.execute(f"DELETE FROM forgotten_runs WHERE root_run_id IN ({_marks(part)})", part)  # noqa: S608 (marks only)


def _parts(values: Collection[str]) -> list[tuple[str, ...]]:
    ordered = sorted(values)
    return [tuple(ordered[begin : begin + _MARKS_MAX]) for begin in range(0, len(ordered), _MARKS_MAX)]


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))
