"""All read models anew, beside those that are served: projected into tables of a schema of their own, then swapped in.

For PostgreSQL. The served tables are read, projected and cleaned up all the while:

    make      the schema `..._next`: tables as the served ones, without counts and with only the keys that rows are
              found by
    fill      project the public topics into them, as far as the served rows are
    finish    the other keys, indexes, counted cells and their triggers
    swap      one transaction. Projectors stop at their first statement; what they have projected meanwhile is filled
              in, runs that were forgotten meanwhile go, and the tables change places. Who asks meanwhile waits for that
              moment and gets the new rows, which tell the same

Positions are rows of the new tables, too, so a rebuild that was killed goes on where it was; one of other tables or
topics begins anew. Only one works at a time. What is forgotten while it lasts (`api_gateway.retention`) a trigger notes
in the new schema, as rows that were filled in before must not come back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from api_gateway import counting
from api_gateway.migrations import migrations
from api_gateway.projecting import Place, Projector
from api_gateway.projections import catalog
from api_gateway.retention import RUNS_AT_ONCE, deletions
from api_gateway.waiting import Projected
from kernel.clock import Clock
from kernel.errors import LogUnavailable, Permanent, UnknownOutcome
from kernel.log.port import EventLog
from kernel.log.topics import Topic
from kernel.sql.port import Database, Row, Statement

TABLES = (
    *(table.name for table in catalog.TABLES),
    "projected_streams",
    "projection_positions",
    *(counted.cells for counted in counting.COUNTED),
)
"""What is made anew."""
BATCH_RECORDS = 4000
PARTITIONS_AT_ONCE = 4
"""Enough for the log, this process and the server to work at the same time, and few enough to stay in caches."""
NEAR_RECORDS = 2000
"""So few may be missing when the swap begins; they are filled in while projectors wait."""
SWAP_TRIES = 50
SWAP_REST_SECONDS = 0.2
RETRY_SECONDS = 1.0
LOCK_MS = 500
"""How long the swap lets others queue up behind it before it gives up for now; below the wait for deadlocks."""
STATEMENTS_AT_ONCE = 2
_MARK = "towpath rebuild "
_ONLY_ADDED = tuple(table.name for table in catalog.TABLES if table.only_added)
_FOUND = tuple(name for name in TABLES if name not in _ONLY_ADDED)
"""Whose rows are found by their key already while they are filled."""

_SCHEMA = """
SELECT current_schema(), obj_description(n.oid, 'pg_namespace'), n.oid IS NOT NULL
FROM (SELECT current_schema() || '_next' AS name) AS wanted LEFT JOIN pg_namespace n ON n.nspname = wanted.name
"""
_EXISTS = "SELECT to_regnamespace(quote_ident(?::TEXT)) IS NOT NULL"
_KEYS = """
SELECT format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', ?::TEXT, c.relname, k.conname, pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(?::TEXT)) AND k.contype IN ('p', 'u') AND c.relname = ANY (?::TEXT[])
  AND NOT EXISTS (SELECT 1 FROM pg_constraint n JOIN pg_class d ON d.oid = n.conrelid
    WHERE d.relnamespace = to_regnamespace(quote_ident(?::TEXT)) AND d.relname = c.relname AND n.conname = k.conname)
"""
_OPTIONS = """
SELECT format('ALTER TABLE %I.%I SET (%s)', ?::TEXT, relname, array_to_string(reloptions, ', '))
FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(?::TEXT)) AND relkind = 'r' AND reloptions IS NOT NULL
  AND relname = ANY (?::TEXT[])
"""
_INDEXES = """
SELECT replace(pg_get_indexdef(i.indexrelid),
  format(' ON %I.%I ', ?::TEXT, t.relname), format(' ON %I.%I ', ?::TEXT, t.relname))
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE t.relnamespace = to_regnamespace(quote_ident(?::TEXT)) AND t.relname = ANY (?::TEXT[])
  AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)
  AND to_regclass(format('%I.%I', ?::TEXT, x.relname)) IS NULL
"""
_TRIGGERED = """
SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(format('%I.%I', ?::TEXT, ?::TEXT)) AND NOT tgisinternal
"""
_APPLIED = "SELECT checksum FROM schema_migrations ORDER BY component, number"
_POSITIONS = "SELECT topic, partition, topic_id, next_offset FROM {}.projection_positions"
_MOVE_POSITIONS = """
INSERT INTO {next}.projection_positions AS new (topic, partition, topic_id, next_offset)
SELECT topic, partition, topic_id, next_offset FROM {live}.projection_positions
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = greatest(new.next_offset, excluded.next_offset)
WHERE new.topic_id = excluded.topic_id
"""


_NOTING = (
    "CREATE TABLE {next}.forgotten_meanwhile (root_run_id TEXT PRIMARY KEY)",
    (
        "CREATE FUNCTION {next}.note_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO"
        " {next}.forgotten_meanwhile VALUES (new.root_run_id) ON CONFLICT DO NOTHING; RETURN NULL; END $$"
    ),
    (
        "CREATE TRIGGER forgotten_meanwhile AFTER INSERT ON {live}.forgotten_runs"
        " FOR EACH ROW EXECUTE FUNCTION {next}.note_forgotten()"
    ),
)
_FORGOTTEN = "SELECT root_run_id FROM forgotten_meanwhile ORDER BY root_run_id LIMIT ? OFFSET ?"


Ask = Callable[..., Awaitable[list[Row]]]
"""Asks in a transaction that is open; called with a statement and its parameters."""


class Served(Database, Protocol):
    """The database whose read models are rebuilt: what PostgreSQL can do beyond the port."""

    def one_transaction(self) -> AbstractAsyncContextManager[Ask]:
        """A transaction that stays open."""
        ...

    async def beside(self, schema: str) -> Database:
        """The same database, where names are looked for in `schema` first."""
        ...


class _Nobody:
    """The audience of rows that nobody sees yet."""

    def announcement(self, _batch: Projected) -> Sequence[Statement]:
        return ()

    def committed(self, _batch: Projected) -> None:
        return


def _untold(_text: str) -> None:
    """Nobody watches."""


async def rebuild_beside(log: EventLog, served: Served, clock: Clock, *, tell: Callable[[str], None] = _untold) -> int:
    """Rebuild all read models while they are served; how many records were projected here.

    May be cancelled or killed at any moment and called again. `tell` is given lines about the progress. Waits while
    another one works on the same database. Raises what log and database raise, and `LogUnavailable` when the tables are
    so busy that no moment for the swap was found; `Permanent`: `schema_taken` when the schema `..._next` is not ours,
    `schema_changed` when somebody has migrated the tables meanwhile.
    """
    async with served.alone("rebuild"):
        schema = await _made(log, served)
        beside = await served.beside(_quoted(schema.next))
        try:
            return await _Rebuild(log, served, beside, schema, clock, tell).run()
        finally:
            await beside.close()


@dataclass(frozen=True, slots=True)
class _Schemas:
    live: str
    next: str
    version: str
    """Of the tables that `next` was made as."""

    @property
    def served(self) -> str:
        """All tables that change places, for a statement."""
        return ", ".join(self.live_table(table) for table in TABLES)

    def live_table(self, name: str) -> str:
        return f"{_quoted(self.live)}.{name}"

    def next_table(self, name: str) -> str:
        return f"{_quoted(self.next)}.{name}"


@dataclass(slots=True)
class _Rebuild:
    """One rebuild whose tables are made."""

    log: EventLog
    served: Served
    beside: Database
    schemas: _Schemas
    clock: Clock
    tell: Callable[[str], None]
    projected: int = 0

    async def run(self) -> int:
        self.tell("projecting")
        await self._fill(await self._ends(_POSITIONS.format(_quoted(self.schemas.live))))
        self.tell(f"{self.projected:,} records are projected; making indexes")
        await self._finish()
        for _ in range(SWAP_TRIES):
            if await self._is_swapped():
                self.tell("the new tables are served")
                return self.projected
            await self.clock.sleep(SWAP_REST_SECONDS)
        raise LogUnavailable("the tables are too busy for a swap; what is rebuilt is kept for the next try")

    async def _ends(self, positions: str, ask: Ask | None = None) -> dict[Place, int]:
        """How far the served rows are; where they follow another topic, or nothing yet, where the log ends."""
        served = {(row[0], row[1]): row[2:] for row in await (ask or self.served.fetch_all)(positions)}
        ends: dict[Place, int] = {}
        for topic, partition in _places(self.log):
            topic_id, next_offset = served.get((topic.value, partition), ("", 0))
            is_same = topic_id == await self.log.topic_id(topic)
            ends[topic, partition] = next_offset if is_same else await self.log.end_offset(topic, partition)
        return ends

    async def _fill(self, ends: Mapping[Place, int]) -> int:
        """How many records that took; a log or database that is away is waited for."""
        projector = Projector(self.log, self.beside, _Nobody(), self.clock, batch_records=BATCH_RECORDS, loads=True)
        count = None
        while count is None:
            try:
                count = await projector.catch_up(ends, at_once=PARTITIONS_AT_ONCE)
            except* (LogUnavailable, UnknownOutcome) as errors:
                self.tell(f"waiting: {errors.exceptions[0]}")
                await self.clock.sleep(RETRY_SECONDS)
        self.projected += count
        return count

    async def _finish(self) -> None:
        """Each step is done once, however often this is begun."""
        live, next_ = self.schemas.live, self.schemas.next
        await self._each(await self.served.fetch_all(_KEYS, (next_, live, _ONLY_ADDED, next_)))
        await self._each(await self.served.fetch_all(_INDEXES, (live, next_, live, TABLES, next_)))
        for counted in counting.COUNTED:
            row = await self.served.fetch_one(_TRIGGERED, (next_, counted.table))
            if row == (0,):
                await self.beside.transaction([(sql, ()) for sql in counting.recounting(counted)])
        await self._each([(f"ANALYZE {table}",) for table in TABLES])

    async def _each(self, statements: Sequence[Row]) -> None:
        """Carry out statements that need not wait for each other, a few at once: the server takes a core for each."""
        turns = asyncio.Semaphore(STATEMENTS_AT_ONCE)

        async def in_turn(statement: str) -> None:
            async with turns:
                await self.beside.execute(statement)

        async with asyncio.TaskGroup() as group:
            for (statement,) in statements:
                group.create_task(in_turn(statement))

    async def _is_swapped(self) -> bool:
        """One try. False when somebody held the tables for too long, or too much was missing."""
        positions = _POSITIONS.format(_quoted(self.schemas.live))
        while await self._fill(await self._ends(positions)) > NEAR_RECORDS:
            self.tell(f"{self.projected:,} records are projected")
        try:
            async with self.served.one_transaction() as ask:
                await ask(f"SET LOCAL lock_timeout = '{LOCK_MS}ms'")
                await ask(f"LOCK TABLE {self.schemas.live_table('projection_positions')} IN ACCESS EXCLUSIVE MODE")
                await self._fill(await self._ends(positions, ask))
                await ask(f"LOCK TABLE {self.schemas.live_table('forgotten_runs')} IN ACCESS EXCLUSIVE MODE")
                await self._forget()
                await ask(f"LOCK TABLE {self.schemas.served} IN ACCESS EXCLUSIVE MODE")
                if await _version(ask) != self.schemas.version:
                    raise Permanent("schema_changed", "the tables were migrated during the rebuild: begin again")
                for statement in self._swap():
                    await ask(statement)
        except (LogUnavailable, UnknownOutcome) as error:
            self.tell(f"not yet: {error}")
            return await self.served.fetch_one(_EXISTS, (self.schemas.next,)) == (False,)
        return True

    async def _forget(self) -> None:
        """Rows of runs that were forgotten since the rebuild began."""
        offset = 0
        while rows := await self.beside.fetch_all(_FORGOTTEN, (RUNS_AT_ONCE, offset)):
            await self.beside.transaction(await deletions(self.beside, [row[0] for row in rows]))
            offset += RUNS_AT_ONCE

    def _swap(self) -> list[str]:
        """The new tables take the places of the served ones."""
        live, next_ = _quoted(self.schemas.live), _quoted(self.schemas.next)
        return [
            _MOVE_POSITIONS.format(live=live, next=next_),
            f"DROP TABLE {self.schemas.served}",
            *(f"ALTER TABLE {self.schemas.next_table(table)} SET SCHEMA {live}" for table in TABLES),
            f"DROP SCHEMA {next_} CASCADE",
        ]


async def _made(log: EventLog, served: Served) -> _Schemas:
    """The tables to be filled: those of a rebuild that was begun, or new ones."""
    async with served.one_transaction() as ask:
        ((live, mark, exists),) = await ask(_SCHEMA)
        schemas = _Schemas(live, f"{live}_next", await _version(ask))
        wanted = _MARK + schemas.version
        if exists and not (mark or "").startswith(_MARK):
            raise Permanent("schema_taken", f"the schema {schemas.next} is somebody else's; the rebuild needs the name")
        if exists and mark == wanted and await _is_of(log, await ask(_POSITIONS.format(_quoted(schemas.next)))):
            return schemas
        next_ = _quoted(schemas.next)
        for statement in (
            f"DROP SCHEMA IF EXISTS {next_} CASCADE",
            f"CREATE SCHEMA {next_}",
            f"COMMENT ON SCHEMA {next_} IS '{wanted}'",
            *(
                f"CREATE TABLE {schemas.next_table(table)} (LIKE {schemas.live_table(table)}"
                " INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
                for table in TABLES
            ),
            *(statement.format(live=_quoted(live), next=next_) for statement in _NOTING),
        ):
            await ask(statement)
        for question, params in (
            (_KEYS, (schemas.next, live, _FOUND, schemas.next)),
            (_OPTIONS, (schemas.next, live, TABLES)),
        ):
            for (statement,) in await ask(question, params):
                await ask(statement)
        return schemas


async def _is_of(log: EventLog, positions: Sequence[Row]) -> bool:
    """Whether these rows follow the topics that are there now."""
    return all([topic_id == await log.topic_id(topic) for topic, _, topic_id, _ in positions])


async def _version(ask: Ask) -> str:
    """Of the tables and of what fills them: another build's half-filled ones, or ones of other columns, are no use."""
    ours = [migration.checksum for migration in migrations("postgres")]
    applied = [checksum for (checksum,) in await ask(_APPLIED)]
    return hashlib.sha256("".join([*ours, *applied, *_ONLY_ADDED]).encode()).hexdigest()[:16]


def _places(log: EventLog) -> list[Place]:
    return [
        (topic, partition)
        for topic in (Topic.JOB_RUNS, Topic.DEFINITIONS)
        for partition in range(log.partitions(topic))
    ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
