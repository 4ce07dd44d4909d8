"""Who waits for what the log will say: a POST for its outcome, a live view for the next fact of its run.

They are told of a batch of facts when its rows are committed, so whoever is woken reads its own write. Who asks for a
run mostly follows it right away: its facts are kept for that moment, so that a live view need not read them. Where one
process does everything, the projector tells them itself. Of several processes each has its own waiting room, and
`api_gateway.announcing` stands between them and the projectors.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from api_gateway.projections.change import Fact
from kernel.log.topics import Topic
from kernel.sql.port import Statement

HELD_MAX = 100
"""Facts held for who follows a run."""
KEPT_SECONDS = 1.0
"""How long the facts of a run that was asked for here are held before anybody follows it."""
KEPT_MAX = 1000
"""Of so many runs."""


@dataclass(frozen=True, slots=True)
class Projected:
    """A batch of one partition of a public topic: its facts, from `first_offset` to before `next_offset`."""

    topic: Topic
    partition: int
    first_offset: int
    next_offset: int
    facts: Sequence[Fact]


class Watch(asyncio.Event):
    """Set whenever facts of a run were projected; clear it before looking.

    It also holds what was told since somebody looked, in order, some of it perhaps twice. Of one that is not looked at
    for long it forgets the oldest: the gap shows in the numbers of the facts, and the rows have them all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._facts: list[Fact] = []

    def told(self, fact: Fact) -> None:
        """Hold it for who looks."""
        if len(self._facts) >= HELD_MAX:
            self._facts.clear()
        self._facts.append(fact)
        self.set()

    def behind(self, after: int) -> list[Fact]:
        """The facts told since the last call that go on, without a gap, behind number `after`."""
        told, self._facts = self._facts, []
        found: list[Fact] = []
        for fact in told:
            if fact.sequence > after + 1:
                break
            if fact.sequence == after + 1:
                found.append(fact)
                after += 1
        return found


class Audience(Protocol):
    """Who hears of each batch that a projector commits."""

    def announcement(self, batch: Projected) -> Sequence[Statement]:
        """What goes into the transaction of the batch's rows, at its end."""
        ...

    def committed(self, batch: Projected) -> None:
        """The batch's rows are durable. Does not block, does not raise."""
        ...


def _only_one(_key: str) -> int:
    return 0


class Waiters:
    """The waiting room of one process. All calls on its event loop; nothing here blocks or raises.

    An `Audience` of its own for the process that does everything. `partition_of` tells in which partition of
    `job_runs` the facts of a root run stand; it matters to who asks `awaits` only.
    """

    def __init__(self, partition_of: Callable[[str], int] = _only_one) -> None:
        self._partition_of = partition_of
        self._outcomes: dict[str, list[asyncio.Future[Fact]]] = {}
        self._streams: defaultdict[str, set[Watch]] = defaultdict(set)
        self._kept: dict[str, Watch] = {}
        """Of runs that were asked for here, for who follows them next."""
        self._of_runs: Counter[int] = Counter()
        self._of_definitions = 0

    @contextmanager
    def outcome(self, request_id: str, root_run_id: str = "") -> Iterator[asyncio.Future[Fact]]:
        """A future of the first fact that names `request_id`; enter before the request is appended.

        `root_run_id`: the run that the request is about; empty when it is about a definition.
        """
        future: asyncio.Future[Fact] = asyncio.get_running_loop().create_future()
        waiting = self._outcomes.setdefault(request_id, [])
        waiting.append(future)
        try:
            with self._awaited(root_run_id), self._keeping(root_run_id):
                yield future
        finally:
            waiting.remove(future)
            if not waiting:
                self._outcomes.pop(request_id, None)

    @contextmanager
    def stream(self, root_run_id: str) -> Iterator[Watch]:
        """Told of the run's facts while it is open, and of those that were kept for who follows it first."""
        watch = self._kept.pop(root_run_id, None)
        if watch is None:
            watch = Watch()
            self._await(root_run_id)
        self._streams[root_run_id].add(watch)
        try:
            yield watch
        finally:
            self._streams[root_run_id].discard(watch)
            if not self._streams[root_run_id]:
                del self._streams[root_run_id]
            self._await_no_more(root_run_id)

    def told(self, facts: Sequence[Fact]) -> None:
        """These facts and their rows are durable."""
        for fact in facts:
            if self._outcomes:
                for future in self._outcomes.get(getattr(fact.event, "request_id", ""), ()):
                    if not future.done():
                        future.set_result(fact)
            for watch in self._streams.get(fact.key, ()):
                watch.told(fact)
            if fact.key in self._kept:
                self._kept[fact.key].told(fact)

    def announcement(self, batch: Projected) -> Sequence[Statement]:  # noqa: ARG002 (shaped by the port)
        """Nothing: whoever waits in the projector's own process is told without the database."""
        return ()

    def committed(self, batch: Projected) -> None:
        """Tell them."""
        self.told(batch.facts)

    @property
    def is_anyone(self) -> bool:
        """Whether anybody waits for anything."""
        return bool(self._of_definitions or self._of_runs)

    def awaits(self, topic: Topic, partition: int) -> bool:
        """Whether a fact of this partition may be waited for."""
        if topic is Topic.DEFINITIONS:
            return self._of_definitions > 0
        return partition in self._of_runs

    def awaits_fact(self, root_run_id: str, request_id: str) -> bool:
        """Whether somebody follows this run, or waits for the outcome of this request."""
        return root_run_id in self._streams or root_run_id in self._kept or request_id in self._outcomes

    @contextmanager
    def _keeping(self, root_run_id: str) -> Iterator[None]:
        """Keep what is told of a run from now on, and for a moment after: who asks for a run mostly follows it then."""
        if not root_run_id or root_run_id in self._kept or len(self._kept) >= KEPT_MAX:
            yield
            return
        watch = self._kept[root_run_id] = Watch()
        self._await(root_run_id)
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._keep_no_more, root_run_id, watch)

    def _keep_no_more(self, root_run_id: str, watch: Watch) -> None:
        if self._kept.get(root_run_id) is watch:
            del self._kept[root_run_id]
            self._await_no_more(root_run_id)

    @contextmanager
    def _awaited(self, root_run_id: str) -> Iterator[None]:
        self._await(root_run_id)
        try:
            yield
        finally:
            self._await_no_more(root_run_id)

    def _await(self, root_run_id: str) -> None:
        if root_run_id:
            self._of_runs[self._partition_of(root_run_id)] += 1
        else:
            self._of_definitions += 1

    def _await_no_more(self, root_run_id: str) -> None:
        if not root_run_id:
            self._of_definitions -= 1
            return
        partition = self._partition_of(root_run_id)
        self._of_runs[partition] -= 1
        if not self._of_runs[partition]:
            del self._of_runs[partition]
