"""A model runner: the protocol of a runner and its egress proxy, without browsers (design 6, 7).

Every `yield` is a place where it may crash, be paused or be cut off. Only these rules are its own; the fence that it
asks is the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from kernel.domain.ids import Incarnation, TaskId, WorkflowRunId
from kernel.domain.input_request import InputField
from kernel.domain.task import (
    Answer,
    AnswerDelivered,
    HeldTask,
    RunnerHeartbeat,
    StepChecked,
    StepFinished,
    StepStarted,
    TaskAssigned,
    TaskEnded,
    TaskParked,
    TaskParkRequested,
    TaskReleased,
    TaskRequested,
    TaskStarted,
    TaskStopped,
    TaskStopRequested,
    TaskSuspended,
)
from kernel.domain.values import Effect, Failure, Pool, SealedBody, Token
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.fence import Fence
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.port import Position
from kernel.log.topics import Topic, partition_of
from tests.support.runs import BODY, SEALED, artifact
from tests.support.simulator.world import Link, World, WorldClock

MODEL_STEPS: dict[str, tuple[tuple[str, str], ...]] = {
    "plain": (("read", "open"), ("once", "pay"), ("read", "receipt")),
    "asking": (("read", "open"), ("ask", "code"), ("once", "pay")),
    "refused": (("read", "open"), ("ask", "code"), ("send", "login"), ("once", "pay")),
    "twice": (("once", "first"), ("once", "second")),
}
"""Workflow name to its steps: kind and path."""

LIVE_MS = 10_000
"""Without an acknowledged heartbeat for half a lease a runner stops acting."""


@dataclass(eq=False)
class Live:
    """One attempt on this runner."""

    task: TaskRequested
    number: int = 0
    waiting: bool = False
    stop: bool = False
    park: bool = False
    answer: Answer | None = None
    acting: bool = False
    """Its context is open: it could reach the outside if the fence lets it."""
    program: AsyncIterator[str] | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    code: str = ""
    """The answer that was used last, by its question."""
    rejections: int = 0
    """How many of its codes the site is known to have refused."""
    refused: bool = False
    """The site has just refused the code: the question is asked again."""


class ModelRunner:
    """One life of one runner process."""

    def __init__(self, world: World, link: Link, clock: WorldClock, name: str, life: int, *, slots: int) -> None:
        self.world, self.link, self.clock = world, link, clock
        self.name = name
        self.incarnation = Incarnation(f"{name}-{life}")
        self.slots = slots
        self.inbox_partition = partition_of(self.incarnation, link.partitions(Topic.RUNNER_INBOX))
        self.inbox_offset = 0
        self.live: dict[str, Live] = {}
        self.seen: set[tuple[str, str]] = set()
        self.acknowledged_ms = clock.boot_ms()
        self.next_beat_ms = clock.boot_ms()
        self.draining = False
        self.fence = Fence(link, codec.decode, clock)

    # ------------------------------------------------------------ what the simulation calls

    def actions(self) -> list[Any]:
        """What may be done next."""
        todo: list[Any] = [self.read_inbox]
        if self.clock.boot_ms() >= self.next_beat_ms:
            todo.append(self.beat)
        todo += [live for live in self.live.values() if self._may_go_on(live)]
        return todo

    async def do(self, action: Any) -> None:
        """Do one of `actions`; a fault of the log leaves it to be done again."""
        try:
            if isinstance(action, Live):
                await self._go_on(action)
            else:
                await action()
        except (LogUnavailable, UnknownOutcome) as error:
            self.world.note(f"{self.incarnation}: {error}")

    async def beat(self) -> None:
        """A heartbeat that names what is held."""
        held = tuple(HeldTask(live.task.task_id, live.task.token, live.waiting) for live in self.live.values())
        beat = RunnerHeartbeat(
            self.incarnation, self.name, Pool.BROWSER, self.inbox_partition, self.slots, self.draining, held,
            self.clock.now_ms(),
        )  # fmt: skip
        self.next_beat_ms = self.clock.boot_ms() + 2_000
        sent_ms = self.clock.boot_ms()
        await self._append(Topic.DISPATCH, "browser/0", beat)
        self.acknowledged_ms = sent_ms

    async def read_inbox(self) -> None:
        """Take what the deciders sent."""
        batch = await self.link.read(Topic.RUNNER_INBOX, self.inbox_partition, self.inbox_offset, max_records=1)
        for stored in batch:
            self.inbox_offset = stored.offset + 1
            self._take(codec.decode(stored).event)

    async def close(self) -> None:
        """The process is gone."""
        self.live.clear()
        await self.fence.close()

    def has_work(self) -> bool:
        """Whether it holds attempts."""
        return bool(self.live)

    # ------------------------------------------------------------ inbox

    def _take(self, event: Any) -> None:
        match event:
            case TaskAssigned():
                if event.incarnation == self.incarnation and self._is_first(event.task_id, event.token.nonce):
                    self.world.note(f"{self.incarnation} takes {event.task_id}")
                    live = Live(event.request, answers={answer.path: answer for answer in event.request.answers})
                    live.program = self._program(live)
                    self.live[event.task_id] = live
                    self.fence.watch(live.task.root_run_id, live.task.token)
                    self.next_beat_ms = 0
            case TaskStopRequested():
                self._is_first(event.task_id, event.token.nonce)
                if live_or_none := self.live.get(event.task_id):
                    live_or_none.stop = True
            case TaskParkRequested():
                if live_or_none := self.live.get(event.task_id):
                    live_or_none.park = True
            case AnswerDelivered():
                if live_or_none := self.live.get(event.task_id):
                    live_or_none.answer = event.answer

    def _is_first(self, task_id: str, nonce: str) -> bool:
        """Runners drop a repeated (task, token), and remember what they were told to stop."""
        if (task_id, nonce) in self.seen:
            return False
        self.seen.add((task_id, nonce))
        return True

    # ------------------------------------------------------------ attempts

    def _may_go_on(self, live: Live) -> bool:
        return not live.waiting or live.stop or live.park or live.answer is not None

    async def _go_on(self, live: Live) -> None:
        if self.clock.boot_ms() - self.acknowledged_ms > LIVE_MS:
            self._drop(live, "no heartbeat was acknowledged for half a lease")
            return
        assert live.program is not None
        try:
            text = await anext(live.program)
            self.world.note(f"{self.incarnation} {live.task.task_id}: {text}")
        except StopAsyncIteration:
            self._drop(live, "over")

    def _drop(self, live: Live, why: str) -> None:
        self.world.note(f"{self.incarnation} lets go of {live.task.task_id}: {why}")
        self.live.pop(live.task.task_id, None)
        self.fence.forget(live.task.root_run_id, live.task.token)
        self.next_beat_ms = 0

    async def _program(self, live: Live) -> AsyncIterator[str]:
        """The whole attempt; each yield is a boundary between two actions."""
        task = live.task
        steps = MODEL_STEPS[task.workflow.name]
        done = self._done(live, [path for _, path in steps])
        async for text in self._report(live, lambda: self._started(live)):
            yield text
        live.acting = True
        at = 0
        while at < len(steps) and not live.stop and not self.draining:
            kind, path = steps[at]
            at += 1
            if path in done or (kind == "ask" and steps[at][0] == "send" and steps[at][1] in done):
                continue
            step = {"read": self._read, "once": self._once, "ask": self._ask, "send": self._send}[kind]
            async for text in step(live, path):
                yield text
                if text == "gone":
                    return
            if live.refused:
                live.refused, at = False, at - 2
        live.acting = False
        async for text in self._report(live, lambda: self._end(live)):
            yield text

    def _done(self, live: Live, order: list[str]) -> set[str]:
        """What need not be done again: a rejection takes back all from the question up to itself."""
        done: set[str] = set()
        for entry in live.task.journal.entries:
            if entry.asks_again:
                live.rejections += 1
                done -= set(order[order.index(entry.asks_again) : order.index(entry.path) + 1])
            elif entry.status is not None and not entry.consumed:
                done.add(entry.path)
        return done

    def _started(self, live: Live) -> TaskStarted:
        return TaskStarted(*self._head(live), self.incarnation, self.inbox_partition, "")

    def _end(self, live: Live) -> Any:
        if live.stop:
            return TaskStopped(*self._head(live))
        if self.draining:
            return TaskReleased(*self._head(live), "drain", 0)
        return TaskEnded(*self._head(live), WorkflowRunStatus.COMPLETED, BODY, Failure(), ())

    async def _read(self, live: Live, path: str) -> AsyncIterator[str]:
        if not await self._reaches(live):
            yield f"{path}: the fence is shut"
        async for text in self._report(live, lambda: self._finished(live, path, Effect.READ)):
            yield text

    async def _once(self, live: Live, path: str) -> AsyncIterator[str]:
        """`started`, read back, act, outcome; an unknown one is checked first."""
        task = live.task
        if path in task.journal.unknown:
            while not await self._reaches(live):
                yield f"{path}: the check waits for the fence"
                if live.stop:
                    return
            if self.world.site.has_happened(task.workflow_run_id, path):
                async for text in self._report(live, lambda: self._finished(live, path, Effect.ONCE, resolved=True)):
                    yield text
                return
            async for text in self._report(live, lambda: StepChecked(*self._head(live), path)):
                yield text
        position = Position("", 0, 0)
        async for said in self._report(live, lambda: self._announced(live, path)):
            yield said
        position = self._last_position
        if not await self._read_back(live, position):
            live.acting = False
            yield "gone"
            return
        yield f"{path} was read back"
        while not await self._reaches(live):
            yield f"{path}: the act waits for the fence"
            if live.stop or live.task.task_id not in self.live:
                return
        if path == "login" and not self.world.site.log_in(task.workflow_run_id, path, live.code):
            yield f"{path} IS REFUSED"
            async for text in self._refusal(live, path, "code"):
                yield text
            return
        if path != "login":
            self.world.site.act(task.workflow_run_id, path)
        yield f"{path} ACTS"
        async for text in self._report(live, lambda: self._finished(live, path, Effect.ONCE)):
            yield text

    def _send(self, live: Live, path: str) -> AsyncIterator[str]:
        """A `once` step that sends the code; the site may refuse it, which is a known outcome."""
        return self._once(live, path)

    async def _refusal(self, live: Live, path: str, ask: str) -> AsyncIterator[str]:
        """Say that the code was refused, and go back to the question; its answer is used up."""
        live.rejections, live.refused = live.rejections + 1, True
        live.answers.pop(ask, None)
        live.answer = None
        async for text in self._report(live, lambda: self._finished(live, path, Effect.ONCE, asks_again=ask)):
            yield text

    async def _ask(self, live: Live, path: str) -> AsyncIterator[str]:
        """Ask a person, hold the page; the answer is used only after its use was read back."""
        answer = live.answers.get(path)
        if answer is None:
            async for text in self._report(live, lambda: self._suspended(live, path)):
                yield text
            live.waiting = True
            self.next_beat_ms = 0
            yield f"{path}: waits for a person"
            live.waiting = False
            if live.stop:
                return
            if live.park and live.answer is None:
                live.acting = False
                async for text in self._report(live, lambda: TaskParked(*self._head(live))):
                    yield text
                yield "gone"
                return
            answer = live.answer
        assert answer is not None
        async for text in self._report(live, lambda: self._finished(live, path, Effect.READ, consumed=True)):
            yield text
        if not await self._use_is_read_back(live, self._last_position):
            live.acting = False
            yield "gone"
            return
        while not await self._reaches(live):
            yield f"{path}: the answer waits for the fence"
            if live.stop:
                return
        self.world.site.type_answer(answer.input_request_id)
        live.code = answer.input_request_id

    # ------------------------------------------------------------ rules that mutations switch off

    async def _reaches(self, live: Live) -> bool:
        """Whether a byte may leave under this token now."""
        return await self.fence.ensure_open(live.task.root_run_id, live.task.workflow_run_id, live.task.token)

    async def _use_is_read_back(self, live: Live, position: Position) -> bool:
        """That an answer is used up must count before it is used: an acknowledged report may stand behind a lapse."""
        return await self._read_back(live, position)

    async def _read_back(self, live: Live, position: Position) -> bool:
        return await self.fence.read_back(live.task.root_run_id, live.task.token, position.offset)

    # ------------------------------------------------------------ reports

    def _head(self, live: Live) -> tuple[TaskId, str, WorkflowRunId, Token, int]:
        live.number += 1
        task = live.task
        return (task.task_id, task.root_run_id, task.workflow_run_id, task.token, live.number)

    def _announced(self, live: Live, path: str) -> StepStarted:
        return StepStarted(*self._head(live), path, path, path, Effect.ONCE, "click")

    def _finished(
        self,
        live: Live,
        path: str,
        effect: Effect,
        *,
        resolved: bool = False,
        consumed: bool = False,
        asks_again: str = "",
    ) -> StepFinished:
        name = f"{live.task.token.attempt}/{path}"
        status = StepStatus.FAILED if asks_again else StepStatus.COMPLETED
        return StepFinished(
            *self._head(live), path=path, step_id=path, name=path, kind="assert", effect=effect,
            status=status, tries=1, started_ms=0, finished_ms=0, output=BODY, failure=Failure(),
            artifacts=(artifact(f"{live.task.workflow_run_id}/{name}"),), screenshot_artifact_id="",
            safe_point=effect is Effect.ONCE and not asks_again, url=SEALED, consumed=consumed, next_name="",
            journal_staged=SealedBody(), resolved=resolved, asks_again=asks_again,
        )  # fmt: skip

    def _suspended(self, live: Live, path: str) -> TaskSuspended:
        question = InputField("code", "Code", "mfa_code", secret=True, options=(), pattern="")
        attempt = live.rejections + 1
        return TaskSuspended(*self._head(live), path, path, "mfa_code", SEALED, (question,), attempt, 30, 900)

    async def _report(self, live: Live, make: Any) -> AsyncIterator[str]:
        """Append a report until it is acknowledged; a repeat keeps its number."""
        report = make()
        while True:
            yield f"reports {type(report).__name__} {report.number}"
            try:
                positions = await self._append(Topic.TASK_REPORTS, live.task.root_run_id, report)
            except (LogUnavailable, UnknownOutcome) as error:
                yield f"report {report.number}: {error}"
                continue
            self._last_position = positions[0]
            return

    async def _append(self, topic: Topic, key: str, event: Any) -> list[Position]:
        partition = partition_of(key, self.link.partitions(topic))
        number = self.world.random.getrandbits(64)
        envelope = Envelope(id=f"{self.incarnation}-{number}", time_ms=self.clock.now_ms())
        return await self.link.append(
            [codec.encode(event, topic=topic, key=key, envelope=envelope, partition=partition)]
        )


def with_steps(workflow: Any, name: str) -> Any:
    """A planned workflow that carries out the model steps `name`."""
    return replace(workflow, name=name)
