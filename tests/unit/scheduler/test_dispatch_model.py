"""`dispatch` against a naive model: the same inputs, matched by looking through everything, give the same assignments.

The model keeps plain lists and scans them. It knows the rules and none of the indexes, and it is never undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.domain.ids import ConnectionId, OrganizationId, ProviderSlug, TaskId, WorkflowRunId
from kernel.domain.task import (
    ConnectionReleased,
    HeldTask,
    Journal,
    RunnerDied,
    TaskAssigned,
    TaskLeaseLapsed,
    TaskRequested,
    TaskSettled,
    TaskWithdrawn,
)
from kernel.domain.values import Pool, SealedBody, Token
from scheduler.dispatch import Dispatch, match
from scheduler.dispatch.state import DispatchState
from tests.support.deciding import Bench
from tests.support.runs import SUBJECT, died, heartbeat, planned

KEY = "browser/0"
ROOTS = [f"r{number}" for number in range(8)]
ORGANIZATIONS = ["org-1", "org-2", "org-3"]
LOGINS = ["", "", "l1", "l2"]
LIMITS = {"": 0, "bank": 1, "shop": 2}
RUNNERS = ["runner-1", "runner-2", "runner-3"]


@dataclass
class Queued:
    """One task of the model."""

    request: TaskRequested
    runner: str = ""
    waiting: bool = False


@dataclass
class Model:
    """All that matching needs to know, in plain lists."""

    tasks: dict[str, Queued] = field(default_factory=dict)
    slots: dict[tuple[Pool, str], int] = field(default_factory=dict)
    logins: dict[str, str] = field(default_factory=dict)
    served: dict[tuple[Pool, str], int] = field(default_factory=dict)
    turns: int = 0
    dead: set[tuple[Pool, str]] = field(default_factory=set)

    def assign(self, pool: Pool) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while (runner := self._freest(pool)) and (task := self._next(pool)):
            task.runner, request = runner, task.request
            if request.workflow.connection_id:
                self.logins[request.workflow.connection_id] = request.root_run_id
            self.turns += 1
            self.served[pool, request.organization_id] = self.turns
            found.append((request.task_id, runner))
        return found

    def _free(self, pool: Pool) -> dict[str, int]:
        return {
            name: slots - sum(t.runner == name and not t.waiting for t in self.tasks.values() if t.request.pool is pool)
            for (of, name), slots in self.slots.items()
            if of is pool
        }

    def _freest(self, pool: Pool) -> str:
        free = self._free(pool)
        best = max(free.values(), default=0)
        return min((name for name, count in free.items() if count == best), default="") if best > 0 else ""

    def _next(self, pool: Pool) -> Queued | None:
        ready = [t for t in self.tasks.values() if t.request.pool is pool and not t.runner and self._may(t)]
        spare = self._spare(pool)
        return min((t for t in ready if not spare or self._busy(t) < spare), key=self._rank, default=None)

    def _spare(self, pool: Pool) -> int:
        """How many slots are spare, when no others are left."""
        spare = sum(count for (of, _), count in self.slots.items() if of is pool) // match.SPARE_PART
        return spare if sum(max(count, 0) for count in self._free(pool).values()) <= spare else 0

    def _busy(self, task: Queued) -> int:
        owner = (task.request.pool, task.request.organization_id)
        working = (t.request for t in self.tasks.values() if t.runner and not t.waiting)
        return sum((of.pool, of.organization_id) == owner for of in working)

    def _may(self, task: Queued) -> bool:
        """Its provider takes one more; its login is free and it the oldest that wants it, or its own run holds it."""
        if not self._has_room(task.request):
            return False
        login = task.request.workflow.connection_id
        holder = self.logins.get(login)
        if not login or holder == task.request.root_run_id:
            return True
        rivals = [t for t in self.tasks.values() if t.request.workflow.connection_id == login and not t.runner]
        return holder is None and task is min(rivals, key=lambda t: _age(t.request))

    def _has_room(self, request: TaskRequested) -> bool:
        def place(of: TaskRequested) -> tuple[str, str, str]:
            return (of.pool, of.organization_id, of.workflow.provider)

        busy = [t for t in self.tasks.values() if t.runner and not t.waiting and place(t.request) == place(request)]
        limit = request.workflow.concurrency
        return not limit or len(busy) < limit

    def _rank(self, task: Queued) -> tuple[int, int, int, int, str]:
        request = task.request
        served = self.served.get((request.pool, request.organization_id), 0)
        return (-request.priority, self._busy(task), served, request.requested_ms, request.task_id)


def _age(request: TaskRequested) -> tuple[int, int, str]:
    return (-request.priority, request.requested_ms, request.task_id)


class Play:
    """Moves the bench and the model alike, and compares after every move."""

    def __init__(self) -> None:
        self.bench = Bench(Dispatch())
        self.model = Model()
        self.attempts: dict[str, int] = {}
        self.clock = 0

    def move(self, what: str, a: int, b: int) -> None:
        self.clock += 1
        event = getattr(self, what)(a, b)
        if event is None:
            return
        events = self.bench.when(KEY, event)
        self.compare(events, event)
        self.check_rebuilt()

    def compare(self, events: list[Any], event: Any) -> None:
        assigned = [(e.task_id, e.incarnation) for e in events if isinstance(e, TaskAssigned)]
        for lapse in [e for e in events if isinstance(e, TaskLeaseLapsed)]:
            del self.model.tasks[lapse.task_id]
        pool = getattr(event, "pool", Pool.BROWSER)
        moves = not isinstance(event, TaskWithdrawn | RunnerDied) and not any(
            isinstance(e, TaskLeaseLapsed) for e in events
        )
        assert assigned == (self.model.assign(pool) if moves and events else [])

    def check_rebuilt(self) -> None:
        """A state restored from the map offers the same logins and has the same slots, whatever the order."""
        live = self.bench.state
        assert isinstance(live, DispatchState)
        for items in (list(live.items()), list(reversed(list(live.items())))):
            restored = DispatchState()
            for key, value in items:
                restored.put(key, value)
            assert dict(restored.items()) == dict(live.items())
            assert restored.due_ms() == live.due_ms()
            for pool in Pool:
                assert [*restored.runners(pool)] == [*live.runners(pool)]
                assert [restored.free_slots(r) for r in restored.runners(pool)] == [
                    live.free_slots(r) for r in live.runners(pool)
                ]
                assert ready_of(restored, pool) == ready_of(live, pool)

    # ---------------------------------------------------------------- moves

    def request(self, a: int, b: int) -> TaskRequested | None:
        root = ROOTS[a % len(ROOTS)]
        if any(task.request.root_run_id == root for task in self.model.tasks.values()):
            return None
        self.attempts[root] = attempt = self.attempts.get(root, 0) + 1
        pool = Pool.LIGHT if a % 3 == 0 else Pool.BROWSER
        provider = list(LIMITS)[(a + b) % 3]
        request = TaskRequested(
            task_id=TaskId(f"{root}/{attempt}"),
            root_run_id=root,
            workflow_run_id=WorkflowRunId(root),
            organization_id=OrganizationId(ORGANIZATIONS[a % 3]),
            subject_id=SUBJECT,
            token=Token(attempt, f"n-{root}-{attempt}"),
            pool=pool,
            priority=b % 2,
            workflow=replace(
                planned(root, 0, connection="" if pool is Pool.LIGHT else LOGINS[a % 4], pool=pool),
                provider=ProviderSlug(provider),
                concurrency=LIMITS[provider],
            ),
            journal=Journal(SealedBody(), (), ()),
            answers=(),
            deadline_ms=0,
            requested_ms=self.clock // 2,
        )
        self.model.tasks[request.task_id] = Queued(request)
        return request

    def settle(self, a: int, b: int) -> TaskSettled | None:
        task = self._pick(a)
        if task is None:
            return None
        request = task.request
        del self.model.tasks[request.task_id]
        return TaskSettled(request.task_id, request.root_run_id, request.token, request.pool)

    def withdraw(self, a: int, b: int) -> TaskWithdrawn | None:
        task = self._pick(a)
        return (
            None if task is None else TaskWithdrawn(task.request.task_id, task.request.root_run_id, task.request.pool)
        )

    def release(self, a: int, b: int) -> ConnectionReleased:
        login, root = LOGINS[2 + a % 2], ROOTS[b % len(ROOTS)]
        if self.model.logins.get(login) == root:
            del self.model.logins[login]
        return ConnectionReleased(ConnectionId(login), root, Pool.BROWSER)

    def beat(self, a: int, b: int) -> Any:
        name, pool = RUNNERS[a % 3], Pool.LIGHT if b % 4 == 0 else Pool.BROWSER
        if (pool, name) in self.model.dead:
            return heartbeat(name, pool=pool, slots=5)
        held = tuple(
            HeldTask(task.request.task_id, task.request.token, waiting=(number + b) % 3 == 0)
            for number, task in enumerate(self.model.tasks.values())
            if task.runner == name and task.request.pool is pool
        )
        for named in held:
            self.model.tasks[named.task_id].waiting = named.waiting
        draining = b == 7
        self.model.slots[pool, name] = 0 if draining else 1 + b % 3
        return heartbeat(name, pool=pool, slots=1 + b % 3, held=held, draining=draining)

    def die(self, a: int, b: int) -> Any:
        name, pool = RUNNERS[a % 3], Pool.LIGHT if b % 4 == 0 else Pool.BROWSER
        if self.model.slots.pop((pool, name), None) is not None:
            self.model.dead.add((pool, name))
        return died(name, pool=pool)

    def _pick(self, a: int) -> Queued | None:
        tasks = list(self.model.tasks.values())
        return tasks[a % len(tasks)] if tasks else None


def ready_of(state: DispatchState, pool: Pool) -> set[str]:
    """Every task that could be next, found by taking each in turn out of a copy."""
    copy = DispatchState()
    for key, value in state.items():
        copy.put(key, value)
    found: set[str] = set()
    while (task := copy.next_task(pool)) is not None:
        found.add(task.request.task_id)
        copy.put(f"task/{task.request.task_id}", None)
    return found


MOVES = ["request", "request", "request", "settle", "withdraw", "release", "beat", "beat", "beat", "beat", "die"]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 23), st.integers(0, 7)), max_size=60),
    st.sampled_from([2, match.SPARE_PART]),
)
def test_matching_is_what_looking_through_everything_would_find(
    script: list[tuple[str, int, int]], spare_part: int
) -> None:
    play = Play()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(match, "SPARE_PART", spare_part)
        for what, a, b in script:
            play.move(what, a, b)
