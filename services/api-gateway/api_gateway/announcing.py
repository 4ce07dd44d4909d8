"""What was projected anywhere, told to those who wait in this process. One per gateway process of a cluster.

    projector, in some process      rows + position + announcement: one transaction
    database                        the announcement, to every process, once that is committed
    here                            somebody waits for this partition? then read what lies between what was told and the
                                    announced position from the log, and tell what is waited for

An announcement is a topic, a partition and a position, and only a hint: the positions in the database are the truth,
and they are looked at whenever announcements may have been lost, and now and then while anybody waits. What is read
from the log is not decoded unless it is of a run that is followed or its headers name a request that is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from api_gateway.facts import facts_of
from api_gateway.waiting import Projected, Waiters
from kernel.clock import Clock
from kernel.errors import LogUnavailable, TowpathError
from kernel.log.port import EventLog, Record, Stored
from kernel.log.topics import Topic
from kernel.sql.port import Database, Signals, Statement

CHANNEL = "towpath_projected"
LOOK_SECONDS = 2.0
"""How often the positions are looked at while somebody waits, should an announcement be lost without a sign."""
RETRY_SECONDS = 0.2
READ_RECORDS = 1000
READ_WAIT_SECONDS = 1.0
"""An announced record is in the log already; this process's reader of it may be a moment behind."""
_CORRELATION = "ce_correlationid"
_log = structlog.get_logger("api_gateway.announcing")

_Place = tuple[Topic, int]


class Announcements:
    """The projectors' `Audience` in a process of several. Made by `open` before anybody waits; `run` once."""

    def __init__(self, log: EventLog, db: Database, signals: Signals, waiters: Waiters, clock: Clock) -> None:
        """Use `open`."""
        self._log = log
        self._db = db
        self._signals = signals
        self._waiters = waiters
        self._clock = clock
        self._announced: dict[_Place, int] = {}
        self._told: dict[_Place, int] = {}
        self._telling: set[_Place] = set()
        self._group = asyncio.TaskGroup()
        self._to_look = asyncio.Event()
        self._is_listening = self._is_over = False

    @classmethod
    async def open(cls, log: EventLog, db: Database, signals: Signals, waiters: Waiters, clock: Clock) -> Announcements:
        """Begin where the projectors stand: whoever waits from now on is told what they commit from now on."""
        self = cls(log, db, signals, waiters, clock)
        self._told = await self._positions()
        return self

    @property
    def is_listening(self) -> bool:
        """Whether announcements have come through since the start."""
        return self._is_listening

    def announcement(self, batch: Projected) -> Sequence[Statement]:
        """The batch's end, for all processes."""
        return (self._signals.notification(CHANNEL, f"{batch.topic}/{batch.partition}/{batch.next_offset}"),)

    def committed(self, batch: Projected) -> None:
        """Those who wait here are told at once, and need not read it again when they hear of it."""
        self._waiters.told(batch.facts)
        place = (batch.topic, batch.partition)
        if self._told.get(place, 0) >= batch.first_offset:
            self._told[place] = max(self._told.get(place, 0), batch.next_offset)

    async def run(self) -> None:
        """Listen and tell until cancelled. `LogRefused` in an `ExceptionGroup` when the log cannot be read any more."""
        async with self._group as group:
            group.create_task(self._signals.listen(CHANNEL, self._heard))
            group.create_task(self._look_when_missed())
            group.create_task(self._look_while_waited())
            try:
                await asyncio.Event().wait()
            finally:
                self._is_over = True

    def _heard(self, payload: str) -> None:
        self._is_listening = True
        if not payload:
            self._to_look.set()
            return
        topic, partition, next_offset = payload.split("/")
        self._reached((Topic(topic), int(partition)), int(next_offset))

    def _reached(self, place: _Place, next_offset: int) -> None:
        """The rows are there up to this position."""
        if self._is_over or next_offset <= self._announced.get(place, 0):
            return
        self._announced[place] = next_offset
        if place not in self._telling and self._is_due(place):
            self._telling.add(place)
            self._group.create_task(self._tell(place))

    def _is_due(self, place: _Place) -> bool:
        """Whether there is something to tell; where nobody waits there is not, and nothing is read."""
        announced = self._announced[place]
        if not self._waiters.awaits(*place):
            self._told[place] = max(self._told.get(place, 0), announced)
        return self._told.get(place, 0) < announced

    async def _tell(self, place: _Place) -> None:
        """Read on and tell until all that was announced is told."""
        topic, partition = place
        while self._is_due(place):
            try:
                found = await self._log.read(
                    topic,
                    partition,
                    self._told.get(place, 0),
                    max_records=READ_RECORDS,
                    wait_seconds=READ_WAIT_SECONDS,
                )
            except LogUnavailable as error:
                _log.warning("announcing.retry", topic=topic.value, partition=partition, error=str(error))
                await self._clock.sleep(RETRY_SECONDS)
                continue
            projected = [stored for stored in found if stored.offset < self._announced[place]]
            self._tell_of(projected)
            if projected:
                self._told[place] = max(self._told.get(place, 0), projected[-1].offset + 1)
        self._telling.discard(place)

    def _tell_of(self, projected: Sequence[Stored]) -> None:
        awaits = self._waiters.awaits_fact
        awaited = [stored for stored in projected if awaits(stored.record.key, _correlation_of(stored.record))]
        if awaited:
            self._waiters.told(facts_of(awaited))

    async def _look_when_missed(self) -> None:
        while True:
            await self._to_look.wait()
            self._to_look.clear()
            try:
                for place, next_offset in (await self._positions()).items():
                    self._reached(place, next_offset)
            except TowpathError as error:
                _log.warning("announcing.retry", error=str(error))
                self._to_look.set()
                await self._clock.sleep(RETRY_SECONDS)

    async def _look_while_waited(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if self._waiters.is_anyone:
                self._to_look.set()

    async def _positions(self) -> dict[_Place, int]:
        rows = await self._db.fetch_all("SELECT topic, partition, next_offset FROM projection_positions")
        return {(Topic(topic), partition): next_offset for topic, partition, next_offset in rows}


def _correlation_of(record: Record) -> str:
    """The request behind a fact: whatever is decided on a request is correlated with it."""
    return next((value for name, value in record.headers if name == _CORRELATION), "")
