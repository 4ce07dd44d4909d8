"""Appends of requests, each counted against the limit of its partition while it is in flight.

Every process has limits of its own: what piles up does so in its memory, and it sees by itself how the log fares. How
long the log takes is measured in the loop's own time, which stands still while the loop is behind: a gateway that is
short of CPU hears late of what the log did at once, and must not take that for a slow log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api_gateway.commit_limits import CommitLimit
from kernel.clock import Clock
from kernel.errors import LogUnavailable, Rejected, UnknownOutcome
from kernel.log.topics import Topic
from kernel.metrics import APPENDS_REFUSED, Metrics

TICK_MS = 50.0


class OwnTime:
    """A monotonic clock that goes on by at most a tick each time the loop comes round, while somebody looks at it."""

    def __init__(self) -> None:
        self._late_ms = 0.0
        self._due_ms: float | None = None
        self._looking = 0

    def now_ms(self, clock: Clock) -> float:
        """The time of `clock`, without what the loop was behind."""
        real_ms = clock.boot_ms()
        return (real_ms if self._due_ms is None else min(real_ms, self._due_ms)) - self._late_ms

    def look(self, clock: Clock) -> float:
        """Have the loop watched from now on, which is returned; for each call one of `look_away`. Needs a loop."""
        self._looking += 1
        if self._due_ms is None:
            self._wait(clock)
        return self.now_ms(clock)

    def look_away(self, clock: Clock) -> float:
        """Now, when one looks no more."""
        self._looking -= 1
        return self.now_ms(clock)

    def _wait(self, clock: Clock) -> None:
        self._due_ms = clock.boot_ms() + TICK_MS
        asyncio.get_running_loop().call_later(TICK_MS / 1000, self._tick, clock)

    def _tick(self, clock: Clock) -> None:
        assert self._due_ms is not None
        self._late_ms += max(0.0, clock.boot_ms() - self._due_ms)
        self._due_ms = None
        if self._looking:
            self._wait(clock)


class Commits:
    """The limits of all partitions that this process appends requests to. One per process."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._refused = (metrics or Metrics()).counter(APPENDS_REFUSED)
        self._limits: dict[tuple[Topic, int], CommitLimit] = {}
        self._time = OwnTime()

    @contextmanager
    def append(self, clock: Clock, topic: Topic, partition: int) -> Iterator[None]:
        """Around one append, which ends it. `rate_limited` when too many are in flight there; then it is not made.

        A refusal that lasts (`LogRefused`) says nothing of the log's speed: it goes on to the caller as it is.
        """
        limit = self.limit(topic, partition)
        if not limit.enter(self._time.now_ms(clock)):
            self._refused.labels(topic).inc()
            raise Rejected("rate_limited", "the log is slow; nothing was accepted, ask again a little later")
        began_ms = self._time.look(clock)
        try:
            yield
        except (LogUnavailable, UnknownOutcome):
            limit.failed(began_ms, self._time.look_away(clock))
            raise
        except BaseException:
            limit.given_up(began_ms, self._time.look_away(clock))
            raise
        limit.acknowledged(began_ms, self._time.look_away(clock))

    def limit(self, topic: Topic, partition: int) -> CommitLimit:
        """That of one partition."""
        found = self._limits.get((topic, partition))
        if found is None:
            found = self._limits[topic, partition] = CommitLimit()
        return found
