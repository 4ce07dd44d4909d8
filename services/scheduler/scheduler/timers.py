"""How long things take, and what is due when. Pure.

Safety of the act rests on F < W and on reading `step.started` back; every other number here only decides how soon work
moves on (design 6).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

FENCE_MS = 2_000
"""F: how long after the sending of a successful read the proxy may forward under a token."""
WAIT_MS = 5_000
"""W: from reading a lapse (or `settled`) to the next attempt or the end: F, a clock step of 1 s, flight, margin."""
WAIT_AFTER_DEATH_MS = 1_000
"""From reading a lapse that a watchdog proved: the whole process group is dead, only bytes in flight remain."""
STOP_MS = 10_000
"""How long a cancelled attempt may take to say how it ended before it is settled without its word."""
PARK_MS = 60_000
"""How long a runner may take to save and close a page that it was told to park before it is settled without a word."""
LEASE_MS = 20_000
"""A heartbeat renews a task for this long."""
ECHO_MS = 4_000
"""An assignment that no heartbeat names within this time lapses."""
RUNNER_SILENT_MS = 7_000
"""A runner beats every 2 s; one that was not heard of for this long is given nothing until it is heard of again."""
RUNNER_FORGET_MS = 60_000
"""A runner without tasks that was not heard of for this long is forgotten."""
DEADLINE_SLACK_MS = 5_000
"""The runner ends a timed-out run itself; this long after the deadline `advance` does."""
TOMBSTONE_MS = 24 * 3_600_000
"""How long an ended run is remembered, so that a repeated request finds its outcome."""
LAPSES_MAX = 8
"""A run whose attempts lapse this often fails with `runner_lost`."""


class DueIndex:
    """Earliest due times by key: a heap with lazy deletion, so that neither a change nor a wake-up scans."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def put(self, key: str, due_ms: int | None) -> None:
        """Set or (None) remove the due time of `key`."""
        if due_ms is None:
            self._due.pop(key, None)
        elif self._due.get(key) != due_ms:
            self._due[key] = due_ms
            heapq.heappush(self._heap, (due_ms, key))

    def earliest(self) -> int | None:
        """The earliest due time, None when nothing waits."""
        heap = self._heap
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now_ms: int, limit: int) -> Iterator[str]:
        """Keys that are due at `now_ms`, earliest first, at most `limit`; changes nothing that can be seen."""
        taken: list[tuple[int, str]] = []
        seen: set[str] = set()
        try:
            while len(seen) < limit:
                earliest = self.earliest()
                if earliest is None or earliest > now_ms:
                    return
                entry = heapq.heappop(self._heap)
                taken.append(entry)
                if entry[1] not in seen:
                    seen.add(entry[1])
                    yield entry[1]
        finally:
            for entry in taken:
                heapq.heappush(self._heap, entry)
