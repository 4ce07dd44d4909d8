"""The real deciders under every interleaving of a small platform: lateness, death, takeover, drain, repeats, cancel.

How: `tests.support.walk` searches breadth first, so the story of a violation is a shortest one. Times are ticks with
F < W; every other time is 0 where nothing is said, that is: it may be over at any moment. What was walked is printed.
`make walk` walks the larger instances, too; they take many minutes and gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kernel.domain.task import AttemptSettling, Journal, TaskLeaseLapsed, TaskRequested
from scheduler import advance
from scheduler.advance import build, reports
from scheduler.advance import state as run_state
from scheduler.advance.build import Pen
from scheduler.advance.state import Current, LiveRun, Phase
from scheduler.dispatch import state as dispatch_state
from scheduler.dispatch.state import DispatchState
from tests.support.walk.platform import PlatformSpace
from tests.support.walk.search import Walked, search
from tests.support.walk.state import Instance, Rules
from tests.support.walk.tables import TICK_MS
from tests.support.walk.ticks import count_in_ticks

NOTHING: frozenset[str] = frozenset()
SILENCE = frozenset({"silence"})
DEATH = frozenset({"death"})
ANY = frozenset({"death", "drain", "takeover", "repeat"})

INSTANCES = {
    "silence": Instance(),
    "two deaths": Instance(kinds=DEATH, faults=2, lapses_max=3),
    "three repeats": Instance(kinds=frozenset({"repeat"}), faults=3, lapses_max=1),
    "silence and a repeat": Instance(kinds=SILENCE | {"repeat"}, faults=1, lapses_max=1),
    "silence and two takeovers": Instance(kinds=SILENCE | {"takeover"}, faults=2, lapses_max=1, lease=2, echo=1),
    "a drain": Instance(kinds=frozenset({"drain"}), faults=1, lapses_max=1),
    "a cancel": Instance(kinds=NOTHING, cancel=True, lapses_max=1),
    "a question": Instance(program="ask", lapses_max=1),
    "a question that expires": Instance(program="ask", lapses_max=1, answer=0),
}
"""Held to safety, and to reaching an end from everywhere."""

SAFE = {
    "three deaths or repeats": Instance(kinds=DEATH | {"repeat"}, faults=3, lapses_max=1),
    "a second run and silence": Instance(second=True, lapses_max=1),
    "a second run and a death": Instance(second=True, kinds=DEATH, faults=1),
    "a second run and a cancel": Instance(second=True, kinds=NOTHING, cancel=True, lapses_max=1),
    "a second run and a question": Instance(program="ask", second=True, kinds=NOTHING),
    "a question and a death": Instance(program="ask", kinds=DEATH, faults=1),
}
"""Held to safety."""

LARGE = {
    "three attempts": Instance(lapses_max=3),
    "three faults and silence": Instance(kinds=ANY | SILENCE, faults=3, lapses_max=2, lease=2, echo=1),
    "three deaths": Instance(kinds=DEATH, faults=3),
    "three deaths, four attempts": Instance(kinds=DEATH, faults=3, lapses_max=4),
    "three faults": Instance(kinds=ANY, faults=3),
    "a cancel and silence": Instance(cancel=True),
    "a cancel and three faults": Instance(cancel=True, kinds=ANY, faults=3, lapses_max=1),
    "a second run, silence, three faults": Instance(second=True, kinds=ANY | SILENCE, faults=3, lapses_max=2),
    "a second run, a cancel, silence": Instance(second=True, cancel=True, lapses_max=1),
    "a question and three faults": Instance(program="ask", kinds=ANY, faults=3, lapses_max=1),
    "a question and a cancel": Instance(program="ask", cancel=True, lapses_max=1),
    "a question, a second run, a death": Instance(program="ask", second=True, kinds=DEATH, faults=1),
}
LARGE_STATES_MAX = 4_000_000
"""Larger ones are cut off there, at about 4 GB."""


def walked(patch: pytest.MonkeyPatch, name: str, instance: Instance, *, live: bool, states_max: int) -> Walked:
    count_in_ticks(patch, instance)
    walk = search(PlatformSpace(instance), live=live, states_max=states_max)
    print(f"\n{name}: {walk.states} states, {walk.edges} moves{'' if walk.complete else ', cut off'}")  # noqa: T201 (what was walked belongs to the result)
    assert not walk.broken, "\n".join((walk.broken, *walk.story))
    return walk


@pytest.mark.parametrize("name", INSTANCES)
def test_small_instances_are_safe_and_reach_an_end_from_everywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert walked(monkeypatch, name, INSTANCES[name], live=True, states_max=100_000).complete


@pytest.mark.parametrize("name", SAFE)
def test_larger_instances_are_safe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert walked(monkeypatch, name, SAFE[name], live=False, states_max=200_000).complete


@pytest.mark.timeout(3600)
@pytest.mark.large
@pytest.mark.parametrize("name", LARGE)
def test_large_instances_are_safe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walked(monkeypatch, name, LARGE[name], live=False, states_max=LARGE_STATES_MAX)


# ---------------------------------------------------------------- what must be found

Mutation = Callable[[pytest.MonkeyPatch], None]


def _nothing(_: pytest.MonkeyPatch) -> None:
    """The deciders stay as they are: a rule of the runner is switched off."""


def no_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reports, "WAIT_MS", 0)


def the_login_is_freed_at_a_lapse(patch: pytest.MonkeyPatch) -> None:
    lapsed = reports.on_lapsed

    def freeing(pen: Pen, event: TaskLeaseLapsed) -> None:
        lapsed(pen, event)
        if isinstance(pen.run, LiveRun) and pen.run.current is not None:
            pen.release_connection()

    patch.setattr(advance, "on_lapsed", freeing)


def a_held_login_is_given_to_anyone(patch: pytest.MonkeyPatch) -> None:
    def ready(state: DispatchState, task_id: str) -> bool:
        task = state.get(dispatch_state.task_key(task_id))
        return isinstance(task, dispatch_state.Task) and not task.incarnation

    patch.setattr(DispatchState, "_is_ready", ready)
    patch.setattr(DispatchState, "holder", lambda *_: "")


def a_cancelled_run_ends_without_settling(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pen, "settle_without_word", lambda pen: pen.end_as_asked())


def the_wait_is_counted_from_the_decision(patch: pytest.MonkeyPatch) -> None:
    def hasty(pen: Pen) -> None:
        current, until = pen.current, pen.context.now_ms + CANCEL.wait * TICK_MS
        pen.settle()
        pen.write(AttemptSettling(current.task_id, pen.key, current.workflow_run_id, until))

    patch.setattr(Pen, "settle_without_word", hasty)


def the_unknown_step_is_told_to_the_next_attempt_only(patch: pytest.MonkeyPatch) -> None:
    evolve = run_state._evolve_attempt

    def forgetful(current: Current, event: Any) -> Current:
        after = evolve(current, event)
        return replace(after, unknown=()) if isinstance(event, TaskRequested) else after

    patch.setattr(run_state, "_evolve_attempt", forgetful)


def the_unknown_step_is_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(build, "Journal", lambda staged, entries, _: Journal(staged, entries, ()))


def the_token_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    why = reports.why_ignored

    def careless(pen: Pen, report: Any) -> str:
        if isinstance(pen.run, LiveRun) and pen.run.current is not None:
            report = replace(report, token=pen.run.current.token)
        return why(pen, report)

    patch.setattr(reports, "why_ignored", careless)


def reports_behind_a_lapse_count(patch: pytest.MonkeyPatch) -> None:
    why = reports.why_ignored
    patch.setattr(reports, "why_ignored", lambda pen, report: why(pen, report).replace("lapsed", ""))


def a_lapse_does_not_close_what_is_being_settled(patch: pytest.MonkeyPatch) -> None:
    lapsed = reports.on_lapsed

    def deaf(pen: Pen, event: TaskLeaseLapsed) -> None:
        if not isinstance(pen.run, LiveRun) or pen.current.phase is not Phase.CLOSING:
            lapsed(pen, event)

    patch.setattr(advance, "on_lapsed", deaf)


def settled_is_not_read_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(advance, "on_settled", lambda *_: None)


def an_assigned_task_stays_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    evolve = dispatch_state.evolve

    def forgetful(key: str, old: Any, event: Any) -> Any:
        new = evolve(key, old, event)
        return old if isinstance(new, dispatch_state.Task) and new.incarnation and not new.echoed else new

    patch.setattr("scheduler.dispatch.evolve", forgetful)


def facts_are_not_numbered_on(patch: pytest.MonkeyPatch) -> None:
    evolve = run_state.evolve

    def stuck(run: Any, decision: Any) -> Any:
        new = evolve(run, decision)
        return replace(new, sequence=0) if isinstance(new, LiveRun) else new

    patch.setattr(advance, "evolve", stuck)


@dataclass(frozen=True, slots=True)
class Wrong:
    """One rule switched off, and what the walk must say about it."""

    says: str
    instance: Instance
    mutation: Mutation = _nothing
    rules: Rules = field(default_factory=Rules)
    live: bool = False


ACTS_TWICE = "TWO external acts"
TWO_SESSIONS = "two live sessions of one login"
ACTS_LATE = "an act after the run has ended"
ACCEPTED = "of a closed token was accepted"
ACTS_ONLY = Instance(acts_only=True)
CANCEL = INSTANCES["a cancel"]
SECOND = SAFE["a second run and a death"]

TRAPS = {
    "trap 4: the fence opens by heartbeats": Wrong(ACTS_TWICE, ACTS_ONLY, rules=Rules(reads_fence=False)),
    "trap 4: started is not read back": Wrong(ACTS_TWICE, ACTS_ONLY, rules=Rules(reads_back=False)),
    "trap 5: two sessions of one run": Wrong(TWO_SESSIONS, Instance(), no_wait),
    "trap 5: the login is freed at a lapse": Wrong(TWO_SESSIONS, Instance(second=True), the_login_is_freed_at_a_lapse),
    "trap 6: an act after the cancelled end": Wrong(ACTS_LATE, CANCEL, a_cancelled_run_ends_without_settling),
    "trap 11: a lapse is acted on when it is written": Wrong(
        "stands before the lapse and is lost from the journal", Instance(), rules=Rules(advance_reads_lapses=False)
    ),
    "trap 12: the next attempt is asked for at once": Wrong(ACTS_TWICE, ACTS_ONLY, no_wait),
    "trap 13: the wait is counted from the decision": Wrong(ACTS_LATE, CANCEL, the_wait_is_counted_from_the_decision),
    "trap 14: the next lapse forgets the unknown step": Wrong(
        ACTS_TWICE, INSTANCES["two deaths"], the_unknown_step_is_told_to_the_next_attempt_only
    ),
    "trap 15: an assigned task is taken twice": Wrong(
        ACTS_TWICE, INSTANCES["three repeats"], rules=Rules(drops_repeats=False)
    ),
}

MUTATIONS = {
    "F is longer than W": Wrong(ACTS_TWICE, replace(ACTS_ONLY, fence=3, wait=2)),
    "the unknown step is not told": Wrong(ACTS_TWICE, ACTS_ONLY, the_unknown_step_is_not_told),
    "the token is not compared": Wrong(ACCEPTED, Instance(), the_token_is_not_compared),
    "reports behind a lapse count": Wrong(ACCEPTED, Instance(), reports_behind_a_lapse_count),
    "a success behind the lapse counts while closing": Wrong(
        ACCEPTED, Instance(cancel=True, lapses_max=1), a_lapse_does_not_close_what_is_being_settled
    ),
    "a used answer is not read back": Wrong(
        "an answer was used twice", Instance(program="ask", acts_only=True), rules=Rules(reads_back=False)
    ),
    "a held login is given to anyone": Wrong(TWO_SESSIONS, SECOND, a_held_login_is_given_to_anyone),
    "an assigned task stays in the queue": Wrong("", Instance(), an_assigned_task_stays_in_the_queue),
    "facts are not numbered on": Wrong("GAP", Instance(), facts_are_not_numbered_on),
    "settled is never read back": Wrong("STUCK", CANCEL, settled_is_not_read_back, live=True),
}


@pytest.mark.parametrize("name", [*TRAPS, *MUTATIONS])
def test_the_walk_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (TRAPS | MUTATIONS)[name]
    count_in_ticks(monkeypatch, wrong.instance)
    wrong.mutation(monkeypatch)
    walk = search(PlatformSpace(wrong.instance, wrong.rules), live=wrong.live, states_max=400_000)
    print(f"\n{name}: {walk.states} states, {walk.edges} moves")  # noqa: T201 (what was walked belongs to the result)
    assert walk.broken, f"{walk.states} states did not notice"
    assert wrong.says in walk.broken, "\n".join((walk.broken, *walk.story))


def test_a_forgotten_stop_costs_work_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembering a stop that overtakes its task is thrift: the fence is what keeps the task from acting."""
    count_in_ticks(monkeypatch, CANCEL)
    walk = search(PlatformSpace(CANCEL, Rules(remembers_stops=False)), states_max=100_000)
    assert walk.complete
    assert not walk.broken, "\n".join((walk.broken, *walk.story))


def test_every_trap_of_leases_and_fences_has_its_test() -> None:
    assert {int(name.split(":")[0].removeprefix("trap ")) for name in TRAPS} == {4, 5, 6, 11, 12, 13, 14, 15}
