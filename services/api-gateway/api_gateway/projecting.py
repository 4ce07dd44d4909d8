"""The shell around the projections: reads public topics, writes rows, remembers how far it came.

Each partition has its own position. A batch's rows, the position and the announcement to those who wait move in one
transaction whose first statement is conditional on the old position, so a second projector, or a repeated batch,
changes nothing. Facts that come twice are dropped by their sequence. All changes of one row within a batch become one
statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import structlog

from api_gateway.batch_writing import batch_statements
from api_gateway.counting import COUNTED, taking_part
from api_gateway.facts import facts_of
from api_gateway.projections import catalog
from api_gateway.projections.change import Fact, Kind, Table
from api_gateway.row_writing import Rows, among, few, rows_of
from api_gateway.waiting import Audience, Projected
from kernel.clock import Clock
from kernel.errors import LogRefused, LogUnavailable, UnknownOutcome
from kernel.log.port import EventLog, Stored
from kernel.log.topics import Topic
from kernel.metering import Standing
from kernel.proposals import Proposals
from kernel.sql.port import Database, Statement

PUBLIC_TOPICS = (Topic.JOB_RUNS, Topic.DEFINITIONS)
BATCH_RECORDS_MAX = 1000
REMEMBERED_STREAMS_MAX = 20_000
READ_WAIT_SECONDS = 30.0
GROUP = "projector"
"""As which it is told apart in `kafka_consumer_lag`."""
RETRY_SECONDS = 0.2
_IN_CLAUSE_MAX = 500
_BUILD_TABLES = ("projected_streams", "projection_positions", *(counted.cells for counted in COUNTED))
"""Emptied after the rows, whose going moves the cells."""
_NOT_ASKED = -1
"""Where a partition ends that was just taken; it is asked for by who follows it."""
_FORGOTTEN = 2**62
"""No fact of a run that is being forgotten is above this."""
_AT = "topic = ? AND partition = ?"
_BEGUN = few("unnest(?::TEXT[])")
_ALL_BEGIN = (
    f" AND NOT EXISTS (SELECT FROM {_BEGUN} AS begun (stream) JOIN projected_streams AS known USING (stream)"  # noqa: S608 (constants)
    f" WHERE known.topic = ?) AND NOT EXISTS (SELECT FROM {_BEGUN} AS begun (root_run_id)"
    " JOIN forgotten_runs USING (root_run_id))"
)
_STREAMS = Table("projected_streams", ("topic", "stream"))
_log = structlog.get_logger("api_gateway.projecting")


Place = tuple[Topic, int]
"""A partition of a topic."""


@dataclass(slots=True)
class _Follower:
    """How far one partition is projected. `sequences` holds the last number of recently seen streams."""

    topic: Topic
    partition: int
    next_offset: int = 0
    sequences: dict[str, int] = field(default_factory=dict)
    is_live: bool = False
    """It follows, and does not only catch up."""


def unmeasured(_batch: Projected) -> None:
    """Nobody measures."""


def each(*measured: Callable[[Projected], None]) -> Callable[[Projected], None]:
    """All of them, one after the other."""

    def all_of_them(batch: Projected) -> None:
        for one in measured:
            one(batch)

    return all_of_them


class Projector:
    """Follows partitions of the public topics into the read models and tells its audience.

    Any number may run over one database, of the same partitions, too: each batch is committed by one of them.
    """

    def __init__(
        self,
        log: EventLog,
        db: Database,
        audience: Audience,
        clock: Clock,
        *,
        measured: Callable[[Projected], None] = unmeasured,
        batch_records: int = BATCH_RECORDS_MAX,
        loads: bool = False,
    ) -> None:
        """`measured` is called with each batch at its commit; not by `catch_up` and `rebuild`.

        `loads`: the tables are filled by this projector alone, on PostgreSQL, so what it knows to be new is copied.
        """
        self._log = log
        self._db = db
        self._audience = audience
        self._clock = clock
        self._measured = measured
        self._batch_records = batch_records
        self._loads = loads
        self._behind: dict[Place, int] = {}
        """Partitions that were taken and not caught up yet, with the offset where that is done."""
        self._taken: frozenset[int] | None = None
        self._followers: dict[Place, _Follower] = {}

    @property
    def is_caught_up(self) -> bool:
        """Whether each partition that was taken has once been projected to where it ended when it was taken.

        Lag that comes later is told by numbers: whoever stops serving because of it only moves callers to replicas that
        read the same rows.
        """
        return self._taken is not None and not self._behind

    def standing(self) -> Iterator[Standing]:
        """How far each partition is projected that is followed now."""
        for (topic, partition), follower in self._followers.items():
            yield Standing(GROUP, topic, partition, follower.next_offset)

    async def run(self, proposals: Proposals | None = None) -> None:
        """Follow all partitions, or those that are proposed, as that changes, for ever.

        Ends by cancellation, or with `LogRefused` in an `ExceptionGroup` when nothing helps.
        """
        following: dict[Place, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._taken = None if proposals is None else proposals.now
                places = set(self._places(self._taken))
                for place in following.keys() - places:
                    following.pop(place).cancel()
                    self._behind.pop(place, None)
                    self._followers.pop(place, None)
                for place in places - following.keys():
                    self._behind[place] = _NOT_ASKED
                    following[place] = group.create_task(self._follow(*place))
                if proposals is None:
                    self._taken = frozenset(partition for _, partition in places)
                    return
                await proposals.other_than(self._taken or frozenset())

    def _places(self, proposed: frozenset[int] | None = None) -> Iterator[Place]:
        """All partitions, or those that go with the proposed ones of `job_runs`."""
        proposable = self._log.partitions(Topic.JOB_RUNS)
        for topic in PUBLIC_TOPICS:
            for partition in range(self._log.partitions(topic)):
                if proposed is None or partition % proposable in proposed:
                    yield topic, partition

    async def catch_up(self, ends: Mapping[Place, int] | None = None, *, at_once: int = 0) -> int:
        """Project what is in the log now, or all that is below `ends`; how many records that were. Not beside `run`.

        Errors come in an `ExceptionGroup`: the partitions are read side by side, `at_once` of them (0: all). Among them
        `LogUnavailable` when a partition ends before its end, as one does for a moment that has a new leader, and when
        `ends` are given and somebody else projects into the same rows: call it again.
        """
        turns = asyncio.Semaphore(at_once) if at_once else nullcontext()

        async def in_turn(place: Place) -> int:
            async with turns:
                return await self._catch_up(place, ends)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(place)) for place in self._places()]
        return sum(task.result() for task in tasks)

    async def rebuild(self) -> int:
        """Empty every read model and project from the first record on. Not beside `run`."""
        tables = (*(table.name for table in catalog.TABLES), *_BUILD_TABLES)
        await self._db.transaction([(f"DELETE FROM {name}", ()) for name in tables])  # noqa: S608 (our own names)
        return await self.catch_up()

    async def lag(self) -> int:
        """Public records that are not projected yet."""
        behind = 0
        for topic, partition in self._places():
            row = await self._position(topic, partition)
            behind += await self._log.end_offset(topic, partition) - (row[1] if row else 0)
        return behind

    async def _catch_up(self, place: Place, ends: Mapping[Place, int] | None) -> int:
        follower = await self._follower(*place)
        end = await self._log.end_offset(*place) if ends is None else ends[place]
        count, was_empty = 0, False
        while follower.next_offset < end:
            stored = [one for one in await self._read(follower, 0.0) if ends is None or one.offset < end]
            if not stored:
                if was_empty:
                    break
                # A new leader shows late what it has, and tells its end only afterwards: what is empty then is empty.
                if await self._log.end_offset(*place) < end:
                    raise LogUnavailable(f"{place[0]}/{place[1]} does not reach {end} yet")
                was_empty = True
                continue
            if not await self._apply(follower, stored):
                if ends is None:
                    break
                raise LogUnavailable(f"somebody else projects {place[0]}/{place[1]}")
            count, was_empty = count + len(stored), False
        return count

    async def _follow(self, topic: Topic, partition: int) -> None:
        follower: _Follower | None = None
        while True:
            try:
                follower = follower or await self._follower(topic, partition)
                follower.is_live = True
                self._followers[topic, partition] = follower
                await self._note_caught_up(follower)
                stored = await self._read(follower, READ_WAIT_SECONDS)
                if stored and not await self._apply(follower, stored):
                    follower = None
            except (LogUnavailable, UnknownOutcome) as error:
                _log.warning("projecting.retry", topic=topic.value, partition=partition, error=str(error))
                follower = None
                await self._clock.sleep(RETRY_SECONDS)

    async def _note_caught_up(self, follower: _Follower) -> None:
        place = (follower.topic, follower.partition)
        wanted = self._behind.get(place)
        if wanted is None:
            return
        if wanted == _NOT_ASKED:
            wanted = self._behind[place] = await self._log.end_offset(*place)
        if max(follower.next_offset, await self._log.next_offset(*place, follower.next_offset)) >= wanted:
            self._behind.pop(place, None)

    async def _read(self, follower: _Follower, wait_seconds: float) -> list[Stored]:
        return await self._log.read(
            follower.topic,
            follower.partition,
            follower.next_offset,
            max_records=self._batch_records,
            wait_seconds=wait_seconds,
        )

    async def _follower(self, topic: Topic, partition: int) -> _Follower:
        """Where this partition stands. `LogRefused` when the topic is not the one that was followed before."""
        topic_id = await self._log.topic_id(topic)
        row = await self._position(topic, partition)
        if row is None:
            await self._db.execute(
                "INSERT INTO projection_positions (topic, partition, topic_id, next_offset) VALUES (?, ?, ?, 0)"
                " ON CONFLICT DO NOTHING",
                (topic.value, partition, topic_id),
            )
            return _Follower(topic, partition)
        if row[0] != topic_id:
            raise LogRefused(f"{topic} was recreated: the read models follow {row[0]}; rebuild them")
        return _Follower(topic, partition, row[1])

    async def _position(self, topic: Topic, partition: int) -> tuple[str, int] | None:
        row = await self._db.fetch_one(
            f"SELECT topic_id, next_offset FROM projection_positions WHERE {_AT}",  # noqa: S608 (a constant)
            (topic.value, partition),
        )
        return None if row is None else (row[0], row[1])

    async def _apply(self, follower: _Follower, stored: Sequence[Stored]) -> bool:
        """Project one batch; False when another projector has moved the position."""
        batch = Projected(
            follower.topic, follower.partition, follower.next_offset, stored[-1].offset + 1, facts_of(stored)
        )
        begun = self._begun(follower, batch.facts)
        if not await self._write(follower, batch, begun):
            if not begun:
                return False
            follower.sequences.clear()
            if not await self._write(follower, batch, ()):
                return False
        follower.next_offset = batch.next_offset
        if len(follower.sequences) > REMEMBERED_STREAMS_MAX:
            follower.sequences.clear()
        self._audience.committed(batch)
        if follower.is_live:
            self._measured(batch)
        return True

    def _begun(self, follower: _Follower, facts: Iterable[Fact]) -> Sequence[str]:
        """Streams that seem to begin with this batch: what it writes hangs on that, so nobody asks before.

        SQLite is in this process, and a rebuild asks for thousands at once: there to ask is as good.
        """
        if self._loads or self._db.dialect == "sqlite":
            return ()
        first: dict[str, int] = {}
        for fact in facts:
            if fact.sequence and fact.key not in follower.sequences:
                first.setdefault(fact.key, fact.sequence)
        return sorted(key for key, sequence in first.items() if sequence == 1)

    async def _write(self, follower: _Follower, batch: Projected, begun: Sequence[str]) -> bool:
        """False when the position has moved, or a stream of `begun` was there before; then nothing is written."""
        follower.sequences.update(dict.fromkeys(begun, 0))
        await self._load_sequences(follower, batch.facts)
        fresh = _fresh(follower, batch.facts)
        dialect = self._db.dialect
        statements = batch_statements(
            self._position_moved(batch, begun),
            [*rows_of(fresh, dialect), _sequences(follower, fresh)],
            self._audience.announcement(batch),
            dialect,
            loads=self._loads,
        )
        return (await self._db.transaction(statements, guarded=True))[0] > 0

    def _position_moved(self, batch: Projected, begun: Sequence[str]) -> Statement:
        """The condition of a batch: nobody has projected it before, and the streams that seem to begin do."""
        part, params = taking_part(batch.partition, self._db.dialect)
        moved = f"UPDATE projection_positions SET next_offset = ? WHERE {_AT} AND next_offset = ?{part}"  # noqa: S608 (constants)
        told = (batch.next_offset, batch.topic.value, batch.partition, batch.first_offset, *params)
        if self._loads or self._db.dialect == "sqlite":
            return moved, told
        return moved + _ALL_BEGIN, (*told, begun, batch.topic.value, begun)

    async def _load_sequences(self, follower: _Follower, facts: Iterable[Fact]) -> None:
        unknown = sorted({fact.key for fact in facts if fact.sequence and fact.key not in follower.sequences})
        for start in range(0, len(unknown), _IN_CLAUSE_MAX):
            part = unknown[start : start + _IN_CLAUSE_MAX]
            is_part, keys = among(part, self._db.dialect)
            rows = await self._db.fetch_all(
                f"SELECT stream, sequence FROM projected_streams WHERE topic = ? AND stream {is_part} UNION ALL"  # noqa: S608 (marks only)
                f" SELECT root_run_id, {_FORGOTTEN} FROM forgotten_runs WHERE root_run_id {is_part}",
                (follower.topic.value, *keys, *keys),
            )
            follower.sequences.update(dict.fromkeys(part, 0))
            follower.sequences.update((row[0], row[1]) for row in rows)


def _sequences(follower: _Follower, fresh: Iterable[Fact]) -> Rows:
    """How far the streams of these facts are."""
    touched = {fact.key for fact in fresh if fact.sequence}
    values = [(follower.sequences[key], follower.topic.value, key) for key in sorted(touched)]
    return Rows(Kind.PUT, _STREAMS, ("sequence",), values)


def _fresh(follower: _Follower, facts: Iterable[Fact]) -> list[Fact]:
    """Facts that were not projected before; a record without a number belongs to no stream and repeats no row."""
    fresh = []
    for fact in facts:
        if fact.sequence:
            last = follower.sequences[fact.key]
            if fact.sequence <= last:
                continue
            if fact.sequence != last + 1:
                _log.error("projecting.gap", topic=follower.topic.value, key=fact.key, after=last, found=fact.sequence)
            follower.sequences[fact.key] = fact.sequence
        fresh.append(fact)
    return fresh
