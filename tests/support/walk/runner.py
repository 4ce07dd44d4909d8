"""A model runner with its fence, one attempt at a time: what it says, reads and does (design 6, 7).

Appending and being acknowledged is one move: a runner that is slow, paused, or taken for dead just does not move. What
it reads back is decided when its report lands, and it may act on that as late as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kernel.domain.ids import Incarnation
from kernel.domain.task import AnswerDelivered, TaskParkRequested, TaskStopRequested
from kernel.domain.values import Effect
from tests.support.runs import Attempt, heartbeat
from tests.support.walk.fences import OPEN
from tests.support.walk.search import Broken, Move
from tests.support.walk.state import Inbox, Instance, Pc, Platform, Runner, put, put_inbox, put_runner
from tests.support.walk.tables import Names

if TYPE_CHECKING:
    from tests.support.walk.platform import PlatformSpace

SAFE = frozenset({Pc.TAKEN, Pc.CHECK, Pc.BEFORE, Pc.LAST, Pc.WAITING})
"""Where a drain finds a safe point."""


class Script:
    """What a runner says, each report once as a number."""

    def __init__(self, names: Names, instance: Instance) -> None:
        self._names = names
        self._instance = instance
        self._said: dict[Any, int] = {}

    def incarnation(self, place: int, life: int) -> Incarnation:
        """The later place comes first in the order of `dispatch`: so an attempt may follow on either."""
        return Incarnation(f"{'ba'[place]}-{life}")

    def heartbeat(self, place: int, runner: Runner) -> int:
        """It names what is held."""
        waiting = runner.pc is Pc.WAITING

        def make() -> Any:
            held = (self._attempt(place, runner).held(waiting=waiting),) if runner.task else ()
            return heartbeat(self.incarnation(place, runner.life), held=held, host=f"host-{place}", inbox=place)

        return self._once((place, runner.life, runner.task, waiting), make)

    def say(self, place: int, runner: Runner, what: str) -> int:
        """The runner's next report."""
        return self._once(
            (place, runner.life, runner.task, runner.number, what),
            lambda: self._report(self._attempt(place, runner), what),
        )

    def _once(self, key: Any, make: Callable[[], Any]) -> int:
        number = self._said.get(key)
        if number is None:
            number = self._said[key] = self._names.number(make())
        return number

    def _attempt(self, place: int, runner: Runner) -> Attempt:
        attempt = Attempt(self._names[runner.task].request, self.incarnation(place, runner.life), place)
        attempt.number = runner.number
        return attempt

    def _report(self, attempt: Attempt, what: str) -> Any:
        makes: dict[str, Callable[[], Any]] = {
            "started": attempt.started,
            "step started": lambda: attempt.step_started("pay"),
            "not happened": lambda: attempt.checked("pay"),
            "happened": lambda: attempt.step("pay", effect=Effect.ONCE, resolved=True),
            "paid": lambda: attempt.step("pay", effect=Effect.ONCE),
            "asks": lambda: replace(
                attempt.suspended(hold_seconds=self._instance.hold), answer_seconds=self._instance.answer
            ),
            "answered": lambda: attempt.step("ask", consumed=True),
            "read": lambda: attempt.step("receipt"),
            "ended": attempt.ended,
            "parked": attempt.parked,
            "released": attempt.released,
            "stopped": attempt.stopped,
        }
        return makes[what]()


class RunnerMoves:
    """What the runner of one place may do next."""

    def __init__(self, space: PlatformSpace) -> None:
        self._space = space
        self._names = space.names
        self._script = space.script
        self._fences = space.fences
        self._instance = space.instance
        self._rules = space.rules

    def moves(self, state: Platform, place: int) -> Iterator[Move]:
        """Everything, faults included."""
        runner = state.runners[place]
        if runner.pc is Pc.DEAD:
            return
        yield from self._reads_inbox(state, place, runner)
        if runner.task:
            yield from self._fence(state, place, runner)
            yield from self._goes_on(state, place, runner)
        if state.faults:
            yield from self._fails(state, place, runner)

    # ------------------------------------------------------------ inbox

    def _reads_inbox(self, state: Platform, place: int, runner: Runner) -> Iterator[Move]:
        inbox = state.inboxes[place]
        if inbox.advance and runner.pc is not Pc.ACTED:
            message = inbox.advance[0]
            read = put_inbox(state, place, inbox._replace(advance=inbox.advance[1:]))
            yield (f"R{place} reads", message), self._told(read, place, runner, self._names[message]), False
        if runner.pc is not Pc.IDLE:
            return
        if inbox.dispatch:
            message = inbox.dispatch[0]
            rest = inbox._replace(dispatch=inbox.dispatch[1:])
            yield (f"R{place} reads", message), self._takes(state, place, rest, message), False
            if state.faults and "repeat" in self._instance.kinds:
                fewer = state._replace(faults=state.faults - 1)
                again = self._takes(fewer, place, rest._replace(late=(*rest.late, message)), message)
                yield (f"R{place} reads what will come again:", message), again, True
        for message in inbox.late:
            rest = inbox._replace(late=tuple(late for late in inbox.late if late != message))
            yield (f"R{place} reads again", message), self._takes(state, place, rest, message), False

    def _takes(self, state: Platform, place: int, inbox: Inbox, message: int) -> Platform:
        runner = state.runners[place]
        state = put_inbox(state, place, inbox)
        mine = self._names[message].incarnation == self._script.incarnation(place, runner.life)
        known = message in runner.seen
        if mine and not (known and self._rules.drops_repeats):
            runner = runner._replace(pc=Pc.TAKEN, task=message, number=0, fence=0, answer=0)
        return put_runner(state, place, self._seen(state, place, runner, message))

    def _seen(self, state: Platform, place: int, runner: Runner, message: int) -> Runner:
        """Remember what was taken or stopped, as long as it may still come."""
        inbox = state.inboxes[place]
        seen = {*runner.seen, message} & {*inbox.dispatch, *inbox.late}
        return runner._replace(seen=tuple(sorted(seen)))

    def _told(self, state: Platform, place: int, runner: Runner, event: Any) -> Platform:
        mine = bool(runner.task) and self._names[runner.task].task_id == event.task_id
        match event:
            case TaskStopRequested() if mine:
                return self._says(state, place, "stopped", Pc.IDLE)
            case TaskStopRequested():
                if not self._rules.remembers_stops:
                    return state
                for message in (*state.inboxes[place].dispatch, *state.inboxes[place].late):
                    if self._names[message].task_id == event.task_id:
                        runner = self._seen(state, place, runner, message)
                return put_runner(state, place, runner)
            case TaskParkRequested() if mine and runner.pc is Pc.WAITING:
                return self._says(state, place, "parked", Pc.IDLE)
            case AnswerDelivered(answer=answer) if mine and runner.pc is Pc.WAITING:
                given = self._names.number(answer.input_request_id)
                return put_runner(state, place, runner._replace(pc=Pc.ANSWERED, answer=given))
            case _:
                return state

    # ------------------------------------------------------------ the fence

    def _fence(self, state: Platform, place: int, runner: Runner) -> Iterator[Move]:
        landed = state.runs[self._root(runner)].landed
        over = self._fences.is_over(landed, runner.task)
        if over and runner.pc is not Pc.ACTED:
            yield (f"R{place} learns that it is over",), put_runner(state, place, _idle(runner)), False
        if not self._rules.reads_fence or runner.pc < Pc.CHECK:
            return
        if runner.fence < self._instance.fence and self._fences.is_open(landed, runner.task):
            opened = put_runner(state, place, runner._replace(fence=self._instance.fence))
            self._space.check_sessions(opened)
            yield (f"R{place}'s fence reads to the end and opens",), opened, False

    def _root(self, runner: Runner) -> int:
        return int(self._names[runner.task].root_run_id == "second")

    # ------------------------------------------------------------ the attempt

    def _goes_on(self, state: Platform, place: int, runner: Runner) -> Iterator[Move]:
        match runner.pc:
            case Pc.TAKEN:
                yield from self._reports(state, place, "started", self._first(runner))
            case Pc.CHECK if runner.fence:
                happened = Pc.HAPPENED if state.acts else Pc.NOT_HAPPENED
                yield (
                    (f"R{place} looks: {happened.name}",),
                    put_runner(state, place, runner._replace(pc=happened)),
                    False,
                )
            case Pc.HAPPENED:
                yield from self._reports(state, place, "happened", Pc.LAST)
            case Pc.NOT_HAPPENED:
                yield from self._reports(state, place, "not happened", Pc.BEFORE)
            case Pc.BEFORE:
                yield from self._reports(state, place, "step started", Pc.READY)
            case Pc.READY if runner.fence:
                yield (f"R{place} ACTS",), self._acts(state, place, runner), False
            case Pc.ACTED:
                yield from self._reports(state, place, "paid", Pc.LAST)
            case Pc.ASK:
                yield from self._reports(state, place, "asks", Pc.WAITING)
            case Pc.ANSWERED:
                yield from self._reports(state, place, "answered", Pc.TYPING)
            case Pc.TYPING if runner.fence:
                yield (f"R{place} TYPES the answer",), self._types(state, place, runner), False
            case Pc.LAST:
                read = self._says(state, place, "read", Pc.LAST)
                yield (f"R{place} reads and ends",), self._says(read, place, "ended", Pc.IDLE), False
            case _:
                return

    def _first(self, runner: Runner) -> Pc:
        """Where an attempt begins, as its journal says."""
        request = self._names[runner.task].request
        done = {entry.path for entry in request.journal.entries if not entry.consumed}
        match request.workflow.name:
            case "pay" if "pay" in done:
                return Pc.LAST
            case "pay":
                return Pc.CHECK if request.journal.unknown else Pc.BEFORE
            case "ask":
                return Pc.ANSWERED if request.answers else Pc.ASK
            case _:
                return Pc.LAST

    def _reports(self, state: Platform, place: int, what: str, then: Pc) -> Iterator[Move]:
        after = self._says(state, place, what, then)
        yield (f"R{place} reports: {what}",), after, False
        if state.faults and "repeat" in self._instance.kinds:
            runner = state.runners[place]
            root = self._root(runner)
            run = after.runs[root]
            late = run._replace(late=(*run.late, self._script.say(place, runner, what)))
            again = put(after, root, late)._replace(faults=state.faults - 1)
            yield (f"R{place} reports what will land again: {what}",), again, True

    def _says(self, state: Platform, place: int, what: str, then: Pc) -> Platform:
        """A report lands; what needs reading back is over when its token was closed before it."""
        runner = state.runners[place]
        root = self._root(runner)
        report = self._script.say(place, runner, what)
        after = runner._replace(pc=then, number=runner.number + 1)
        if what == "answered" and not runner.answer:
            answer = self._names[runner.task].request.answers[0]
            after = after._replace(answer=self._names.number(answer.input_request_id))
        closed = self._fences.before(state.runs[root].landed, report) != OPEN
        if closed and then in {Pc.READY, Pc.TYPING} and self._rules.reads_back:
            after = _idle(after)
        if then is Pc.IDLE:
            after = _idle(after)
        return self._space.land(put_runner(state, place, after), root, report)

    def _acts(self, state: Platform, place: int, runner: Runner) -> Platform:
        if state.acts:
            raise Broken("TWO external acts")
        self._space.check_act(state, runner.task)
        return put_runner(state, place, runner._replace(pc=Pc.ACTED))._replace(acts=1)

    def _types(self, state: Platform, place: int, runner: Runner) -> Platform:
        if runner.answer in state.typed:
            raise Broken("an answer was used twice")
        self._space.check_act(state, runner.task)
        typed = (*state.typed, runner.answer)
        return put_runner(state, place, runner._replace(pc=Pc.LAST, answer=0))._replace(typed=typed)

    # ------------------------------------------------------------ faults

    def _fails(self, state: Platform, place: int, runner: Runner) -> Iterator[Move]:
        kinds, fewer = self._instance.kinds, state._replace(faults=state.faults - 1)
        if "death" in kinds:
            yield (f"R{place} dies",), self._dies(fewer, place), True
        if "drain" in kinds and runner.pc in SAFE:
            yield (
                (f"R{place} drains and exits",),
                self._dies(self._says(fewer, place, "released", Pc.IDLE), place),
                True,
            )

    def _dies(self, state: Platform, place: int) -> Platform:
        dead = Runner(pc=Pc.DEAD, life=state.runners[place].life, is_death_told=False)
        return put_runner(put_inbox(state, place, Inbox()), place, dead)


def _idle(runner: Runner) -> Runner:
    return runner._replace(pc=Pc.IDLE, task=0, number=0, fence=0, answer=0)
