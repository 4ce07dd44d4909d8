"""Who gets which slot. Pure: the state is tried out and left as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kernel.domain.task import TaskAssigned
from kernel.domain.values import Pool
from scheduler.dispatch.state import DispatchState, Runner, Task, evolve, keys_of
from scheduler.timers import ECHO_MS, RUNNER_SILENT_MS
from scheduler.weight import PORTION_BYTES, weight_of

ASSIGN_MAX = 100
"""Assignments decided for one input; the heartbeats that follow bring the rest."""

SPARE_PART = 16
"""Of this many slots of a pool one is spare: the last ones go to organizations that have fewer slots than are spare.

So nobody waits for the long runs of somebody who came first. A pool of fewer slots has none to spare.
"""


@contextmanager
def _trial(state: DispatchState) -> Iterator[list[tuple[str, Any | None]]]:
    """Changes of the map inside are undone at the end, turns of organizations included."""
    undo: list[tuple[str, Any | None]] = []
    state.begin_trial()
    try:
        yield undo
    finally:
        for key, old in reversed(undo):
            state.put(key, old)
        state.end_trial()


def _apply(state: DispatchState, undo: list[tuple[str, Any | None]], event: Any) -> None:
    for key in keys_of(event):
        old = state.get(key)
        undo.append((key, old))
        state.put(key, evolve(key, old, event))


def assign(state: DispatchState, pool: Pool, now_ms: int, changes: Sequence[Any]) -> list[TaskAssigned]:
    """Assignments that fit after `changes`, in order."""
    assigned: list[TaskAssigned] = []
    weight = 0
    with _trial(state) as undo:
        for change in changes:
            _apply(state, undo, change)
        while len(assigned) < ASSIGN_MAX:
            runner, spare = _freest(state, pool, now_ms)
            task = state.next_task(pool, spare) if runner is not None else None
            if runner is None or task is None:
                break
            weight += weight_of(task.request)
            if assigned and weight > PORTION_BYTES:
                break
            event = _assignment(task, runner, now_ms)
            assigned.append(event)
            _apply(state, undo, event)
    return assigned


def _freest(state: DispatchState, pool: Pool, now_ms: int) -> tuple[Runner | None, int]:
    """The runner with most free slots; and, when only the pool's spare slots are left, how many those are.

    Nobody who is silent: whatever it was given would lapse, and it would look the freest all the while.
    """
    best, most, free, slots = None, 0, 0, 0
    for runner in state.runners(pool):
        if runner.dead or runner.draining or now_ms - runner.seen_ms > RUNNER_SILENT_MS:
            continue
        its = state.free_slots(runner)
        free, slots = free + max(its, 0), slots + runner.slots
        if its > most:
            best, most = runner, its
    spare = slots // SPARE_PART
    return best, spare if free <= spare else 0


def _assignment(task: Task, runner: Runner, now_ms: int) -> TaskAssigned:
    request = task.request
    return TaskAssigned(
        task_id=request.task_id,
        root_run_id=request.root_run_id,
        workflow_run_id=request.workflow_run_id,
        token=request.token,
        incarnation=runner.incarnation,
        inbox_partition=runner.inbox_partition,
        lease_until_ms=now_ms + ECHO_MS,
        request=request,
    )
