"""The rows of `scheduler.health` between the log and SQL: counted in memory, written now and then, judged as written.

A row in memory says what its partition has said up to its last fact, and so does a row in SQL; the one that is further
is right. So whoever counts may die, be paused, or count beside another: nothing is counted twice, and nothing older
replaces what is newer. What the registry is told is made from written rows only, and so never from less than before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import structlog

from kernel import health_rows
from kernel.clock import Clock
from kernel.domain.health_windows import MINUTE_MS, MINUTES_KEPT, HealthRow
from kernel.domain.provider_health import ProviderHealthObserved, Verdict
from kernel.errors import UnknownType
from kernel.ids import derived_id
from kernel.log.codec import decode, encode
from kernel.log.envelope import Envelope
from kernel.log.port import Record, Stored
from kernel.log.topics import TYPES, Topic, partition_of
from kernel.sql.port import Database, Statement
from scheduler.health import TELLING, Place, Said, Told, count, is_worth_telling, observe, said_by

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
    _told: dict[Place, Told] = field(default_factory=dict)

    @property
    def is_changed(self) -> bool:
        """Whether something is to be written or told."""
        return bool(self._touched)

    async def begin(self) -> None:
        """Judge once what earlier lives have written and may not have told."""
        since_ms = self.clock.now_ms() - MINUTES_KEPT * MINUTE_MS
        self._touched.update(await health_rows.places_since(self.db, since_ms))

    async def count(self, partition: int, start: int, stored: Sequence[Stored]) -> None:
        """Count all records of one partition from `start` on, in order. After an error nothing was counted.

        A stretch that does not begin where the last one ended belongs to a new reader of this partition, who trusts
        what is written.
        """
        if self._next.get(partition) != start:
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

    def forget(self, partition: int) -> None:
        """Another process may count this partition from now on."""
        self._forget(partition)
        self._next.pop(partition, None)

    async def write(self, *beside: Statement) -> list[Observation]:
        """Write what has changed, with `beside`, in one transaction; then judge. What the registry is to be told.

        After an error what is in memory stays to be written; repeatable.
        """
        changed, touched = self._changed, self._touched
        self._changed, self._touched = set(), set()
        try:
            statements = [health_rows.keep(self._rows[key]) for key in sorted(changed)]
            if statements or beside:
                await self.db.transaction([*statements, *beside])
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
    except UnknownType as error:
        _log.warning("health.unknown_type", type=str(error), partition=stored.record.partition, offset=stored.offset)
        return None
    return said_by(message.event, message.envelope.organization_id, message.envelope.time_ms)
