"""`dispatch`: tasks, slots, leases, fairness. A pure decider keyed by pool and shard.

It matches requested tasks with free slots: priority, then the organization with the fewest slots, then turns, then age;
one live session per login, and no more at once than an organization's provider takes. It lets a lease lapse when nobody
renewed it; never is the ownership of a task a consumer group's.

    requested -> queued -> assigned -> settled (by advance)
                 queued -> withdrawn               assigned -> lapsed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kernel.domain.decider import Context, Decision, Derived, Input, State, TakenOver, Wake
from kernel.domain.task import (
    ConnectionFreed,
    ConnectionReleased,
    LeasesExtended,
    RunnerDied,
    RunnerGone,
    RunnerHeartbeat,
    RunnerSeen,
    TaskDropped,
    TaskLeaseLapsed,
    TaskQueued,
    TaskRequested,
    TaskSettled,
    TaskWithdrawn,
)
from kernel.domain.values import Pool
from kernel.log.topics import Topic
from scheduler.dispatch.derive import derive
from scheduler.dispatch.match import assign
from scheduler.dispatch.state import (
    DispatchState,
    Grace,
    KeyHeld,
    Runner,
    Task,
    evolve,
    keys_of,
    runner_key,
    task_key,
)
from scheduler.timers import LEASE_MS, RUNNER_FORGET_MS

WAKE_MAX = 200


class Dispatch:
    """The decider."""

    name = "dispatch"
    ledger: str = Topic.DISPATCH_LEDGER
    told: str = Topic.TASK_REPORTS
    inputs: tuple[str, ...] = (Topic.DISPATCH,)
    value_types: tuple[type, ...] = (Task, Runner, KeyHeld, Grace)

    def empty(self) -> DispatchState:
        """Nothing seen."""
        return DispatchState()

    def decide(self, state: State, cause: Input | Wake | TakenOver, context: Context) -> Sequence[Decision]:
        """Decide one input, or what is due."""
        assert isinstance(state, DispatchState)
        match cause:
            case Input(event=event):
                return list(_decide_input(state, event, context))
            case Wake():
                return list(_decide_due(state, context.now_ms))
            case TakenOver():
                return (
                    [_decision(LeasesExtended(context.now_ms + LEASE_MS), "grace")]
                    if any(state.assigned.values())
                    else []
                )

    def touches(self, decision: Decision) -> Sequence[str]:
        """Keys of the tasks, runners and logins that change."""
        return keys_of(decision.event)

    def evolve(self, key: str, old: Any | None, decision: Decision) -> Any | None:
        """Fold one decision into one key."""
        return evolve(key, old, decision.event)

    def derive(self, decision: Decision) -> Sequence[Derived]:
        """What runners and `advance` are told."""
        return derive(decision)


def _decision(event: Any, key: str, organization_id: str = "", subject: str = "", correlation_id: str = "") -> Decision:
    return Decision(event, key, 0, subject or key, organization_id, correlation_id)


def _of_task(event: Any, request: TaskRequested) -> Decision:
    return _decision(event, request.root_run_id, request.organization_id, request.workflow_run_id, request.root_run_id)


def _decide_input(state: DispatchState, event: Any, context: Context) -> Iterator[Decision]:
    match event:
        case TaskRequested():
            yield from _on_requested(state, event, context)
        case TaskWithdrawn():
            yield from _on_withdrawn(state, event)
        case TaskSettled():
            yield from _on_settled(state, event, context)
        case ConnectionReleased():
            yield from _on_released(state, event, context)
        case RunnerHeartbeat():
            yield from _on_heartbeat(state, event, context)
        case RunnerDied():
            yield from _on_died(state, event)


def _assignments(state: DispatchState, pool: Pool, context: Context, change: Decision | None = None) -> list[Decision]:
    """Assignments that fit now, as if `change` had been folded already."""
    changes = () if change is None else (change.event,)
    return [_of_task(event, event.request) for event in assign(state, pool, context.now_ms, changes)]


def _on_requested(state: DispatchState, request: TaskRequested, context: Context) -> Iterator[Decision]:
    if state.get(task_key(request.task_id)) is not None:
        return
    queued = _of_task(TaskQueued(request), request)
    yield queued
    yield from _assignments(state, request.pool, context, queued)


def _on_withdrawn(state: DispatchState, withdrawn: TaskWithdrawn) -> Iterator[Decision]:
    """A queued task is dropped for good, which proves to `advance` that nobody has it."""
    task = state.get(task_key(withdrawn.task_id))
    if isinstance(task, Task) and not task.incarnation:
        request = task.request
        yield _of_task(_lapse(request, "withdrawn"), request)


def _on_settled(state: DispatchState, settled: TaskSettled, context: Context) -> Iterator[Decision]:
    task = state.get(task_key(settled.task_id))
    if isinstance(task, Task):
        dropped = _of_task(TaskDropped(settled.task_id, task.request.pool), task.request)
        yield dropped
        yield from _assignments(state, task.request.pool, context, dropped)


def _on_released(state: DispatchState, released: ConnectionReleased, context: Context) -> Iterator[Decision]:
    if state.holder(released.connection_id) == released.root_run_id:
        freed = _decision(ConnectionFreed(released.connection_id, released.root_run_id), released.root_run_id)
        yield freed
        yield from _assignments(state, released.pool, context, freed)


def _on_heartbeat(state: DispatchState, beat: RunnerHeartbeat, context: Context) -> Iterator[Decision]:
    if state.is_dead(beat.incarnation, beat.pool):
        return
    held = [
        named
        for named in beat.held
        if isinstance(task := state.get(task_key(named.task_id)), Task)
        and task.incarnation == beat.incarnation
        and task.request.token == named.token
    ]
    seen = _decision(
        RunnerSeen(
            incarnation=beat.incarnation,
            host_id=beat.host_id,
            pool=beat.pool,
            inbox_partition=beat.inbox_partition,
            slots=beat.slots,
            draining=beat.draining,
            waiting=tuple(named.task_id for named in held if named.waiting),
            held=tuple(named.task_id for named in held),
            seen_ms=context.now_ms,
        ),
        beat.incarnation,
    )
    yield seen
    yield from _assignments(state, beat.pool, context, seen)


def _on_died(state: DispatchState, died: RunnerDied) -> Iterator[Decision]:
    """Proof of death: its tasks lapse at once."""
    for runner in list(state.runners(died.pool)):
        if died.incarnation:
            dead = runner.incarnation == died.incarnation
        else:
            dead = runner.host_id == died.host_id and runner.incarnation != died.survivor
        if dead and not runner.dead:
            yield from _lapse_all(state, runner, "died")
            yield _decision(RunnerGone(runner.incarnation, runner.pool), runner.incarnation)


def _lapse_all(state: DispatchState, runner: Runner, proof: str) -> Iterator[Decision]:
    for task in state.tasks_of(runner.incarnation, runner.pool):
        yield _of_task(_lapse(task.request, proof), task.request)


def _lapse(request: TaskRequested, proof: str) -> TaskLeaseLapsed:
    return TaskLeaseLapsed(request.task_id, request.root_run_id, request.workflow_run_id, request.token, proof)


def _decide_due(state: DispatchState, now_ms: int) -> Iterator[Decision]:
    """Leases that nobody renewed, and runners that nobody heard of. The inputs were read to their end before."""
    for key in list(state.due.due(now_ms, WAKE_MAX)):
        value = state.get(key)
        if isinstance(value, Task) and state.lease_until(value) <= now_ms:
            yield _of_task(_lapse(value.request, "expired" if value.echoed else "not_echoed"), value.request)
        elif isinstance(value, Runner) and value.seen_ms + RUNNER_FORGET_MS <= now_ms:
            yield from _lapse_all(state, value, "expired")
            yield _decision(RunnerGone(value.incarnation, value.pool), runner_key(value.incarnation, value.pool))
