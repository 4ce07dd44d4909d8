"""Appends on their way to the brokers: idempotent, acknowledged by all replicas in sync, one batch per partition.

Each partition has at most one batch in flight, and the calls that come meanwhile go together in the next one: a batch
is appended whole or not at all, so each call is. Batches of several partitions share a request; a broker has a few
requests of ours at a time, each by a connection of its own.

A batch is sent again under the same producer id, epoch and sequence number, so the broker recognizes what it already
has and answers with its offset. When the time of an append is over, its outcome is unknown, and *the epoch of that
partition moves on*: once anything of the new epoch is appended, the broker refuses whatever of the old one is still on
its way. So nothing of ours lands late behind an append that was acknowledged after it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

import structlog
from aiokafka.protocol.transaction import InitProducerIdRequest

from kernel.clock import Clock
from kernel.errors import LogRefused, LogUnavailable, TowpathError, UnknownOutcome
from kernel.log.kafka.brokers import ASK, Brokers, Lost, Stream, Unreached
from kernel.log.kafka.records import batch_bytes
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.wire import ELSEWHERE, LATER, MAYBE_DONE, PRODUCER_LOST, Batches, Code, ProduceRequest, name_of
from kernel.log.limits import BATCH_BYTES_MAX
from kernel.log.port import Record

REQUESTS_AT_ONCE = 3
"""Requests in flight per broker: enough to hide the wait for replicas."""
_REQUEST_PARTITIONS = 32
_EPOCH_MAX = 32_767
_BACKOFF_SECONDS = 0.1
_BACKOFF_SECONDS_MAX = 1.0
_log = structlog.get_logger("kernel.log.kafka.sending")


@dataclass(slots=True, eq=False)
class _Call:
    """Records of one call for one partition; `answer` gets the offset of the first one."""

    records: Sequence[Record]
    size: int
    give_up: float
    answer: asyncio.Future[int]


@dataclass(slots=True, eq=False)
class _Batch:
    """Calls that share a fate. Its bytes are made once, so that the broker can tell a repetition."""

    calls: list[_Call]
    topic_id: UUID
    give_up: float
    count: int
    data: bytes = b""
    tries: int = 0
    may_have_landed: bool = False


@dataclass(slots=True, eq=False)
class _Partition:
    """What waits for one partition, and under which producer it goes."""

    stream: Stream
    waiting: deque[_Call] = field(default_factory=deque)
    batch: _Batch | None = None
    busy: bool = False
    """Its batch is in flight, or waits for another try."""
    sending: Sequence[_Partition] | None = None
    """Those that it is sent with now; None while it waits."""
    producer_id: int = -1
    epoch: int = 0
    sequence: int = 0
    end: int = 0
    """Behind the last record that was acknowledged to us."""

    def renew(self) -> None:
        """Begin a new epoch; after the last one a new producer."""
        self.sequence = 0
        self.epoch += 1
        if self.epoch > _EPOCH_MAX:
            self.producer_id = -1

    def advance(self, records: int) -> None:
        self.sequence = (self.sequence + records) & 0x7FFFFFFF


class Sender:
    """Sends what `put` is given. Needs `close`."""

    def __init__(self, brokers: Brokers, settings: KafkaSettings, clock: Clock) -> None:
        self._brokers = brokers
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._partitions: dict[Stream, _Partition] = {}
        self._ready: dict[Stream, None] = {}
        self._free: dict[int, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._closed = False
        self._producer_id = -1
        self._producer_lock = asyncio.Lock()

    def put(self, stream: Stream, records: Sequence[Record], size: int) -> asyncio.Future[int]:
        """Queue records of one partition, `size` bytes and at most 1 MiB; the first one's offset is the result."""
        partition = self._partitions.get(stream)
        if partition is None:
            partition = self._partitions[stream] = _Partition(stream)
        answer: asyncio.Future[int] = self._loop.create_future()
        if self._closed:
            answer.set_exception(LogRefused("the log is closed"))
            return answer
        partition.waiting.append(_Call(records, size, self._loop.time() + self._settings.append_seconds, answer))
        self._make_ready(partition)
        return answer

    async def close(self) -> None:
        """Wait for what is in flight, refuse the rest. Idempotent."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        for partition in self._partitions.values():
            waiting = [*partition.waiting]
            partition.waiting.clear()
            if partition.batch is not None:
                self._fail(partition, "the log is closed")
            _settle(waiting, LogRefused("the log is closed"))

    # choosing what goes

    def _make_ready(self, partition: _Partition) -> None:
        if not partition.busy and (partition.batch is not None or partition.waiting):
            self._ready[partition.stream] = None
            self._flush_soon()

    def _flush_soon(self) -> None:
        """What is put in the same turn of the loop goes together."""
        if not self._flushing:
            self._flushing = True
            self._run(self._flush())

    async def _flush(self) -> None:
        """Send what is ready to each broker that has a request of ours less than it may."""
        self._flushing = False
        ready: dict[int | None, list[_Partition]] = {}
        for stream in self._ready:
            ready.setdefault(self._brokers.leader(stream), []).append(self._partitions[stream])
        sending = [self._send(node, partitions) for node, partitions in ready.items() if self._is_free(node)]
        for other in sending[1:]:
            self._run(other)
        if sending:
            await sending[0]

    def _is_free(self, node: int | None) -> bool:
        return node is None or bool(self._free.setdefault(node, _lanes()))

    def _send(self, node: int | None, partitions: Iterable[_Partition]) -> Coroutine[Any, Any, None]:
        taken = list(islice(partitions, _REQUEST_PARTITIONS))
        for partition in taken:
            partition.busy, partition.sending = True, taken
            del self._ready[partition.stream]
        return self._nowhere(taken) if node is None else self._go(node, self._free[node].pop(), taken)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, context=Context())  # it works for whoever comes
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # sending

    async def _nowhere(self, partitions: Sequence[_Partition]) -> None:
        """Nobody leads them: batches are made, so that their time runs, and tried again later."""
        with self._answering(partitions):
            await self._again(await self._prepare(partitions), "no leader")

    async def _go(self, node: int, lane: str, partitions: Sequence[_Partition]) -> None:
        try:
            with self._answering(partitions):
                if prepared := await self._prepare(partitions):
                    await self._produce(node, lane, prepared)
        finally:
            self._free[node].append(lane)
            if self._ready:
                self._flush_soon()

    @contextmanager
    def _answering(self, partitions: Sequence[_Partition]) -> Iterator[None]:
        """Whatever breaks while `partitions` are sent together, no append waits for ever, and each of them goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (the edge of a task that nobody awaits)
            why = type(error).__name__
            _log.exception("log.send_broke", error=why)
            for partition in partitions:
                if partition.sending is partitions:
                    self._break(partition, why)

    async def _produce(self, node: int, lane: str, partitions: Sequence[_Partition]) -> None:
        batches: Batches = {}
        for partition in partitions:
            assert partition.batch is not None
            partition.batch.tries += 1
            topic, number = partition.stream
            batches.setdefault((topic, partition.batch.topic_id), []).append((number, partition.batch.data))
        request = ProduceRequest(batches, int(self._settings.request_seconds * 800))
        try:
            answer = await self._brokers.ask(node, request, lane)
        except Unreached as error:
            await self._again(partitions, str(error))
        except LogRefused as error:
            for partition in partitions:
                self._end(partition, error)
        except Lost as error:
            for partition in partitions:
                assert partition.batch is not None
                partition.batch.may_have_landed = True
            await self._again(partitions, str(error))
        else:
            await self._answered(partitions, request.outcomes(answer))

    async def _answered(self, partitions: Sequence[_Partition], outcomes: Mapping[Stream, tuple[int, int]]) -> None:
        again: list[_Partition] = []
        for partition in partitions:
            batch = partition.batch
            assert batch is not None
            code, offset = outcomes.get(partition.stream, (Code.REQUEST_TIMED_OUT, -1))
            if code == Code.NONE and offset >= 0:
                self._landed(partition, batch, offset)
            elif code in LATER or code in MAYBE_DONE:
                batch.may_have_landed |= code in MAYBE_DONE
                again.append(partition)
            elif code == Code.NONE or code in PRODUCER_LOST or batch.may_have_landed:
                self._unknown(partition, name_of(code), new_producer=code in PRODUCER_LOST)
            else:
                self._settle(partition, LogRefused(f"{partition.stream[0]}/{partition.stream[1]}: {name_of(code)}"))
        if again:
            codes = {outcomes.get(partition.stream, (Code.REQUEST_TIMED_OUT, -1))[0] for partition in again}
            await self._again(again, ", ".join(map(name_of, codes)), refresh=not ELSEWHERE.isdisjoint(codes))

    async def _again(self, partitions: Sequence[_Partition], why: str, *, refresh: bool = True) -> None:
        """Fail what has no time left, and try the others a little later."""
        now = self._loop.time()
        left = []
        for partition in partitions:
            assert partition.batch is not None
            if partition.batch.give_up <= now or self._closed:
                self._fail(partition, why)
            else:
                left.append(partition)
        if refresh and left:
            left = await self._refreshed(left)
        for partition in left:
            assert partition.batch is not None
            self._rest(partition, min(_BACKOFF_SECONDS * 2 ** min(partition.batch.tries, 5), _BACKOFF_SECONDS_MAX))

    async def _refreshed(self, partitions: Sequence[_Partition]) -> list[_Partition]:
        """Ask who leads. What the cluster refuses, or what has another topic now, ends; the others are left."""
        try:
            await self._brokers.refresh()
        except LogUnavailable:
            return list(partitions)
        except LogRefused as error:
            for partition in partitions:
                self._end(partition, error)
            return []
        left = []
        for partition in partitions:
            assert partition.batch is not None
            topic = partition.stream[0]
            if self._brokers.is_recreated(topic, partition.batch.topic_id):
                self._end(partition, LogRefused(f"topic {topic} was recreated since it was opened"))
            else:
                left.append(partition)
        return left

    def _rest(self, partition: _Partition, seconds: float) -> None:
        """Leave it alone for so long, or half of it."""
        partition.sending = None
        self._loop.call_later(self._brokers.jitter(seconds), self._release, partition)

    def _release(self, partition: _Partition) -> None:
        partition.busy, partition.sending = False, None
        self._make_ready(partition)

    # making batches

    async def _prepare(self, partitions: Sequence[_Partition]) -> list[_Partition]:
        """Make a batch of the waiting calls of each partition that has none; those that have one now."""
        try:
            await self._know_producer(partitions)
        except TowpathError as error:
            for partition in partitions:
                if partition.producer_id < 0:
                    self._expire(partition, error)
        for partition in partitions:
            if partition.batch is None and partition.producer_id >= 0:
                self._make_batch(partition)
        return [partition for partition in partitions if partition.batch is not None]

    def _make_batch(self, partition: _Partition) -> None:
        topic_id = self._brokers.opened_id(partition.stream[0])
        calls: list[_Call] = []
        size = 0
        while partition.waiting and (not calls or size + partition.waiting[0].size <= BATCH_BYTES_MAX):
            call = partition.waiting.popleft()
            if call.answer.cancelled():
                continue
            calls.append(call)
            size += call.size
        records = [record for call in calls for record in call.records]
        if not records:
            self._release(partition)
            return
        batch = partition.batch = _Batch(calls, topic_id, min(call.give_up for call in calls), len(records))
        producer = (partition.producer_id, partition.epoch, partition.sequence)
        batch.data = batch_bytes(records, self._clock.now_ms(), producer)
        partition.advance(len(records))

    async def _know_producer(self, partitions: Iterable[_Partition]) -> None:
        for partition in partitions:
            if partition.producer_id < 0:
                if self._producer_id < 0:
                    await self._init_producer()
                partition.producer_id, partition.epoch, partition.sequence = self._producer_id, 0, 0

    async def _init_producer(self) -> None:
        async with self._producer_lock:
            if self._producer_id >= 0:
                return
            for node in self._brokers.nodes():
                try:
                    answer = await self._brokers.ask(node, InitProducerIdRequest(None, 60_000), ASK)
                except (Unreached, Lost):
                    continue
                if answer.error_code == Code.NONE:
                    self._producer_id = int(answer.producer_id)
                    return
                if answer.error_code not in LATER | MAYBE_DONE:
                    raise LogRefused(f"we may not append: {name_of(answer.error_code)}")
        raise LogUnavailable("no broker gives out producer ids", self._brokers.jitter(0.5))

    # outcomes

    def _landed(self, partition: _Partition, batch: _Batch, offset: int) -> None:
        if offset < partition.end:
            topic, number = partition.stream
            self._settle(partition, LogRefused(f"{topic}/{number} has lost records: {offset} was handed out again"))
            return
        partition.end = offset + batch.count
        for call in batch.calls:
            if not call.answer.done():
                call.answer.set_result(offset)
            offset += len(call.records)
        self._next(partition)

    def _unknown(self, partition: _Partition, why: str, *, new_producer: bool = False) -> None:
        """The outcome is not known and will not be: whatever follows goes under another epoch or producer."""
        partition.renew()
        if new_producer:
            if partition.producer_id == self._producer_id:
                self._producer_id = -1
            partition.producer_id = -1
        self._settle(partition, UnknownOutcome(f"an append to {partition.stream[0]}/{partition.stream[1]}: {why}"))

    def _fail(self, partition: _Partition, why: str) -> None:
        """Its time is over."""
        assert partition.batch is not None
        topic, number = partition.stream
        if partition.batch.may_have_landed:
            self._unknown(partition, why)
        elif self._brokers.is_gone(topic):
            self._end(partition, LogRefused(f"topic {topic} is gone"))
        else:
            self._end(partition, LogUnavailable(f"{topic}/{number}: {why}"))

    def _end(self, partition: _Partition, error: TowpathError) -> None:
        """Nothing of the batch was written, or nothing more can be said: its sequence numbers are not used again."""
        assert partition.batch is not None
        if partition.batch.may_have_landed:
            error = UnknownOutcome(str(error))
        partition.renew()
        self._settle(partition, error)

    def _break(self, partition: _Partition, why: str) -> None:
        """Sending it was given up, nobody knows where. What was not sent yet may be tried again while it has time."""
        error = LogUnavailable(f"{partition.stream[0]}/{partition.stream[1]}: {why}")
        if partition.batch is None:
            self._expire(partition, error)
        elif partition.batch.tries:
            self._unknown(partition, why)
        else:
            self._end(partition, error)

    def _settle(self, partition: _Partition, error: TowpathError) -> None:
        assert partition.batch is not None
        _settle(partition.batch.calls, error)
        self._next(partition)

    def _expire(self, partition: _Partition, error: TowpathError) -> None:
        """There is no producer id, so nothing was sent: calls whose time is over end, the others wait."""
        now = self._loop.time()
        over = [call for call in partition.waiting if isinstance(error, LogRefused) or call.give_up <= now]
        partition.waiting = deque(call for call in partition.waiting if call not in over)
        _settle(over, error)
        self._rest(partition, _BACKOFF_SECONDS)

    def _next(self, partition: _Partition) -> None:
        partition.batch = None
        self._release(partition)


def _settle(calls: Iterable[_Call], error: TowpathError) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)


def _lanes() -> list[str]:
    return [f"produce {number}" for number in range(REQUESTS_AT_ONCE)]


async def first_offsets(answers: Mapping[Stream, Awaitable[int]]) -> dict[Stream, int]:
    """Wait for all parts of one append. When some landed and others did not, the whole has an unknown outcome."""
    results = await asyncio.gather(*answers.values(), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if not errors:
        return dict(zip(answers, results, strict=True))  # type: ignore[arg-type]  # no result is an exception here
    for kind in (LogRefused, UnknownOutcome):
        for error in errors:
            if isinstance(error, kind):
                raise error
    if len(errors) < len(results):
        raise UnknownOutcome(f"only a part of the append was written: {errors[0]}")
    raise errors[0]
