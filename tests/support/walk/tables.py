"""The real deciders as tables: a value and an input in, a value and what is derived out.

A decider is pure, so each pair is decided once. Time never moves for it: `NOW_MS` is always now, and a tick takes one
`TICK_MS` from every due time that a value remembers, no further than now. So values that differ only in when they came
to be are one. Far times (time-outs, tombstones) stay far; the number of a run's last fact is checked, then forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

from kernel.domain.decider import Context, Decider, Decision, Input, State, TakenOver, Wake
from kernel.domain.task import ReportIgnored
from kernel.log.topics import Topic
from scheduler.advance import Advance
from scheduler.advance.state import AdvanceState, Current, LiveRun, RunValue, Tombstone, due_ms
from scheduler.dispatch import Dispatch
from scheduler.dispatch.state import GRACE_KEY, DispatchState, Grace, Task
from tests.support.deciding import fold
from tests.support.walk.search import Broken

NOW_MS = 1_000_000
TICK_MS = 1_000
FAR_MS = NOW_MS + 100 * TICK_MS
LAST_FACT = 100
"""The number that every run's last fact is taken to have."""


def earlier(due: int) -> int:
    """A due time one tick later; 0 (none) and far times stay."""
    return due if due == 0 or due >= FAR_MS else max(due - TICK_MS, NOW_MS)


class Names:
    """Small numbers for values, so that a state of the walk is made of numbers."""

    def __init__(self) -> None:
        self.values: list[Any] = [None]
        self._numbers: dict[Hashable, int] = {None: 0}

    def number(self, value: Hashable) -> int:
        """The number of `value`, the same for equal values. None is 0."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def __getitem__(self, number: int) -> Any:
        return self.values[number]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one decision leaves and sends; all but `reasons` are numbers of `Names`."""

    value: int
    reports: tuple[tuple[str, int], ...] = ()
    """(root run, record) for `task_reports`."""
    dispatch: tuple[int, ...] = ()
    inboxes: tuple[tuple[int, int], ...] = ()
    """(inbox partition, message)."""
    decided: bool = False
    reasons: tuple[str, ...] = ()
    """Why reports were ignored."""


class _Table:
    """What both tables share: decide once, remember."""

    def __init__(self, decider: Decider, names: Names) -> None:
        self.decider = decider
        self.names = names
        self._known: dict[Any, Outcome] = {}
        self._ticked: dict[int, int] = {}

    def _decided(self, key: str, cause: Input | Wake | TakenOver, state: State) -> list[Decision]:
        before = dict(state.items())
        context = Context(
            NOW_MS, lambda *parts: "/".join((key, *parts, _attempt(state.get(key)))), lambda: f"nonce of {key}"
        )
        decisions = list(self.decider.decide(state, cause, context))
        if dict(state.items()) != before:
            raise Broken("decide changed the state")
        for decision in decisions:
            fold(self.decider, state, decision)
        return decisions

    def _outcome(self, value: int, decisions: list[Decision]) -> Outcome:
        reports: list[tuple[str, int]] = []
        dispatch: list[int] = []
        inboxes: list[tuple[int, int]] = []
        for derived in (record for decision in decisions for record in self.decider.derive(decision)):
            number = self.names.number(derived.event)
            if derived.topic == Topic.TASK_REPORTS:
                reports.append((derived.key, number))
            elif derived.topic == Topic.DISPATCH:
                dispatch.append(number)
            elif derived.topic == Topic.RUNNER_INBOX:
                assert derived.partition is not None
                inboxes.append((derived.partition, number))
        reasons = tuple(decision.event.reason for decision in decisions if isinstance(decision.event, ReportIgnored))
        return Outcome(value, tuple(reports), tuple(dispatch), tuple(inboxes), bool(decisions), reasons)

    def _remembered(self, key: Any, make: Callable[[], Outcome]) -> Outcome:
        outcome = self._known.get(key)
        if outcome is None:
            outcome = self._known[key] = make()
        return outcome


def _attempt(run: Any) -> str:
    return str(run.current.token.attempt) if isinstance(run, LiveRun) and run.current is not None else ""


class AdvanceTable(_Table):
    """`advance`, one root run at a time."""

    def __init__(self, names: Names) -> None:
        super().__init__(Advance(), names)
        self._due: dict[int, bool] = {}
        self._waits: dict[int, bool] = {}

    def read(self, root: str, run: int, event: int) -> Outcome:
        """It reads a request or a record of `task_reports`."""
        cause = Input("", root, self.names[event], "org-1", "", NOW_MS)
        return self._remembered((root, run, event), lambda: self._step(root, run, cause))

    def wake(self, root: str, run: int) -> Outcome:
        """It decides what is due."""
        return self._remembered((root, run), lambda: self._step(root, run, Wake()))

    def is_due(self, run: int) -> bool:
        """Whether something is."""
        known = self._due.get(run)
        if known is None:
            due = due_ms(self.names[run]) if run else None
            known = self._due[run] = due is not None and due <= NOW_MS
        return known

    def waits(self, run: int) -> bool:
        """Whether time or a person could move it soon."""
        known = self._waits.get(run)
        if known is None:
            value = self.names[run]
            due = due_ms(value) if run else None
            asks = isinstance(value, LiveRun) and value.current is not None and value.current.question is not None
            known = self._waits[run] = asks or (due is not None and due < FAR_MS)
        return known

    def tick(self, run: int) -> int:
        """The run one tick later."""
        ticked = self._ticked.get(run)
        if ticked is None:
            ticked = self._ticked[run] = self.names.number(_run_later(self.names[run]))
        return ticked

    def _step(self, root: str, run: int, cause: Input | Wake) -> Outcome:
        state = AdvanceState()
        state.put(root, self.names[run])
        decisions = self._decided(root, cause, state)
        after = state.get(root)
        numbers = [decision.sequence for decision in decisions if decision.sequence]
        before = LAST_FACT if run else 0
        if numbers != list(range(before + 1, before + 1 + len(numbers))):
            raise Broken(f"GAP: after {before} facts are numbered {numbers}")
        if after is not None and after.sequence != before + len(numbers):
            raise Broken(f"GAP: the run remembers {after.sequence} after {before} and {numbers}")
        number = self.names.number(None if after is None else replace(after, sequence=LAST_FACT))
        return self._outcome(number, decisions)


def _run_later(run: RunValue | None) -> RunValue | None:
    if not isinstance(run, LiveRun) or run.current is None:
        return run
    current: Current = run.current
    question, ending = current.question, current.ending
    return replace(
        run,
        current=replace(
            current,
            wait_until_ms=earlier(current.wait_until_ms),
            hold_until_ms=earlier(current.hold_until_ms),
            resume_ms=earlier(current.resume_ms),
            question=question and replace(question, expires_ms=earlier(question.expires_ms)),
            ending=ending and replace(ending, due_ms=earlier(ending.due_ms)),
        ),
    )


class DispatchTable(_Table):
    """`dispatch`, its whole map at a time; a value is the map's items in order of their keys."""

    def __init__(self, names: Names) -> None:
        super().__init__(Dispatch(), names)
        self._due: dict[int, bool] = {}

    def read(self, value: int, event: int) -> Outcome:
        """It reads a record of its input."""
        cause = Input("", "", self.names[event], "", "", NOW_MS)
        return self._remembered((value, event), lambda: self._step(value, cause))

    def wake(self, value: int) -> Outcome:
        """It decides what is due."""
        return self._remembered((value, "wake"), lambda: self._step(value, Wake()))

    def take_over(self, value: int) -> Outcome:
        """A new owner begins."""
        return self._remembered((value, "taken over"), lambda: self._step(value, TakenOver()))

    def is_due(self, value: int) -> bool:
        """Whether a lease is over."""
        known = self._due.get(value)
        if known is None:
            due = self._state(value).due_ms()
            known = self._due[value] = due is not None and due <= NOW_MS
        return known

    def has_queued(self, value: int) -> bool:
        """Whether any task waits for a runner."""
        return any(isinstance(item, Task) and not item.incarnation for _, item in self.names[value])

    def tick(self, value: int) -> int:
        """The map one tick later."""
        ticked = self._ticked.get(value)
        if ticked is None:
            items = tuple((key, _item_later(item)) for key, item in self.names[value])
            ticked = self._ticked[value] = self.names.number(items)
        return ticked

    def _state(self, value: int) -> DispatchState:
        state = DispatchState()
        for key, item in self.names[value]:
            state.put(key, item)
        return state

    def _step(self, value: int, cause: Input | Wake | TakenOver) -> Outcome:
        state = self._state(value)
        decisions = self._decided("", cause, state)
        items = dict(state.items())
        held = [item.request.workflow_run_id for item in items.values() if isinstance(item, Task) and item.incarnation]
        if len(held) > len(set(held)):
            raise Broken(f"two assigned tasks of one workflow run: {held}")
        grace = items.get(GRACE_KEY)
        if isinstance(grace, Grace) and grace.until_ms <= NOW_MS:
            del items[GRACE_KEY]  # it says nothing any more
        return self._outcome(self.names.number(tuple(sorted(items.items()))), decisions)


def _item_later(item: Any) -> Any:
    match item:
        case Task(incarnation=incarnation, lease_until_ms=lease) if incarnation:
            return replace(item, lease_until_ms=earlier(lease))
        case Grace(until_ms=until):
            return Grace(earlier(until))
        case _:
            return item


def has_ended(run: Any) -> bool:
    """Whether this value is an ended run."""
    return isinstance(run, Tombstone)
