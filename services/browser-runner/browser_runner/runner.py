"""The runner: takes assignments from its inbox, carries them out side by side, keeps them alive by heartbeats.

    inbox -> assignment -> Attempt -> reports
          -> stop, park, answer -> the attempt that holds the token
One task reads the inbox; each attempt is a task of its own; one heartbeat per pool. When no heartbeat got through for
half a lease every attempt of that pool is cut without a word, for somebody else may have its work.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

import structlog

from browser_runner.attempt import Attempt
from browser_runner.heartbeat import INTERVAL_SECONDS, Heartbeat, Load
from browser_runner.kept_pages import KeptPages
from browser_runner.measuring import RunnerMeter
from browser_runner.services import Services
from kernel.domain.task import (
    AnswerDelivered,
    HeldTask,
    TaskAssigned,
    TaskParkRequested,
    TaskStopRequested,
)
from kernel.domain.values import Pool, Token
from kernel.errors import LogUnavailable, UnknownType
from kernel.line_context import LineContext
from kernel.log.codec import decode
from kernel.log.topics import Topic
from kernel.tracing.context import of_run

SILENCE_MS_MAX = 10_000
"""Half a lease."""

CUT_SECONDS = 15.0
"""What attempts that are cut get to close their pages before the runner ends without them."""

_REMEMBERED_TOKENS = 10_000
_READ_SECONDS = 5.0
_RETRY_SECONDS = 0.2

_log = structlog.get_logger(__name__)


class Runner:
    """One runner process, serving one or both pools. `run` is called once; `drain` makes it return."""

    def __init__(self, services: Services, slots: Mapping[Pool, int], *, drain_seconds: float = 25.0) -> None:
        """`slots`: working slots per pool served. `drain_seconds`: what running attempts get to end on SIGTERM."""
        self._services = services
        self._slots = dict(slots)
        self._drain_seconds = drain_seconds
        self._held: dict[Token, Attempt] = {}
        self._tasks: dict[Token, asyncio.Task[None]] = {}
        self._over: OrderedDict[Token, None] = OrderedDict()
        self._cut_off: set[Token] = set()
        self._kept = KeptPages(services.clock)
        self._heartbeats = {pool: Heartbeat(services, pool, lambda pool=pool: self._load(pool)) for pool in slots}  # type: ignore[misc]  # the default binds the loop variable
        self._draining = asyncio.Event()

    def show_slots(self, meter: RunnerMeter) -> None:
        """Let `meter` show the slots of each pool."""
        for pool in self._slots:
            meter.show_slots(pool, partial(self._load, pool))

    @property
    def held(self) -> int:
        """How many attempts are under way."""
        return len(self._held)

    def drain(self) -> None:
        """Take nothing more, let attempts end or hand back, then let `run` return. Fit for a signal handler."""
        self._draining.set()

    async def run(self) -> None:
        """Serve until drained. Raises what makes the log unusable (`LogRefused`); attempts are cut then."""
        start = await self._inbox_end()
        jobs: list[asyncio.Future[None]] = [asyncio.ensure_future(self._follow_inbox(start))]
        jobs += [asyncio.ensure_future(heartbeat.run()) for heartbeat in self._heartbeats.values()]
        jobs.append(asyncio.ensure_future(self._guard_silence()))
        drained = asyncio.ensure_future(self._drain_wanted())
        try:
            await asyncio.wait((*jobs, drained), return_when=asyncio.FIRST_COMPLETED)
            for job in jobs:
                if job.done():
                    job.result()
            await self._hand_everything_back()
        finally:
            for job in (*jobs, drained):
                job.cancel()
            self._cut(list(self._tasks))
            await self._ended(CUT_SECONDS)
            await self._kept.close()
            await asyncio.gather(*jobs, drained, return_exceptions=True)

    async def _drain_wanted(self) -> None:
        await self._draining.wait()

    # ------------------------------------------------------------ inbox

    async def _inbox_end(self) -> int:
        while True:
            try:
                return await self._services.log.end_offset(Topic.RUNNER_INBOX, self._services.inbox_partition)
            except LogUnavailable:
                await self._services.clock.sleep(_RETRY_SECONDS)

    async def _follow_inbox(self, offset: int) -> None:
        services = self._services
        while True:
            try:
                batch = await services.log.read(
                    Topic.RUNNER_INBOX, services.inbox_partition, offset, wait_seconds=_READ_SECONDS
                )
            except LogUnavailable:
                await services.clock.sleep(_RETRY_SECONDS)
                continue
            for stored in batch:
                offset = stored.offset + 1
                try:
                    event = decode(stored).event
                except UnknownType:
                    continue  # A newer version speaks to other runners of this partition.
                self._obey(event)

    def _obey(self, event: object) -> None:
        match event:
            case TaskAssigned(incarnation=incarnation) if incarnation == self._services.incarnation:
                self._take(event)
            case TaskStopRequested(token=token):
                self._forget_later(token)
                if token in self._held:
                    self._held[token].orders.stop = True
                    self._held[token].orders.changed()
            case TaskParkRequested(token=token) if token in self._held:
                self._held[token].orders.park = True
                self._held[token].orders.changed()
            case AnswerDelivered(token=token, answer=answer) if token in self._held:
                self._held[token].orders.answers[answer.path] = answer
                self._held[token].orders.changed()
            case _:
                pass

    def _take(self, assigned: TaskAssigned) -> None:
        """Begin an attempt, unless its token was begun or stopped before: records may come twice."""
        token, pool = assigned.token, assigned.request.pool
        if token in self._over or token in self._held or pool not in self._slots:
            return
        self._forget_later(token)
        attempt = Attempt(self._services, assigned, self._heartbeats[pool].soon, self._kept)
        if self._draining.is_set():
            attempt.orders.release = True
        self._held[token] = attempt
        task = asyncio.create_task(self._carry_out(attempt), name=f"attempt {assigned.task_id}")
        self._tasks[token] = task
        self._heartbeats[pool].soon()

    def _forget_later(self, token: Token) -> None:
        self._over[token] = None
        if len(self._over) > _REMEMBERED_TOKENS:
            self._over.popitem(last=False)

    async def _carry_out(self, attempt: Attempt) -> None:
        token = attempt.assigned.token
        with self._lines_about(attempt.assigned):
            try:
                await attempt.run()
            except Exception as error:  # noqa: BLE001 (an edge: one broken attempt must not end the others; the lapse settles it)
                await _log.aexception("attempt_broke", task_id=attempt.assigned.task_id, error=type(error).__name__)
            finally:
                self._held.pop(token, None)
                self._tasks.pop(token, None)
                self._cut_off.discard(token)

    def _lines_about(self, assigned: TaskAssigned) -> LineContext:
        return LineContext(
            organization_id=assigned.request.organization_id,
            root_run_id=assigned.root_run_id,
            workflow_run_id=assigned.workflow_run_id,
            attempt=assigned.token.attempt,
            trace_id=of_run(assigned.root_run_id).trace if self._services.tracer.is_on else "",
        )

    # ------------------------------------------------------------ alive

    def _load(self, pool: Pool) -> Load:
        held = tuple(
            HeldTask(attempt.assigned.task_id, attempt.assigned.token, attempt.waiting)
            for attempt in self._held.values()
            if attempt.assigned.request.pool is pool
        )
        return Load(self._slots[pool], self._draining.is_set(), held)

    async def _guard_silence(self) -> None:
        while True:
            await self._services.clock.sleep(INTERVAL_SECONDS / 4)
            for pool, heartbeat in self._heartbeats.items():
                if heartbeat.age_ms() >= SILENCE_MS_MAX:
                    self._cut([token for token, held in self._held.items() if held.assigned.request.pool is pool])

    def _cut(self, tokens: list[Token]) -> None:
        """End attempts without a word, each once. Nobody waits for them: a browser may hang while it closes a page."""
        for token in tokens:
            if token in self._tasks and token not in self._cut_off:
                self._cut_off.add(token)
                self._tasks[token].cancel()

    async def _ended(self, seconds: float) -> None:
        """Return when no attempt is under way, or after `seconds`."""
        if not self._tasks:
            return
        alarm = asyncio.ensure_future(self._services.clock.sleep(seconds))
        ended = asyncio.ensure_future(asyncio.wait(list(self._tasks.values())))
        await asyncio.wait((alarm, ended), return_when=asyncio.FIRST_COMPLETED)
        alarm.cancel()
        ended.cancel()

    async def _hand_everything_back(self) -> None:
        for attempt in self._held.values():
            attempt.orders.release = True
            attempt.orders.changed()
        for heartbeat in self._heartbeats.values():
            heartbeat.soon()
        await self._kept.close()
        await self._ended(self._drain_seconds)
