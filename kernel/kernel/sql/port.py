"""The SQL port: a few verbs over text that both databases read, and the runner of numbered migrations.

Implementations: `sqlite` (embedded) and `postgres` (cluster); one contract suite runs over both. Shared SQL
text uses `?` for parameters, `INSERT ... ON CONFLICT`, row-value comparison for keyset pages, and no function that only
one of them has. Where they differ in types (`BLOB`, `BYTEA`) the caller chooses by `dialect`, usually in its
migrations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from kernel.errors import Permanent

Row = tuple[Any, ...]
Dialect = Literal["sqlite", "postgres"]
Cell = str | int | float | bytes | bool | None
Params = Sequence[Cell | Sequence[Cell]]
"""A sequence among them is an array, which only PostgreSQL has."""
Statement = tuple[str, Params]


class Database(Protocol):
    """One database. Safe to use from many tasks of its event loop.

    Every call raises `LogUnavailable` (busy or away: try again), `LogRefused` (full, damaged or closed) or
    `ConstraintViolated` (a unique or check constraint; nothing of the call was written); writing calls also
    `UnknownOutcome` when the commit itself failed. SQL that is wrong raises the driver's own error: it is a bug.
    """

    @property
    def dialect(self) -> Dialect:
        """Which SQL it speaks where the text cannot be shared."""
        ...

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows of a query that writes nothing; it sees every write acknowledged before the call."""
        ...

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        """The first row of a query that writes nothing, or None."""
        ...

    async def execute(self, sql: str, params: Params = ()) -> int:
        """One writing statement, durable when it returns; how many rows it changed (a conditional write: 0 or 1)."""
        ...

    async def executemany(self, sql: str, rows: Sequence[Params]) -> int:
        """One writing statement for each of `rows`, atomically; how many rows they changed in all."""
        ...

    async def transaction(self, statements: Sequence[Statement], *, guarded: bool = False) -> list[int]:
        """Writing statements in order, atomically, durable when it returns; the rows changed by each.

        `guarded`: the first statement is a condition; when it changes no row, nothing else runs and `[0]` is returned.
        """
        ...

    def alone(self, name: str) -> AbstractAsyncContextManager[None]:
        """Wait until nobody else of this database is inside of `name`, in whatever process; for rare and long work.

        Who is inside may lose the place without being told, when the server goes away: what is done there stands on
        conditional writes all the same.
        """
        ...

    async def scrub(self) -> None:
        """Deleted values leave the files too, as far as this database can: called after an erasure. Repeatable.

        SQLite: the write-ahead log is folded into the file and emptied (deleted cells are overwritten there).
        PostgreSQL: the tables that this object has deleted from are vacuumed.
        """
        ...

    async def close(self) -> None:
        """Let go of what this object holds itself. Idempotent."""
        ...


class Signals(Protocol):
    """Short messages between the processes of one database (of one schema): a hint to look, never the truth.

    Implemented where processes share a database; a process that is alone tells itself.
    """

    def notification(self, channel: str, payload: str) -> Statement:
        """What sends `payload` (text, at most 4 KiB, not empty), put into a transaction: it goes out with the commit.

        Whoever hears it sees the rows of that transaction.
        """
        ...

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        """Call `heard` with each payload, in the order of the commits, until cancelled; on a connection of its own.

        `heard("")`: some may have been missed; called once listening has begun, and again after each reconnect.
        """
        ...


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the tables of one component (a service, or one of its stores). Never changed once released.

    `number` counts from 1 without gaps per component. `oldest` says which builds may still work on the tables that it
    leaves, as they do beside a newer build and after the way back: those that know at least the migration of that
    number. Without it: those that know this one. 0 is for a migration that only adds what no older build misses:
    tables, indexes, columns with a default. What older builds use goes a release after the last build that used it,
    with the number of the migration since which none does.
    """

    component: str
    number: int
    name: str
    statements: tuple[str, ...]
    oldest: int | None = None

    @property
    def checksum(self) -> str:
        """SHA-256 of the statements, in hex."""
        return hashlib.sha256("\x1e".join(self.statements).encode()).hexdigest()


_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (component TEXT NOT NULL, number INTEGER NOT NULL,"
    " name TEXT NOT NULL, checksum TEXT NOT NULL, PRIMARY KEY (component, number))"
)
_TABLE_OF_OLDEST = (
    "CREATE TABLE IF NOT EXISTS schema_oldest (component TEXT NOT NULL, number INTEGER NOT NULL,"
    " oldest INTEGER NOT NULL, PRIMARY KEY (component, number))"
)


async def migrate(db: Database, migrations: Sequence[Migration], *, check: bool = False) -> list[Migration]:
    """Apply what is missing, each migration in its own transaction; the ones that were missing.

    With `check` nothing but the empty bookkeeping tables is written. May be called twice, and by two at once. Raises
    `Permanent`: `migration_changed` when an applied one has other text now, `migration_unknown` when the database is
    ahead of this version and its tables are none that this version can work on (`Migration.oldest`), `migration_gap`
    when numbers are missing.
    """
    async with db.alone("migrations"):
        await db.execute(_TABLE)
        await db.execute(_TABLE_OF_OLDEST)
        return await _migrate(db, migrations, check=check)


async def _migrate(db: Database, migrations: Sequence[Migration], *, check: bool) -> list[Migration]:
    missing = []
    for component in dict.fromkeys(migration.component for migration in migrations):
        own = [migration for migration in migrations if migration.component == component]
        applied = await _applied(db, component)
        _refuse_newer(component, len(own), applied, await _oldest(db, component))
        missing += _missing(own, applied)
    if not check:
        for migration in missing:
            await _apply(db, migration)
    return missing


async def _applied(db: Database, component: str) -> dict[int, str]:
    rows = await db.fetch_all("SELECT number, checksum FROM schema_migrations WHERE component = ?", (component,))
    return dict(rows)


async def _oldest(db: Database, component: str) -> dict[int, int]:
    rows = await db.fetch_all("SELECT number, oldest FROM schema_oldest WHERE component = ?", (component,))
    return dict(rows)


def _refuse_newer(component: str, known: int, applied: Iterable[int], oldest: Mapping[int, int]) -> None:
    """Refuse tables on which a build that knows migrations up to `known` cannot work."""
    newer = [number for number in applied if number > known]
    wanted = max((oldest.get(number, number) for number in newer), default=0)
    if wanted > known:
        raise Permanent(
            "migration_unknown",
            f"a newer version has migrated {component} to {max(newer)}, which takes a version that knows"
            f" {component} {wanted}; this one knows {known}",
        )


def _missing(own: Sequence[Migration], applied: dict[int, str]) -> list[Migration]:
    component = own[0].component
    if [migration.number for migration in own] != list(range(1, len(own) + 1)):
        raise Permanent("migration_gap", f"the migrations of {component} are not numbered 1, 2, 3 ...")
    for migration in own:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise Permanent("migration_changed", f"{component} {migration.number} ({migration.name}) has changed")
    return [migration for migration in own if migration.number not in applied]


async def _apply(db: Database, migration: Migration) -> None:
    """The row comes first: whoever runs at the same time waits for it or is stopped by it, before any table changes."""
    row: Statement = (
        "INSERT INTO schema_migrations (component, number, name, checksum) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (migration.component, migration.number, migration.name, migration.checksum),
    )
    oldest: Statement = (
        "INSERT INTO schema_oldest (component, number, oldest) VALUES (?, ?, ?)",
        (migration.component, migration.number, migration.number if migration.oldest is None else migration.oldest),
    )
    await db.transaction([row, oldest, *((statement, ()) for statement in migration.statements)], guarded=True)
