"""Who waits for what the log will say: a POST for its outcome, a live view for the next fact of its run.

The projector tells each batch after its rows are committed, so whoever is woken reads its own write.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from api_gateway.projections.change import Fact


class Waiters:
    """The waiting room of one process. All calls on its event loop; nothing here blocks or raises."""

    def __init__(self) -> None:
        self._outcomes: dict[str, list[asyncio.Future[Fact]]] = {}
        self._streams: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def outcome(self, request_id: str) -> Iterator[asyncio.Future[Fact]]:
        """A future of the first fact that names `request_id`; enter before the request is appended."""
        future: asyncio.Future[Fact] = asyncio.get_running_loop().create_future()
        waiting = self._outcomes.setdefault(request_id, [])
        waiting.append(future)
        try:
            yield future
        finally:
            waiting.remove(future)
            if not waiting:
                self._outcomes.pop(request_id, None)

    @contextmanager
    def stream(self, key: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever facts of `key` were projected; clear it before looking."""
        event = asyncio.Event()
        self._streams[key].add(event)
        try:
            yield event
        finally:
            self._streams[key].discard(event)
            if not self._streams[key]:
                del self._streams[key]

    def told(self, facts: Sequence[Fact]) -> None:
        """These facts and their rows are durable."""
        for fact in facts:
            if self._outcomes:
                for future in self._outcomes.get(getattr(fact.event, "request_id", ""), ()):
                    if not future.done():
                        future.set_result(fact)
            if fact.key in self._streams:
                for event in self._streams[fact.key]:
                    event.set()
