"""Partitions that somebody waits on: their newest records in memory, and the long polls that bring more.

One poll per broker covers everything that is followed there, in a fetch session, so that a partition where nothing
happens costs nothing. A poll in flight cannot take in another partition; a newly followed one therefore gets a poll of
its own by a second or third connection at once, and the next poll to return takes it over. If all are in flight, the
smallest one is interrupted.

A partition whose unread records fill its room is not polled until they are read or a reader comes that is past them,
and one that nobody has read for a while is let go.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Coroutine, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from kernel.errors import LogRefused, LogUnavailable, TowpathError
from kernel.log.kafka.brokers import Brokers, Lost, Stream, Unreached
from kernel.log.kafka.fetching import EARLIEST, LATEST, Fetcher
from kernel.log.kafka.records import stored_records
from kernel.log.kafka.wire import ELSEWHERE, LATER, Code, FetchAnswer, Fetched, FetchRequest, Wanted, name_of
from kernel.log.port import Stored

POLL_MS = 1000
"""How long a broker may hold a poll that finds nothing."""
LANES = 3
ROOM_BYTES = 1024 * 1024
"""Unread records of one partition beyond which it is not polled."""
KEPT_BYTES = 256 * 1024
"""Records of one partition that stay in memory for slower readers."""
IDLE_SECONDS = 30.0
"""After how long without a reader a partition is let go."""
_ANSWER_BYTES = 8 * 1024 * 1024
_RECORD_OVERHEAD_BYTES = 512
_JOIN_SECONDS = 0.002
_SWEEP_SECONDS = 5.0
_GONE_SECONDS = 10.0
_BACKOFF_SECONDS = 0.1
_BACKOFF_SECONDS_MAX = 2.0
_SESSION_LOST = frozenset(
    {Code.FETCH_SESSION_ID_NOT_FOUND, Code.INVALID_FETCH_SESSION_EPOCH, Code.FETCH_SESSION_TOPIC_ID}
)
_log = structlog.get_logger("kernel.log.kafka.following")

Place = tuple[UUID, int]
"""A topic by its id, and a partition."""


@dataclass(slots=True, eq=False)
class Followed:
    """One partition. Everything that stands in [begin, next) is in `records`, in order; offsets may have gaps."""

    stream: Stream
    topic: str
    topic_id: UUID
    next: int
    begin: int
    asked_at: float
    answered_at: float = 0.0
    reached: int = 0
    """The highest offset below which records were seen: the log must not end before it."""
    handed: int = 0
    """The fastest reader is here."""
    records: list[Stored] = field(default_factory=list)
    bytes_kept: int = 0
    bytes_unread: int = 0
    waiting: dict[asyncio.Future[None], int] = field(default_factory=dict)
    lane: Lane | None = None

    @property
    def place(self) -> Place:
        return self.topic_id, self.stream[1]

    @property
    def has_room(self) -> bool:
        return self.bytes_unread < ROOM_BYTES

    def since(self, offset: int, max_records: int) -> list[Stored] | None:
        """Records from `offset` on; None when that is older than what is in memory."""
        if offset < self.begin:
            return None
        place = self._place(offset)
        found = self.records[place : place + max_records]
        if found and found[-1].offset >= self.handed:
            unread = self.records[self._place(self.handed) : place + len(found)]
            self.bytes_unread -= sum(map(_memory_bytes, unread))
            self.handed = found[-1].offset + 1
            self._shed()
        return found

    def extend(self, records: list[Stored], following: int) -> None:
        """Take what stands in [next, following), and wake whoever waits for it."""
        size = sum(map(_memory_bytes, records))
        self.records += records
        self.bytes_kept += size
        self.bytes_unread += size
        self.next = following
        self.reached = max(self.reached, following)
        for woken, offset in self.waiting.items():
            if offset < following and not woken.done():
                woken.set_result(None)

    def move_to(self, offset: int) -> None:
        """Go on at `offset`, with nothing in memory; who waits for something before it looks elsewhere."""
        self.records.clear()
        self.begin = self.next = self.handed = offset
        self.bytes_kept = self.bytes_unread = 0
        for woken, waited_for in self.waiting.items():
            if waited_for < offset and not woken.done():
                woken.set_result(None)

    def drop_before(self, offset: int) -> None:
        """Keep nothing below `offset`."""
        self._drop(self._place(offset))
        self.begin = max(self.begin, min(offset, self.next))

    def fail(self, error: TowpathError) -> None:
        for woken in self.waiting:
            if not woken.done():
                woken.set_exception(error)

    def _place(self, offset: int) -> int:
        records = self.records
        if not records or offset <= records[0].offset:
            return 0
        place = offset - records[0].offset
        if place <= len(records) and records[place - 1].offset == offset - 1:  # no gap up to here
            return place
        return bisect_left(records, offset, key=lambda stored: stored.offset)

    def _shed(self) -> None:
        """Let the older half go of what was handed out and is too much, so that dropping stays cheap per record."""
        if self.bytes_kept - self.bytes_unread > KEPT_BYTES:
            self._drop((self._place(self.handed) + 1) // 2)

    def _drop(self, count: int) -> None:
        if count <= 0:
            return
        gone = self.records[:count]
        self.bytes_kept -= sum(map(_memory_bytes, gone))
        self.bytes_unread -= sum(_memory_bytes(stored) for stored in gone if stored.offset >= self.handed)
        self.begin = gone[-1].offset + 1
        del self.records[:count]


@dataclass(slots=True, eq=False)
class Lane:
    """A long poll by a connection of its own: what it covers, and what the session at the broker knows of that."""

    node: int
    name: str
    least_bytes: int = 1
    streams: dict[Place, Followed] = field(default_factory=dict)
    known: dict[Place, int] = field(default_factory=dict)
    session_id: int = 0
    session_epoch: int = 0
    running: bool = False
    interrupted: bool = False
    times_told: int = 0
    """Of the brokers, when it was last looked whether they still name `node` as the leader of all this."""

    def request(self) -> FetchRequest:
        """What changed since the last request of the session, or everything in a new one."""
        wanted: dict[UUID, list[Wanted]] = {}
        for place, followed in self.streams.items():
            if self.known.get(place) != followed.next:
                wanted.setdefault(place[0], []).append((place[1], followed.next, ROOM_BYTES))
                self.known[place] = followed.next
        forgotten: dict[UUID, list[int]] = {}
        for place in [place for place in self.known if place not in self.streams]:
            forgotten.setdefault(place[0], []).append(place[1])
            del self.known[place]
        return FetchRequest(
            wanted,
            max_bytes=_ANSWER_BYTES,
            wait_ms=POLL_MS,
            least_bytes=self.least_bytes,
            session=(self.session_id, self.session_epoch),
            forgotten=forgotten,
        )

    def continue_session(self, answer: FetchAnswer) -> None:
        """Go on in the session that the broker has given, or without one."""
        self.session_id = answer.session_id
        if self.session_id:
            self.session_epoch = self.session_epoch % 0x7FFFFFFF + 1
        else:
            self.new_session()

    def new_session(self) -> None:
        self.session_id = self.session_epoch = 0
        self.known.clear()


class Follower:
    """Follows what `follow` names. Needs `close`."""

    def __init__(self, brokers: Brokers, fetcher: Fetcher, poll_bytes: int = 1) -> None:
        """`poll_bytes`: what a broker gathers before it answers, for `POLL_MS` at most."""
        self._brokers = brokers
        self._fetcher = fetcher
        self._poll_bytes = poll_bytes
        self._loop = asyncio.get_running_loop()
        self._followed: dict[Stream, Followed] = {}
        self._lanes: dict[int, list[Lane]] = {}
        self._joining: dict[Stream, Followed] = {}
        self._join_handle: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._swept_at = self._loop.time()
        self._closed = False

    def get(self, stream: Stream) -> Followed | None:
        """What is followed of `stream`."""
        return self._followed.get(stream)

    def follow(self, stream: Stream, topic: str, offset: int) -> Followed:
        """Follow `stream` from `offset` on, unless it is followed already."""
        followed = self._followed.get(stream)
        if followed is None:
            now = self._loop.time()
            followed = Followed(stream, topic, self._brokers.topic_id(stream[0]), offset, offset, now, handed=offset)
            self._followed[stream] = followed
            self._join([followed])
        return followed

    def was_read(self, followed: Followed, offset: int) -> None:
        """A reader came at `offset`; where it made room, polling goes on.

        One that is ahead of everything in memory makes no room by reading, for it has come by what fills it in another
        way: where an owner left a partition that it takes over again later. Polling goes on where that reader stands.
        """
        followed.asked_at = self._loop.time()
        if offset >= followed.next and not followed.has_room:
            followed.move_to(offset)
        if followed.lane is None and followed.has_room and self._followed.get(followed.stream) is followed:
            self._join([followed])

    async def close(self) -> None:
        """Let every waiting reader go with `LogRefused`. Idempotent."""
        self._closed = True
        if self._join_handle is not None:
            self._join_handle.cancel()
        for followed in self._followed.values():
            followed.fail(LogRefused("the log is closed"))
        self._followed.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # joining a poll

    def _join(self, streams: Iterable[Followed], seconds: float = 0.0) -> None:
        if self._closed:
            return
        for followed in streams:
            self._joining[followed.stream] = followed
        if self._join_handle is None and self._joining:
            self._join_handle = self._loop.call_later(seconds, self._start)

    def _start(self) -> None:
        """Give what joins to a poll that is not in flight; where there is none, interrupt the smallest."""
        self._join_handle = None
        joining, self._joining = self._joining, {}
        groups: dict[int | None, list[Followed]] = {}
        for followed in joining.values():
            if followed.lane is None and self._followed.get(followed.stream) is followed:
                groups.setdefault(self._brokers.leader(followed.stream), []).append(followed)
        for node, streams in groups.items():
            if node is None:
                self._recover_soon(streams)
            else:
                self._cover(node, streams)

    def _cover(self, node: int, streams: list[Followed]) -> None:
        if node not in self._lanes:
            self._lanes[node] = [Lane(node, f"poll {number}", self._poll_bytes) for number in range(LANES)]
        lanes = self._lanes[node]
        idle = [lane for lane in lanes if not lane.running]
        lane = idle[0] if idle else min(lanes, key=lambda lane: len(lane.streams))
        for followed in streams:
            followed.lane = lane
            lane.streams[followed.place] = followed
        if idle:
            lane.running = True
            self._run(self._poll(lane))
        elif not lane.interrupted:
            lane.interrupted = True
            self._loop.call_later(_JOIN_SECONDS, self._interrupt, lane)

    def _interrupt(self, lane: Lane) -> None:
        """End the poll in flight; what joins meanwhile goes with the next."""
        if lane.interrupted:
            self._brokers.drop(lane.node, lane.name)

    # polling

    async def _poll(self, lane: Lane) -> None:
        try:
            while lane.streams:
                if lane.times_told != self._brokers.times_told:
                    self._leave_moved(lane)
                    continue
                request, covered = lane.request(), dict(lane.streams)
                try:
                    answer: FetchAnswer = await self._brokers.ask(lane.node, request, lane.name)
                except (Unreached, Lost):
                    lane.new_session()
                    if not lane.interrupted:
                        self._recover_soon(self._leave(lane, list(lane.streams.values())))
                except LogRefused as error:
                    for followed in list(lane.streams.values()):
                        self._let_go(followed, error)
                else:
                    await self._answered(lane, covered, answer)
                lane.interrupted = False
        except Exception as error:  # noqa: BLE001 (the edge of a task that nobody awaits: no reader may wait for ever)
            _log.exception("log.poll_broke", node=lane.node, error=type(error).__name__)
            self._recover_soon(self._leave(lane, list(lane.streams.values())))
        finally:
            lane.running = False
            lane.new_session()

    def _leave_moved(self, lane: Lane) -> None:
        """Go on at another broker with what that one is known to lead by now.

        A leader that does not hear of its successor does not say so: it goes on answering polls, with nothing.
        """
        lane.times_told = self._brokers.times_told
        moved = [one for one in lane.streams.values() if self._brokers.leader(one.stream) not in (None, lane.node)]
        self._join(self._leave(lane, moved))

    async def _answered(self, lane: Lane, covered: Mapping[Place, Followed], answer: FetchAnswer) -> None:
        if answer.code in _SESSION_LOST:
            lane.new_session()
            return
        if answer.code != Code.NONE:
            lane.new_session()
            self._recover_soon(self._leave(lane, list(lane.streams.values())))
            return
        now = self._loop.time()
        for followed in covered.values():
            followed.answered_at = now
        lane.continue_session(answer)
        for fetched in answer.partitions:
            followed_now = covered.get((fetched.topic_id, fetched.partition))
            if followed_now is not None and self._followed.get(followed_now.stream) is followed_now:
                await self._take(lane, followed_now, fetched)
        self._absorb(lane)
        if now - self._swept_at > _SWEEP_SECONDS:
            self._sweep(now)

    async def _take(self, lane: Lane, followed: Followed, fetched: Fetched) -> None:
        """Hand on what was fetched. A partition that two polls cover for a moment takes from each what is new."""
        if fetched.code == Code.NONE:
            try:
                found, following = stored_records(followed.topic, fetched, followed.next)
            except LogRefused as error:
                self._let_go(followed, error)
                return
            if following > followed.next:
                followed.extend(found, following)
            if not followed.has_room:
                self._leave(lane, [followed])
        elif fetched.code == Code.OFFSET_OUT_OF_RANGE:
            await self._place_anew(followed)
        elif fetched.code in LATER:
            left = self._leave(lane, [followed])
            self._recover_soon(left, refresh=fetched.code in ELSEWHERE)
        else:
            topic, partition = followed.stream
            self._let_go(followed, LogRefused(f"{topic}/{partition}: {name_of(fetched.code)}"))

    async def _place_anew(self, followed: Followed) -> None:
        """Records were deleted in front of us, or a reader is ahead of the end. The end itself never moves back."""
        topic, partition = followed.stream
        try:
            start = await self._fetcher.offset_at(followed.stream, EARLIEST)
            end = await self._fetcher.offset_at(followed.stream, LATEST)
        except TowpathError as error:
            self._let_go(followed, error)
            return
        if end < followed.reached:
            self._let_go(followed, LogRefused(f"{topic}/{partition} ends at {end}, but was read to {followed.reached}"))
        elif not start <= followed.next <= end:
            followed.move_to(start if followed.next < start else end)

    def _absorb(self, lane: Lane) -> None:
        """Take over what the smaller polls cover; theirs in flight still counts."""
        for other in self._lanes[lane.node]:
            if other is not lane and other.streams and len(other.streams) <= len(lane.streams):
                for place, followed in other.streams.items():
                    lane.streams[place] = followed
                    followed.lane = lane
                other.streams.clear()

    def _leave(self, lane: Lane, streams: list[Followed]) -> list[Followed]:
        for followed in streams:
            owner = followed.lane or lane
            owner.streams.pop(followed.place, None)
            followed.lane = None
        return streams

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        for followed in list(self._followed.values()):
            if not followed.waiting and now - followed.asked_at > IDLE_SECONDS:
                self._let_go(followed, None)

    def _let_go(self, followed: Followed, error: TowpathError | None) -> None:
        if followed.lane is not None:
            self._leave(followed.lane, [followed])
        if self._followed.get(followed.stream) is followed:
            del self._followed[followed.stream]
        if error is not None:
            followed.fail(error)

    # when a broker is gone

    def _recover_soon(self, streams: list[Followed], *, refresh: bool = True) -> None:
        if streams and not self._closed:
            self._run(self._recover(streams, refresh=refresh))

    async def _recover(self, streams: list[Followed], *, refresh: bool) -> None:
        """Find who leads now. Readers wait through it, unless the topic or the cluster is another one."""
        began, seconds = self._loop.time(), _BACKOFF_SECONDS
        while streams:
            await asyncio.sleep(self._brokers.jitter(seconds))
            seconds = min(2 * seconds, _BACKOFF_SECONDS_MAX)
            try:
                if refresh:
                    await self._brokers.refresh()
            except LogUnavailable:
                continue
            except LogRefused as error:
                for followed in streams:
                    self._let_go(followed, error)
                return
            streams = [followed for followed in streams if self._is_same(followed, began)]
            led = [followed for followed in streams if self._brokers.leader(followed.stream) is not None]
            self._join(led)
            streams = [followed for followed in streams if followed not in led]
            refresh = True

    def _is_same(self, followed: Followed, began: float) -> bool:
        """Whether it is still the topic that was followed; one that is gone for long is given up."""
        topic = followed.stream[0]
        if self._brokers.is_recreated(topic, followed.topic_id):
            self._let_go(followed, LogRefused(f"topic {topic} was recreated"))
            return False
        if self._loop.time() - began > _GONE_SECONDS and self._brokers.is_gone(topic):
            self._let_go(followed, LogRefused(f"topic {topic} is gone"))
            return False
        return True

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, context=Context())  # it works for whoever comes
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _memory_bytes(stored: Stored) -> int:
    return len(stored.record.value) + _RECORD_OVERHEAD_BYTES
