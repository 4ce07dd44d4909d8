"""Who waits for what the log will say: a POST for its outcome, a live view for the next fact of its run.

They are told of a batch of facts when its rows are committed, so whoever is woken reads its own write. Where one
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


@dataclass(frozen=True, slots=True)
class Projected:
    """A batch of one partition of a public topic: its facts, from `first_offset` to before `next_offset`."""

    topic: Topic
    partition: int
    first_offset: int
    next_offset: int
    facts: Sequence[Fact]


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
        self._streams: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
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
            with self._awaited(root_run_id):
                yield future
        finally:
            waiting.remove(future)
            if not waiting:
                self._outcomes.pop(request_id, None)

    @contextmanager
    def stream(self, root_run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever facts of the run were projected; clear it before looking."""
        event = asyncio.Event()
        self._streams[root_run_id].add(event)
        try:
            with self._awaited(root_run_id):
                yield event
        finally:
            self._streams[root_run_id].discard(event)
            if not self._streams[root_run_id]:
                del self._streams[root_run_id]

    def told(self, facts: Sequence[Fact]) -> None:
        """These facts and their rows are durable."""
        for fact in facts:
            if self._outcomes:
                for future in self._outcomes.get(getattr(fact.event, "request_id", ""), ()):
                    if not future.done():
                        future.set_result(fact)
            if fact.key in self._streams:
                self.changed(fact.key)

    def changed(self, root_run_id: str) -> None:
        """Facts of this run and their rows are durable."""
        for event in self._streams.get(root_run_id, ()):
            event.set()

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

    def awaits_outcome(self, request_id: str) -> bool:
        """Whether somebody waits for the outcome of this request."""
        return request_id in self._outcomes

    @contextmanager
    def _awaited(self, root_run_id: str) -> Iterator[None]:
        if not root_run_id:
            self._of_definitions += 1
            try:
                yield
            finally:
                self._of_definitions -= 1
            return
        partition = self._partition_of(root_run_id)
        self._of_runs[partition] += 1
        try:
            yield
        finally:
            self._of_runs[partition] -= 1
            if not self._of_runs[partition]:
                del self._of_runs[partition]
