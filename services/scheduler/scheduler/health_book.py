"""The rows of `scheduler.health` between the log and SQL: counted in memory, written now and then, judged as written.

A row in memory says what its partition has said up to its last fact, and so does a row in SQL; the one that is further
is right. So whoever counts may die, be paused, or count beside another: nothing is counted twice, and nothing older
replaces what is newer. What the registry is told is made from written rows only, and so never from less than before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from kernel import health_rows
from kernel.clock import Clock
from kernel.domain.health_windows import MINUTE_MS, MINUTES_KEPT, HealthRow
from kernel.domain.provider_health import ProviderHealthObserved, Verdict
from kernel.errors import LogRefused, UnknownType
from kernel.ids import derived_id
from kernel.log.codec import decode, encode
from kernel.log.envelope import Envelope
from kernel.log.port import Record, Stored
from kernel.log.topics import TYPES, Topic, partition_of
from kernel.sql.port import Database
from scheduler.health import TELLING, Place, Said, Told, count, is_worth_telling, observe, said_by

UNKEPT_MAX = 5000
"""So many records of a partition that say nothing move no position."""
ROWS_IN_MEMORY_MAX = 10_000
"""Then those that are written are let go; a row is read again when a fact comes that concerns it."""

_TELLING_TYPES = frozenset(f"towpath.{TYPES[cls].wire}.v1" for cls in TELLING)
_log = structlog.get_logger("scheduler.health")

_Key = tuple[int, Place]


@dataclass(frozen=True, slots=True)
class Observation:
    """What the registry is to be told."""

    place: Place
    observed: ProviderHealthObserved
    verdict: Verdict

    def record(self, partitions: int, now_ms: int) -> Record:
        """Its record; the same observation has the same id, however often it is told."""
        organization, slug = self.place
        id_ = derived_id("provider.health_observed", organization, slug, str(self.observed.observed_ms), self.verdict)
        return encode(
            self.observed,
            topic=Topic.REGISTRY_REQUESTS,
            key=organization,
            envelope=Envelope(id=id_, time_ms=now_ms, subject=slug, organization_id=organization),
            partition=partition_of(organization, partitions),
        )


@dataclass(slots=True)
class HealthBook:
    """The rows of the partitions that one process reads. For one event loop; `count` and `write` may overlap."""

    db: Database
    clock: Clock
    _rows: dict[_Key, HealthRow] = field(default_factory=dict)
    _changed: set[_Key] = field(default_factory=set)
    _touched: set[Place] = field(default_factory=set)
    """Named by facts since the last observations, counted before or not."""
    _next: dict[int, int] = field(default_factory=dict)
    """By partition, where the next stretch begins."""
    _kept: dict[int, int] = field(default_factory=dict)
    """The same, as it was written last."""
    _topic_id: str = ""
    _told: dict[Place, Told] = field(default_factory=dict)

    @property
    def is_changed(self) -> bool:
        """Whether something is to be written or told."""
        return bool(self._touched) or any(
            offset - self._kept.get(partition, 0) >= UNKEPT_MAX for partition, offset in self._next.items()
        )

    @property
    def reached(self) -> Mapping[int, int]:
        """By partition, where the next stretch begins of what this process has counted."""
        return dict(self._next)

    async def begin(self, topic_id: str) -> dict[int, int]:
        """Where each partition stands that was counted before. Figures of a recreated topic are dropped.

        What earlier lives have written and may not have told is judged with the next write.
        """
        if await health_rows.forget_others(self.db, topic_id):
            _log.warning("health.counted_anew", topic=Topic.JOB_RUNS.value)
        self._topic_id = topic_id
        self._kept = await health_rows.positions(self.db)
        since_ms = self.clock.now_ms() - MINUTES_KEPT * MINUTE_MS
        self._touched.update(await health_rows.places_since(self.db, since_ms))
        return dict(self._kept)

    def continues(self, partition: int, start: int) -> bool:
        """Whether a stretch from `start` on follows what was counted of this partition."""
        return self._next.get(partition) == start

    async def count(self, partition: int, start: int, stored: Sequence[Stored]) -> None:
        """Count all records of one partition from `start` on, in order. After an error nothing was counted.

        One that does not continue what was counted is that of a new reader of this partition, who trusts what is
        written: what is not, is lost.
        """
        if not self.continues(partition, start):
            self._forget(partition)
        said = [(one.offset, words) for one in stored if (words := _said(one)) is not None]
        rows = await self._loaded(partition, {words.place for _, words in said})
        self._rows.update(rows)
        for offset, words in said:
            key = partition, words.place
            self._touched.add(words.place)
            if count(rows[key], offset, words):
                self._changed.add(key)
        self._next[partition] = stored[-1].offset + 1 if stored else start

    async def write(self) -> list[Observation]:
        """Write what has changed, with the positions, in one transaction; then judge. What the registry is to be told.

        After an error what is in memory stays to be written; repeatable.
        """
        changed, touched, reached = self._changed, self._touched, dict(self._next)
        self._changed, self._touched = set(), set()
        try:
            statements = [health_rows.keep(self._rows[key]) for key in sorted(changed)]
            statements += [
                health_rows.reached(partition, self._topic_id, offset)
                for partition, offset in sorted(reached.items())
                if offset != self._kept.get(partition)
            ]
            if statements:
                await self.db.transaction(statements)
            self._kept |= reached
            observations = await self._judge(touched)
        except BaseException:
            self._changed |= changed & self._rows.keys()
            self._touched |= touched
            raise
        self._shed()
        return observations

    def told(self, observations: Sequence[Observation]) -> None:
        """They stand in the log."""
        now_ms = int(self.clock.boot_ms())
        self._told.update({observation.place: Told(observation.verdict, now_ms) for observation in observations})

    def untold(self, observations: Sequence[Observation]) -> None:
        """They may not: they are judged again."""
        for observation in observations:
            self._told.pop(observation.place, None)
            self._touched.add(observation.place)

    async def _loaded(self, partition: int, places: Collection[Place]) -> dict[_Key, HealthRow]:
        rows: dict[_Key, HealthRow] = {}
        for place in sorted(places):
            row = self._rows.get((partition, place)) or await health_rows.row_of(self.db, *place, partition)
            rows[partition, place] = row or HealthRow(*place, partition)
        return rows

    async def _judge(self, places: Collection[Place]) -> list[Observation]:
        observations = []
        for place in sorted(places):
            organization, slug = place
            observed = observe(place, await health_rows.rows_of(self.db, organization, [slug]))
            if observed is None:
                continue
            verdict = is_worth_telling(observed, self._told.get(place), int(self.clock.boot_ms()))
            if verdict is not None:
                observations.append(Observation(place, observed, verdict))
        return observations

    def _forget(self, partition: int) -> None:
        for key in [key for key in self._rows if key[0] == partition]:
            del self._rows[key]
            self._changed.discard(key)

    def _shed(self) -> None:
        if len(self._rows) > ROWS_IN_MEMORY_MAX:
            self._rows = {key: row for key, row in self._rows.items() if key in self._changed}
        if len(self._told) > ROWS_IN_MEMORY_MAX:
            self._told.clear()


def _said(stored: Stored) -> Said | None:
    """What a record says; most say nothing and are not decoded."""
    wire_type = next((value for name, value in stored.record.headers if name == "ce_type"), "")
    if wire_type not in _TELLING_TYPES:
        return None
    try:
        message = decode(stored)
    except (UnknownType, LogRefused) as error:
        # Nothing but a figure stands on this record; those to whom it is the truth refuse it.
        record = stored.record
        _log.warning(
            "health.unreadable",
            error=str(error),
            partition=record.partition,
            offset=stored.offset,
            root_run_id=record.key,
        )
        return None
    return said_by(message.event, message.envelope.organization_id, message.envelope.time_ms)
