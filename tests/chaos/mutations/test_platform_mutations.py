"""Deliberate bugs: each switches off one rule of the protocol, and the simulator must notice.

A net that never caught anything proves nothing. Every mutation patches the one function that holds the rule; the
simulation of some seed must then end in a violation. What chance finds too seldom (no wait for a fence, F above W, the
wait counted from `settled`, a report behind a lapse while closing, derived records taken twice) is caught by the
exhaustive walks in `small_scope`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kernel import fence
from kernel.domain.task import Journal, JournalEntry, TaskLeaseLapsed
from kernel.domain.values import SealedBody
from scheduler import advance
from scheduler.advance import build, reports, requests
from scheduler.advance import state as run_state
from scheduler.advance.build import Pen
from scheduler.advance.state import Current, Phase
from scheduler.dispatch import state as dispatch_state
from scheduler.dispatch.state import DispatchState
from tests.support.simulator.runner import ModelRunner
from tests.support.simulator.simulation import Scenario, simulate
from tests.support.simulator.world import Violation

SEEDS_MAX = 400
LOST_AND_FOUND = (
    "pause_runner",
    "abandon_runner",
    "abandon_runner",
    "cut_runner",
    "kill_runner",
    "pause_owner",
    "replace_owner",
)
HARSH = Scenario(runs=3, runners=3, faults=30, logins=1, kinds=LOST_AND_FOUND, fault_rate=0.05)
ASKING = replace(HARSH, workflows=("asking",))
CANCELLED = Scenario(runs=3, runners=2, faults=25, cancels=0.9, workflows=("asking", "plain", "twice"))
REFUSED = replace(HARSH, workflows=("refused",), runs=2, kinds=("kill_runner",))
FULL = Scenario(runs=6, runners=3, concurrency=1, logins=6)
SCENARIOS = {"cancelled": CANCELLED, "refus": REFUSED, "answer": ASKING, "provider": FULL}
"""By a word of the mutation's name; `HARSH` for the others."""

Mutation = Callable[[pytest.MonkeyPatch], None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


async def always(*_: Any, **__: Any) -> bool:
    return True


# ---------------------------------------------------------------- runner and fence


@mutation
def the_fence_never_reads_lapses_and_settlings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fence, "RELEVANT_TYPES", frozenset({"towpath.task.assigned.v1"}))


@mutation
def a_repeated_task_is_taken_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ModelRunner, "_is_first", lambda *_: True)


@mutation
def an_unknown_step_is_repeated_blindly(patch: pytest.MonkeyPatch) -> None:
    once = ModelRunner._once

    def blind(self: ModelRunner, live: Any, path: str) -> Any:
        live.task = replace(live.task, journal=replace(live.task.journal, unknown=()))
        return once(self, live, path)

    patch.setattr(ModelRunner, "_once", blind)


@mutation
def a_refusal_is_not_recorded(patch: pytest.MonkeyPatch) -> None:
    async def silent(_self: ModelRunner, live: Any, path: str, ask: str) -> Any:
        live.rejections, live.refused, live.answer = live.rejections + 1, True, None
        live.answers.pop(ask, None)
        yield f"{path} was refused, and nobody hears of it"

    patch.setattr(ModelRunner, "_refusal", silent)


@mutation
def a_refused_code_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    refusal = ModelRunner._refusal

    async def stubborn(self: ModelRunner, live: Any, path: str, ask: str) -> Any:
        answers, answer = dict(live.answers), live.answer
        async for text in refusal(self, live, path, ask):
            yield text
        live.answers = answers or {ask: answer}

    patch.setattr(ModelRunner, "_refusal", stubborn)


# ---------------------------------------------------------------- advance


@mutation
def a_refused_step_stands_in_the_journal(patch: pytest.MonkeyPatch) -> None:
    def forgetful(**fields: Any) -> JournalEntry:
        return JournalEntry(**{**fields, "asks_again": ""})

    patch.setattr(run_state, "JournalEntry", forgetful)


@mutation
def the_token_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    def careless(pen: Pen, report: Any) -> str:
        run = pen.run
        if not isinstance(run, run_state.LiveRun) or run.current is None:
            return "run_ended"
        return "" if run.current.phase is Phase.RUNNING or type(report).__name__ == "TaskStarted" else "repeated"

    patch.setattr(reports, "why_ignored", careless)


@mutation
def reports_behind_a_lapse_count(patch: pytest.MonkeyPatch) -> None:
    why = reports.why_ignored

    def lenient(pen: Pen, report: Any) -> str:
        reason = why(pen, report)
        return "" if reason == "lapsed" and type(report).__name__ == "StepFinished" else reason

    patch.setattr(reports, "why_ignored", lenient)


@mutation
def the_journal_is_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(build, "Journal", lambda *_: Journal(SealedBody(), (), ()))


@mutation
def the_unknown_step_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(build, "Journal", lambda staged, entries, _: Journal(staged, entries, ()))


@mutation
def a_lapse_clears_what_is_unknown(patch: pytest.MonkeyPatch) -> None:
    evolve = run_state._evolve_attempt

    def forgetful(current: Current, event: Any) -> Current:
        return replace(evolve(current, event), unknown=())

    patch.setattr(run_state, "_evolve_attempt", forgetful)


@mutation
def the_tombstone_is_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(build, "TOMBSTONE_MS", 0)


@mutation
def a_live_run_is_started_again_by_a_repeated_request(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "_refused", lambda *_: False)


@mutation
def the_login_is_freed_at_a_lapse(patch: pytest.MonkeyPatch) -> None:
    lapsed = reports.on_lapsed

    def freeing(pen: Pen, event: TaskLeaseLapsed) -> None:
        lapsed(pen, event)
        if isinstance(pen.run, run_state.LiveRun) and pen.run.current is not None:
            pen.release_connection()

    patch.setattr(advance, "on_lapsed", freeing)


@mutation
def a_cancelled_run_ends_without_settling_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pen, "settle_without_word", lambda pen: (pen.settle(), pen.end_as_asked()))


@mutation
def a_cancelled_run_ends_as_soon_as_it_is_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pen, "stop_runner", lambda pen: pen.end_as_asked())


@mutation
def a_used_answer_travels_again(patch: pytest.MonkeyPatch) -> None:
    evolve = run_state._evolve_journal

    def hoarding(current: Current, event: Any) -> Current:
        return replace(evolve(current, event), answers=current.answers)

    patch.setattr(run_state, "_evolve_journal", hoarding)


@mutation
def facts_are_not_numbered_on(patch: pytest.MonkeyPatch) -> None:
    evolve = run_state.evolve

    def stuck(run: Any, decision: Any) -> Any:
        new = evolve(run, decision)
        if isinstance(new, run_state.LiveRun) and isinstance(run, run_state.LiveRun) and new.sequence == 5:
            return replace(new, sequence=4)
        return new

    patch.setattr(run_state, "evolve", stuck)
    patch.setattr(build, "evolve", stuck)
    patch.setattr(advance, "evolve", stuck)


@mutation
def the_next_workflow_does_not_wait_for_the_end_of_the_one_before(patch: pytest.MonkeyPatch) -> None:
    create = Pen.create_workflow_run

    def eager(pen: Pen, position: int) -> None:
        create(pen, position)
        if position + 1 < len(pen.live.planned.plan):
            create(pen, position + 1)

    patch.setattr(Pen, "create_workflow_run", eager)


# ---------------------------------------------------------------- dispatch


@mutation
def a_held_login_is_given_to_anyone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DispatchState, "_is_ready", _ready_whoever_holds)


def _ready_whoever_holds(state: DispatchState, task_id: str) -> bool:
    task = state.get(dispatch_state.task_key(task_id))
    return isinstance(task, dispatch_state.Task) and not task.incarnation


@mutation
def any_root_run_may_hold_the_login(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DispatchState, "holder", lambda *_: "")


@mutation
def an_assigned_task_stays_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    def forgetful(key: str, old: Any, event: Any) -> Any:
        new = evolve(key, old, event)
        if isinstance(new, dispatch_state.Task) and new.incarnation and not new.echoed:
            return old
        return new

    evolve = dispatch_state.evolve
    patch.setattr("scheduler.dispatch.evolve", forgetful)


# ---------------------------------------------------------------- the owning loop under the platform


@mutation
def records_of_a_former_owner_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("kernel.processor.ledger.is_effective", lambda *_: True)
    patch.setattr("kernel.processor.owner.names_foreign_claim", lambda *_: False)


@mutation
def a_full_provider_is_given_more(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DispatchState, "_has_room", lambda *_: True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(MUTATIONS))
async def test_the_simulator_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    scenario = next((its for word, its in SCENARIOS.items() if word in name), HARSH)
    for seed in range(SEEDS_MAX):
        try:
            await simulate(seed, scenario)
        except Violation:
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not notice that {name.replace('_', ' ')}")


def test_there_are_at_least_fifteen() -> None:
    assert len(MUTATIONS) >= 15
