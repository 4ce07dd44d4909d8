"""The fence: may this attempt still reach the outside? (design 6.5)

The fence follows `task_reports`. A token is open until F after the *sending* of a question for the end of the run's
partition, once everything below that was read and the token found assigned, newest of its workflow run, neither lapsed
nor settled. Nothing else opens it: no heartbeat, no message, no earlier answer. So a machine that was paused and wakes
up late finds its window over, and has to read the lapse before it may send again.

The end must be a *confirmed* one (`EventLog.confirmed_end`): whatever anybody could read before the question was sent
stands below it. A broker that is cut off from the others, and not from us, goes on believing that it leads and tells an
old end for ever; its word alone would keep a token open whose lapse stands under its successor. Hence the argument: let
`advance` have read a lapse at T. Every question that was sent after T finds the lapse, whichever broker is asked, or is
not answered; so the last window began at T at the latest, and is over at T + F, before the next attempt is asked for
at T + W. Heartbeats and acknowledged appends have no part in it, so vault and store, which append nothing, are as safe.

Reading happens on demand only: while the window is more than half full an answer costs nothing; below that the next
question starts one read per partition, shared by everyone who asks; nobody asks, nothing is read. What was read of a
run is folded once: assignments, lapses and settlings, by token. The fold only ever takes away (a lapse is for ever, an
older attempt never becomes the newest again), so records that arrive twice, or are read twice, change nothing.

Where to begin reading: nothing about a token stands before the request of its task, so `since_ms` (the task's
`requested_ms`) finds the start by bisection; without it, or an exact `from_offset`, the partition is read from its
first record. Beginning at an assignment found by searching backwards would be wrong: it may be a repeated one, and a
settling may stand before it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kernel.clock import Clock
from kernel.domain.task import TaskAssigned, TaskLeaseLapsed, TaskSettled
from kernel.domain.values import Token
from kernel.errors import LogUnavailable, TokenNotSeen, TowpathError
from kernel.log.envelope import Message
from kernel.log.port import EventLog, Stored
from kernel.log.topics import Topic, partition_of

RELEVANT_TYPES = frozenset(f"towpath.task.{name}.v1" for name in ("assigned", "lease_lapsed", "settled"))
"""`ce_type` of the records that open or shut; all others are skipped undecoded."""

_SKEW_MS = 5_000
"""How far `since_ms` is trusted less: clocks agree within 1 s (design 4.8), five cost little reading."""
ARRIVES_MS = 3_000
"""How long the vault waits for an assignment that a runner has heard of; the log of each has leaders of its own."""
_SWEEP_MS = 5_000
_IDLE_MS = 60_000
"""A run that was asked about without `watch` is kept this long after the last question."""
_NEVER = float("-inf")


@dataclass(slots=True)
class _Run:
    """What was read about one root run."""

    partition: int
    since_ms: int
    from_offset: int
    asked_ms: float
    watched: Counter[Token] = field(default_factory=Counter)
    generation: int = 0
    """Grows when the start moves back, so that a read under way does not count for it."""
    next_offset: int | None = None
    """Everything below is folded; None until the start was located."""
    read_sent_ms: float = _NEVER
    """`boot_ms` at the sending of the last question for an end that was read to."""
    assigned: dict[Token, str] = field(default_factory=dict)
    """Token to its workflow run."""
    newest: dict[str, Token] = field(default_factory=dict)
    """Workflow run to its newest assigned token."""
    ended: dict[Token, int] = field(default_factory=dict)
    """Token to the offset of its first lapse or settling."""

    def fold(self, event: object, offset: int) -> None:
        match event:
            case TaskAssigned(workflow_run_id=workflow_run_id, token=token):
                self.assigned[token] = workflow_run_id
                newest = self.newest.get(workflow_run_id)
                if newest is None or token.attempt >= newest.attempt:
                    self.newest[workflow_run_id] = token
            case TaskLeaseLapsed(token=token) | TaskSettled(token=token):
                self.ended[token] = min(offset, self.ended.get(token, offset))
            case _:
                pass  # a report: it says what a runner did and opens nothing

    def is_assigned(self, workflow_run_id: str | None, token: Token) -> bool:
        """Assigned, newest, neither lapsed nor settled, as far as was read. None: whichever workflow run it is."""
        run_id = self.assigned.get(token)
        if run_id is None or workflow_run_id not in (None, run_id):
            return False
        return token not in self.ended and self.newest[run_id] == token

    def is_over(self, token: Token) -> bool:
        """It can never open again."""
        run_id = self.assigned.get(token)
        return token in self.ended or (run_id is not None and self.newest[run_id] != token)


class Fence:
    """Answers for the tokens of one process; safe to ask from any number of tasks of one loop.

    `decode` is the log codec's; `window_seconds` is F. Errors never open anything: `ensure_open` and `wait_open` answer
    False, `read_back` and `is_current` raise them.
    """

    def __init__(
        self,
        log: EventLog,
        decode: Callable[[Stored], Message],
        clock: Clock,
        *,
        topic: str = Topic.TASK_REPORTS,
        window_seconds: float = 2.0,
    ) -> None:
        self._log = log
        self._decode = decode
        self._clock = clock
        self._topic = topic
        self._window_ms = window_seconds * 1000
        self._partitions = log.partitions(topic)
        self._runs: dict[str, _Run] = {}
        self._reads: dict[int, asyncio.Task[None]] = {}
        self._swept_ms = _NEVER

    def watch(self, root_run_id: str, token: Token, *, from_offset: int = 0, since_ms: int = 0) -> None:
        """Keep what is read about the run until `forget` was called as often for this token. Reads nothing itself.

        `since_ms`: the task's `requested_ms`; `from_offset`: an offset before which nothing about the token stands.
        Give either, or the partition is read from its start.
        """
        self._run_since(root_run_id, from_offset, since_ms).watched[token] += 1

    def forget(self, root_run_id: str, token: Token) -> None:
        """The counterpart of `watch`; unknown tokens are no error."""
        run = self._runs.get(root_run_id)
        if run is None:
            return
        run.watched[token] -= 1
        run.watched = +run.watched
        if not run.watched:
            del self._runs[root_run_id]

    def is_open(self, root_run_id: str, workflow_run_id: str, token: Token) -> bool:
        """As of now, from what was read; never waits."""
        run = self._runs.get(root_run_id)
        return run is not None and run.is_assigned(workflow_run_id, token) and self._left_ms(run) > 0

    async def ensure_open(self, root_run_id: str, workflow_run_id: str, token: Token) -> bool:
        """Is it open? Waits for a read only when the window is over or the token is not yet known."""
        return await self._ensure_open(self._run(root_run_id), workflow_run_id, token)

    async def is_current(self, root_run_id: str, token: Token, since_ms: int = 0) -> bool:
        """The same for who knows no workflow run (the vault): is `token` open for the one that it was assigned to?

        `since_ms` is what the caller says; one that is too late hides the assignment and so opens nothing. False is
        what was read: it is over, for ever. `LogUnavailable` when nothing could be read in time, which says nothing
        about the token; `TokenNotSeen` when nobody has assigned it as far as was read, `ARRIVES_MS` from now.
        """
        run = self._run_since(root_run_id, 0, since_ms)
        deadline_ms = self._clock.boot_ms() + ARRIVES_MS
        while not await self._ensure_open(run, None, token):
            if run.is_over(token):
                return False
            if self._left_ms(run) <= 0:
                raise LogUnavailable(f"{self._topic}/{run.partition} was not read in time")
            left = (deadline_ms - self._clock.boot_ms()) / 1000
            if left <= 0:
                raise TokenNotSeen(f"{self._topic}/{run.partition} tells of no such token so far")
            await self._wait_for_record(run, min(left, 1.0))
        return True

    async def wait_open(self, root_run_id: str, workflow_run_id: str, token: Token, timeout_seconds: float) -> bool:
        """As `ensure_open`, but waits for the assignment to arrive: `task_reports` may lag behind the inbox."""
        deadline_ms = self._clock.boot_ms() + timeout_seconds * 1000
        run = self._run(root_run_id)
        while not await self._ensure_open(run, workflow_run_id, token):
            left = (deadline_ms - self._clock.boot_ms()) / 1000
            if run.is_over(token) or left <= 0:
                return False
            await self._wait_for_record(run, min(left, 1.0))
        return True

    async def read_back(self, root_run_id: str, token: Token, position: int) -> bool:
        """Read the run's partition up to and with offset `position`: does no lapse or settling of `token` stand before?

        Waits as long as that takes; raises what the log raises, and then nothing is known. False also when the run was
        forgotten meanwhile.
        """
        run = self._run(root_run_id)
        while run.next_offset is None or run.next_offset <= position:
            await self._read(run.partition)
            if self._runs.get(root_run_id) is not run:
                return False
            if run.next_offset is None or run.next_offset <= position:
                await self._clock.sleep(0.01)  # a new leader may show an acknowledged record a little late
        return run.ended.get(token, position) >= position

    async def close(self) -> None:
        """Stop reading; everything is shut from now on. Idempotent."""
        self._runs.clear()
        reads = list(self._reads.values())
        for read in reads:
            read.cancel()
        if reads:
            await asyncio.wait(reads)

    def _run(self, root_run_id: str, from_offset: int = 0, since_ms: int = 0) -> _Run:
        now = self._clock.boot_ms()
        run = self._runs.get(root_run_id)
        if run is None:
            self._drop_idle(now)
            run = _Run(partition_of(root_run_id, self._partitions), since_ms, from_offset, now)
            self._runs[root_run_id] = run
        run.asked_ms = now
        return run

    def _run_since(self, root_run_id: str, from_offset: int, since_ms: int) -> _Run:
        run = self._run(root_run_id, from_offset, since_ms)
        if from_offset < run.from_offset or since_ms < run.since_ms:
            # It began behind what this token needs: locate anew. What was folded stays true.
            run.from_offset, run.since_ms = min(from_offset, run.from_offset), min(since_ms, run.since_ms)
            run.next_offset, run.read_sent_ms, run.generation = None, _NEVER, run.generation + 1
        return run

    def _drop_idle(self, now: float) -> None:
        if now - self._swept_ms < _SWEEP_MS:
            return
        self._swept_ms = now
        idle = [key for key, run in self._runs.items() if not run.watched and now - run.asked_ms > _IDLE_MS]
        for key in idle:
            del self._runs[key]

    def _left_ms(self, run: _Run) -> float:
        return run.read_sent_ms + self._window_ms - self._clock.boot_ms()

    async def _ensure_open(self, run: _Run, workflow_run_id: str | None, token: Token) -> bool:
        if run.is_over(token):
            return False
        run.asked_ms = self._clock.boot_ms()
        left = self._left_ms(run)
        if left > 0 and run.is_assigned(workflow_run_id, token):
            if left <= self._window_ms / 2:
                self._start_read(run.partition)
            return True
        # Twice, because the read that is joined first may have been sent before this question.
        for _ in range(2):
            try:
                await self._read(run.partition)
            except TowpathError:
                return False
            if run.is_over(token) or self._left_ms(run) > 0:
                break
        return run.is_assigned(workflow_run_id, token) and self._left_ms(run) > 0

    async def _wait_for_record(self, run: _Run, seconds: float) -> None:
        if run.next_offset is None:  # the log does not answer
            await self._clock.sleep(min(seconds, 0.1))
            return
        try:
            await self._log.read(self._topic, run.partition, run.next_offset, max_records=1, wait_seconds=seconds)
        except TowpathError:
            await self._clock.sleep(min(seconds, 0.1))

    def _start_read(self, partition: int) -> asyncio.Task[None]:
        read = self._reads.get(partition)
        if read is None or read.done():
            read = asyncio.get_running_loop().create_task(self._read_to_watermark(partition))
            read.add_done_callback(lambda done: self._ended(partition, done))
            self._reads[partition] = read
        return read

    def _ended(self, partition: int, read: asyncio.Task[None]) -> None:
        if self._reads.get(partition) is read:
            del self._reads[partition]
        if not read.cancelled():
            read.exception()  # seen by those who waited; a read ahead of time that failed just opens nothing

    async def _read(self, partition: int) -> None:
        """One shared read; a waiter that is cancelled does not end it for the others."""
        read = self._start_read(partition)
        await asyncio.wait([read])
        if read.cancelled():
            raise LogUnavailable("the fence is closed")
        read.result()

    async def _read_to_watermark(self, partition: int) -> None:
        runs = [run for run in self._runs.values() if run.partition == partition]
        sent_ms = self._clock.boot_ms()
        end = await self._log.confirmed_end(self._topic, partition)
        generations = [run.generation for run in runs]
        starts = [await self._locate(run, end) for run in runs]
        at = min(starts, default=end)
        while at < end:
            batch = await self._log.read(self._topic, partition, at)
            for stored in batch:
                self._fold(stored)
            after = batch[-1].offset + 1 if batch else await self._log.next_offset(self._topic, partition, at)
            if after == at:
                raise LogUnavailable(f"{self._topic}/{partition} ends at {at}, before its high watermark {end}")
            at = after
        for run, generation in zip(runs, generations, strict=True):
            if run.generation == generation:
                run.next_offset, run.read_sent_ms = at, sent_ms

    def _fold(self, stored: Stored) -> None:
        run = self._runs.get(stored.record.key)
        if run is None or dict(stored.record.headers).get("ce_type") not in RELEVANT_TYPES:
            return
        run.fold(self._decode(stored).event, stored.offset)

    async def _locate(self, run: _Run, end: int) -> int:
        """Where reading about `run` begins: bisection by time of append, never above a hint that is exact."""
        if run.next_offset is not None:
            return run.next_offset
        low, high = max(run.from_offset, await self._log.start_offset(self._topic, run.partition)), end
        bound_ms = run.since_ms - _SKEW_MS
        while run.since_ms and low < high:
            middle = (low + high) // 2
            found = await self._log.read(self._topic, run.partition, middle, max_records=1)
            if found and found[0].appended_ms < bound_ms:
                low = middle + 1
            else:
                high = middle
        return low
