"""What `dispatch` remembers: tasks, runners, held logins; and the indexes that make matching cheap. Pure.

The queues are indexes of the map. Of the tasks that want the same login at most one stands in its organization's queue:
the oldest while the login is free, the holder's own otherwise. So a thousand runs of one customer block nobody.
Tasks of a provider that takes only so many at once stand in a lane of their own, which is passed over while it is full.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kernel.building import quickly_made, replace
from kernel.domain.ids import Incarnation, TaskId
from kernel.domain.task import (
    ConnectionFreed,
    LeasesExtended,
    RunnerGone,
    RunnerSeen,
    TaskAssigned,
    TaskDropped,
    TaskLeaseLapsed,
    TaskQueued,
    TaskRequested,
)
from kernel.domain.values import Pool
from scheduler.timers import ECHO_MS, LEASE_MS, RUNNER_FORGET_MS, DueIndex

GRACE_KEY = "grace"


@quickly_made
@dataclass(frozen=True, slots=True)
class Task:
    """A task that is queued (no incarnation) or assigned."""

    request: TaskRequested
    incarnation: Incarnation = Incarnation("")
    lease_until_ms: int = 0
    echoed: bool = False
    waiting: bool = False
    """It holds a page for a person and takes no slot."""


@dataclass(frozen=True, slots=True)
class Runner:
    """One life of one runner, for one pool."""

    incarnation: Incarnation
    host_id: str
    pool: Pool
    inbox_partition: int
    slots: int
    draining: bool
    seen_ms: int
    dead: bool = False


@dataclass(frozen=True, slots=True)
class KeyHeld:
    """A login is held by a root run."""

    root_run_id: str


@dataclass(frozen=True, slots=True)
class Grace:
    """No lease lapses before this: a takeover's full lease of grace."""

    until_ms: int


def task_key(task_id: str) -> str:
    """Key of a task."""
    return f"task/{task_id}"


def runner_key(incarnation: str, pool: Pool) -> str:
    """Key of a runner in one pool."""
    return f"runner/{pool}/{incarnation}"


def login_key(connection_id: str) -> str:
    """Key of a login."""
    return f"login/{connection_id}"


def keys_of(event: Any) -> Sequence[str]:
    """Which keys a decision changes."""
    match event:
        case TaskQueued(request=request):
            return (task_key(request.task_id),)
        case TaskAssigned(request=request):
            connection = request.workflow.connection_id
            return (task_key(request.task_id), login_key(connection)) if connection else (task_key(request.task_id),)
        case TaskDropped() | TaskLeaseLapsed():
            return (task_key(event.task_id),)
        case RunnerSeen():
            return (runner_key(event.incarnation, event.pool), *(task_key(id_) for id_ in event.held))
        case RunnerGone():
            return (runner_key(event.incarnation, event.pool),)
        case ConnectionFreed():
            return (login_key(event.connection_id),)
        case LeasesExtended():
            return (GRACE_KEY,)
        case _:
            return ()


def evolve(key: str, old: Any | None, event: Any) -> Any | None:
    """The value of `key` after the decision."""
    match event:
        case TaskQueued(request=request):
            return Task(request)
        case TaskAssigned():
            if key.startswith("login/"):
                return KeyHeld(event.root_run_id)
            return Task(event.request, event.incarnation, event.lease_until_ms)
        case TaskDropped() | TaskLeaseLapsed() | ConnectionFreed():
            return None
        case RunnerSeen():
            return _evolve_seen(key, old, event)
        case RunnerGone():
            return None if not isinstance(old, Runner) or old.dead else replace(old, dead=True)
        case LeasesExtended():
            return Grace(event.until_ms)
        case _:
            return old


def _evolve_seen(key: str, old: Any | None, seen: RunnerSeen) -> Any | None:
    if key.startswith("runner/"):
        return Runner(
            seen.incarnation, seen.host_id, seen.pool, seen.inbox_partition, seen.slots, seen.draining, seen.seen_ms
        )
    if not isinstance(old, Task):
        return old
    return replace(
        old, lease_until_ms=seen.seen_ms + LEASE_MS, echoed=True, waiting=old.request.task_id in seen.waiting
    )


ORGANIZATIONS_REMEMBERED_MAX = 1000
"""Whose last turn is known, in one pool."""

Entry = tuple[int, int, str]
"""(-priority, requested, task id): what a queue is ordered by."""


Lane = tuple[Pool, str, str]
"""Pool, organization, provider: what works there at once is counted."""


class Queue:
    """Queued tasks of one pool: organizations are served in turn, each with a heap per limited provider and one."""

    def __init__(self) -> None:
        self.by_organization: dict[str, dict[str, list[Entry]]] = {}
        """By provider below the organization; those that no limit concerns stand under the empty one."""
        self.served: dict[str, int] = {}
        self.turn = 0
        self._trial: list[tuple[str, int | None]] | None = None

    def serve(self, organization: str) -> None:
        """It is this organization's turn."""
        self.turn += 1
        if self._trial is not None:
            self._trial.append((organization, self.served.get(organization)))
        self.served[organization] = self.turn
        if len(self.served) > ORGANIZATIONS_REMEMBERED_MAX and self._trial is None:
            # Whoever was not served for so long stands first in any case.
            newest = sorted(self.served.items(), key=lambda turn: turn[1])[ORGANIZATIONS_REMEMBERED_MAX // 2 :]
            self.served = dict(newest)

    def begin_trial(self) -> None:
        """Note the turns from here on."""
        self._trial = []

    def end_trial(self) -> None:
        """Take them back."""
        for organization, turn in reversed(self._trial or ()):
            self.turn -= 1
            if turn is None:
                del self.served[organization]
            else:
                self.served[organization] = turn
        self._trial = None


class DispatchState:
    """The keyed map of a partition, with its queues."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self.due = DueIndex()
        self.queues: dict[Pool, Queue] = {}
        self.assigned: dict[tuple[str, Pool], set[TaskId]] = {}
        self._wanting: dict[str, list[Entry]] = {}
        self._offered: dict[str, str] = {}
        self._runner_keys: dict[Pool, set[str]] = {}
        self._queued_of_root: dict[tuple[str, str], TaskId] = {}
        self._working: dict[Lane, int] = {}
        self._busy: dict[tuple[Pool, str], int] = {}
        self._occupied: dict[tuple[str, Pool], int] = {}
        self._is_trial = False

    # ------------------------------------------------------------ the map

    def get(self, key: str) -> Any | None:
        """The value of `key`."""
        return self._values.get(key)

    def put(self, key: str, value: Any | None) -> None:
        """Set or remove, indexes included."""
        old = self._values.get(key)
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value
        newest: Any = value if value is not None else old
        kind = type(newest)
        if kind is Task:
            self._index_task(old, value)
            self.due.put(key, self.lease_until(value) if value is not None and value.incarnation else None)
        elif kind is Runner:
            self._index_runner(key, newest.pool, present=value is not None)
            self.due.put(key, value.seen_ms + RUNNER_FORGET_MS if value is not None else None)
        elif kind is KeyHeld:
            self._offer(key.removeprefix("login/"))
        elif kind is Grace:
            self._index_grace()

    def items(self) -> Iterator[tuple[str, Any]]:
        """Everything."""
        return iter(self._values.items())

    def due_ms(self) -> int | None:
        """The earliest lease or silence to look at."""
        return self.due.earliest()

    # ------------------------------------------------------------ questions

    def lease_until(self, task: Task) -> int:
        """When the lease of an assigned task is over; grace included, where it was assigned before the takeover."""
        grace = self._values.get(GRACE_KEY)
        if not isinstance(grace, Grace):
            return task.lease_until_ms
        if not task.echoed and task.lease_until_ms - ECHO_MS > grace.until_ms - LEASE_MS:
            return task.lease_until_ms
        return max(task.lease_until_ms, grace.until_ms)

    def holder(self, connection_id: str) -> str:
        """The root run that holds a login; empty when free."""
        held = self._values.get(login_key(connection_id))
        return held.root_run_id if isinstance(held, KeyHeld) else ""

    def runners(self, pool: Pool) -> Iterator[Runner]:
        """All runners of a pool, dead ones included."""
        for key in sorted(self._runner_keys.get(pool, ())):
            yield self._values[key]

    def is_dead(self, incarnation: str, pool: Pool) -> bool:
        """Whether this incarnation was proven dead."""
        runner = self._values.get(runner_key(incarnation, pool))
        return isinstance(runner, Runner) and runner.dead

    def tasks_of(self, incarnation: str, pool: Pool) -> list[Task]:
        """What a runner has, in a stable order."""
        return [self._values[task_key(id_)] for id_ in sorted(self.assigned.get((incarnation, pool), ()))]

    def free_slots(self, runner: Runner) -> int:
        """Working slots that nothing occupies; tasks that wait for a person take none."""
        if runner.dead or runner.draining:
            return 0
        return runner.slots - self._occupied.get((runner.incarnation, runner.pool), 0)

    def working(self, pool: Pool, organization_id: str, provider: str) -> int:
        """Assigned tasks of this organization at this provider, those that wait for a person not counted."""
        return self._working.get((pool, organization_id, provider), 0)

    def next_task(self, pool: Pool, spare: int = 0) -> Task | None:
        """Who is served next: highest priority, then the organization that has the fewest slots, then the one that
        waited longest for its turn, then age. So long runs of one leave as many slots to another as short ones do.
        With `spare`, only organizations that have fewer slots than that.

        Linear in the organizations and their limited providers that have something queued, not in their tasks.
        """
        queue = self.queues.get(pool)
        if queue is None:
            return None
        best: tuple[int, int, int, int, str] | None = None
        for organization in list(queue.by_organization):
            busy = self._busy.get((pool, organization), 0)
            if spare and busy >= spare:
                continue
            head = self._head(queue, organization)
            if head is not None:
                rank = (head[0], busy, queue.served.get(organization, 0), head[1], head[2])
                best = rank if best is None or rank < best else best
        return self._values[task_key(best[4])] if best is not None else None

    # ------------------------------------------------------------ trying out

    def begin_trial(self) -> None:
        """What is put from here on will be put back, before `end_trial`; so are turns of organizations then."""
        self._is_trial = True
        for queue in self.queues.values():
            queue.begin_trial()

    def end_trial(self) -> None:
        """As before `begin_trial`."""
        self._is_trial = False
        for queue in self.queues.values():
            queue.end_trial()

    # ------------------------------------------------------------ indexes

    def _queue(self, pool: Pool) -> Queue:
        queue = self.queues.get(pool)
        if queue is None:
            queue = self.queues[pool] = Queue()
            if self._is_trial:
                queue.begin_trial()
        return queue

    def _head(self, queue: Queue, organization: str) -> Entry | None:
        lanes = queue.by_organization[organization]
        best: Entry | None = None
        for provider in list(lanes):
            heap = lanes[provider]
            while heap and not self._is_ready(heap[0][2]):
                heapq.heappop(heap)
            if not heap:
                del lanes[provider]
            elif (best is None or heap[0] < best) and self._has_room(self._values[task_key(heap[0][2])].request):
                best = heap[0]
        if not lanes:
            del queue.by_organization[organization]
        return best

    def _has_room(self, request: TaskRequested) -> bool:
        """Whether its provider takes one more; each task says the limit that it was planned under."""
        limit = request.workflow.concurrency
        return not limit or self.working(request.pool, request.organization_id, request.workflow.provider) < limit

    def _is_ready(self, task_id: str) -> bool:
        task = self._values.get(task_key(task_id))
        if not isinstance(task, Task) or task.incarnation:
            return False
        connection = task.request.workflow.connection_id
        return not connection or self._offered.get(connection) == task_id

    def _index_task(self, old: Task | None, new: Task | None) -> None:
        task = new or old
        assert task is not None
        request = task.request
        self._count(request, _is_working(new) - _is_working(old))
        if old is not None and old.incarnation:
            held = self.assigned[old.incarnation, request.pool]
            held.discard(request.task_id)
            if not held:
                del self.assigned[old.incarnation, request.pool]
            self._occupy(old, -1)
        if new is not None and new.incarnation:
            self.assigned.setdefault((new.incarnation, request.pool), set()).add(request.task_id)
            self._occupy(new, 1)
            if old is None or not old.incarnation:
                self._queue(request.pool).serve(request.organization_id)
        connection = request.workflow.connection_id
        queued = new is not None and not new.incarnation
        if not connection:
            if queued:
                self._enqueue(request)
            return
        root = (connection, request.root_run_id)
        if queued:
            self._queued_of_root[root] = request.task_id
            heapq.heappush(self._wanting.setdefault(connection, []), _entry(request))
        elif self._queued_of_root.get(root) == request.task_id:
            del self._queued_of_root[root]
        self._offer(connection)

    def _count(self, request: TaskRequested, change: int) -> None:
        if change:
            lane = (request.pool, request.organization_id, request.workflow.provider)
            self._working[lane] = self._working.get(lane, 0) + change
            if not self._working[lane]:
                del self._working[lane]
            owner = (request.pool, request.organization_id)
            self._busy[owner] = self._busy.get(owner, 0) + change
            if not self._busy[owner]:
                del self._busy[owner]

    def _occupy(self, task: Task, change: int) -> None:
        """Count the slot that an assigned task takes, unless it waits for a person."""
        if not task.waiting:
            runner = (task.incarnation, task.request.pool)
            self._occupied[runner] = self._occupied.get(runner, 0) + change
            if not self._occupied[runner]:
                del self._occupied[runner]

    def _enqueue(self, request: TaskRequested) -> None:
        lanes = self._queue(request.pool).by_organization.setdefault(request.organization_id, {})
        provider = request.workflow.provider if request.workflow.concurrency else ""
        heapq.heappush(lanes.setdefault(provider, []), _entry(request))

    def _offer(self, connection: str) -> None:
        """Put the one task that may use this login into its organization's queue."""
        offered = self._choose(connection)
        if offered is None:
            self._offered.pop(connection, None)
        elif self._offered.get(connection) != offered:
            self._offered[connection] = offered
            self._enqueue(self._values[task_key(offered)].request)

    def _choose(self, connection: str) -> str | None:
        holder = self.holder(connection)
        if holder:
            return self._queued_of_root.get((connection, holder))
        heap = self._wanting.get(connection, [])
        while heap:
            task = self._values.get(task_key(heap[0][2]))
            if isinstance(task, Task) and not task.incarnation:
                return heap[0][2]
            heapq.heappop(heap)
        self._wanting.pop(connection, None)
        return None

    def _index_runner(self, key: str, pool: Pool, *, present: bool) -> None:
        keys = self._runner_keys.setdefault(pool, set())
        if present:
            keys.add(key)
        else:
            keys.discard(key)

    def _index_grace(self) -> None:
        for ids in self.assigned.values():
            for id_ in ids:
                task = self._values[task_key(id_)]
                self.due.put(task_key(id_), self.lease_until(task))


def _is_working(task: Task | None) -> bool:
    return task is not None and bool(task.incarnation) and not task.waiting


def _entry(request: TaskRequested) -> Entry:
    return (-request.priority, request.requested_ms, request.task_id)
