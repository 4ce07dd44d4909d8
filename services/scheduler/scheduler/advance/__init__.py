"""`advance`: the life of a run. A pure decider keyed by root run; its owner has one partition of all its inputs.

It makes the ordered workflow runs, stops at the first failure, holds the timers, asks for tasks, issues the token of
each attempt and turns valid reports into facts.

    QUEUED -> ASSIGNED -> RUNNING <-> HELD -> PARKING -> PARKED -> QUEUED
       any of them -> FENCED (a lapse was read) -> QUEUED | PARKED | end
       any of them -> CLOSING (settled without the runner's word) -> QUEUED | end
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from kernel.domain.decider import Context, Decision, Derived, Input, State, TakenOver, Wake
from kernel.domain.task import Report, TaskAssigned, TaskLeaseLapsed, TaskRequested, TaskSettled
from kernel.log.topics import Topic
from scheduler.advance.build import Pen
from scheduler.advance.derive import SEQUENCED, derive
from scheduler.advance.reports import on_assigned, on_lapsed, on_report, on_settled
from scheduler.advance.requests import Request, on_request
from scheduler.advance.state import AdvanceState, LiveRun, RunValue, Tombstone, evolve
from scheduler.advance.waits import on_due
from scheduler.advance.watched import CHANGES_RUN
from scheduler.weight import PORTION_BYTES, weight_of

_REQUESTS: frozenset[type] = frozenset(get_args(Request))
_REPORTS: frozenset[type] = frozenset(get_args(Report))
WAKE_RUNS_MAX = 100


class Advance:
    """The decider."""

    name = "advance"
    ledger: str = Topic.RUN_LEDGER
    told: str = Topic.JOB_RUNS
    inputs: tuple[str, ...] = (Topic.RUN_REQUESTS, Topic.TASK_REPORTS)
    value_types: tuple[type, ...] = (LiveRun, Tombstone)

    def empty(self) -> AdvanceState:
        """Nothing seen."""
        return AdvanceState()

    def decide(self, state: State, cause: Input | Wake | TakenOver, context: Context) -> Sequence[Decision]:
        """Decide one input, or what is due."""
        assert isinstance(state, AdvanceState)
        match cause:
            case Input():
                return self._decide_input(state, cause, context)
            case Wake():
                return _decide_due(state, context)
            case TakenOver():
                return ()

    def _decide_input(self, state: AdvanceState, cause: Input, context: Context) -> Sequence[Decision]:
        event = cause.event
        pen = _pen(cause.key, state.get(cause.key), context, cause.correlation_id, cause.organization_id)
        kind = type(event)
        if kind in _REPORTS:
            on_report(pen, event)
        elif kind in _REQUESTS:
            on_request(pen, event)
        elif isinstance(event, TaskAssigned):
            on_assigned(pen, event)
        elif isinstance(event, TaskLeaseLapsed):
            on_lapsed(pen, event)
        elif isinstance(event, TaskSettled):
            on_settled(pen, event)
        return pen.decisions

    def touches(self, decision: Decision) -> Sequence[str]:
        """The run itself, for decisions that change it."""
        kind = type(decision.event)
        return (decision.key,) if kind in SEQUENCED or kind in CHANGES_RUN else ()

    def evolve(self, key: str, old: Any | None, decision: Decision) -> Any | None:
        """Fold one decision."""
        assert key == decision.key
        return evolve(old, decision)

    def derive(self, decision: Decision) -> Sequence[Derived]:
        """What other topics are told."""
        return derive(decision)


def _decide_due(state: AdvanceState, context: Context) -> list[Decision]:
    """What is due, in portions: the owner wakes the decider again at once for the rest."""
    decisions: list[Decision] = []
    weight = 0
    for key in list(state.due.due(context.now_ms, WAKE_RUNS_MAX)):
        pen = _pen(key, state.get(key), context, "")
        on_due(pen)
        decisions += pen.decisions
        weight += sum(weight_of(made.event) for made in pen.decisions if isinstance(made.event, TaskRequested))
        if weight >= PORTION_BYTES:
            break
    return decisions


def _pen(key: str, run: RunValue | None, context: Context, correlation_id: str, organization_id: str = "") -> Pen:
    if isinstance(run, LiveRun):
        organization_id = run.planned.organization_id
    elif isinstance(run, Tombstone):
        organization_id = run.organization_id
    return Pen(key, run, context, organization_id, correlation_id or key)
