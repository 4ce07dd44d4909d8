"""Outcomes at a provider, counted by the minute, and the windows that are made of them.

A row holds what the facts of one partition say about one provider: counts for each of the newest minutes, and how far
the partition has been counted. Rows of all partitions together make the windows. Counts are sums and a row forgets by
its own newest minute, so the order of facts changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.domain.provider_health import WINDOWS_MINUTES, HealthWindow

MINUTE_MS = 60_000
MINUTES_KEPT = max(WINDOWS_MINUTES) + 1
"""The longest window: its whole minutes and the one begun."""
_STEPS_OF_TEN = (10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82)
STEP_BOUNDS_MS: tuple[int, ...] = (*(first * 10**power for power in range(5) for first in _STEPS_OF_TEN), 1_000_000)
"""Steps are counted by the first of these that they did not exceed: a quarter apart, from 10 ms to a quarter hour."""
_P95 = 95


@dataclass(slots=True)
class Tally:
    """What one minute has brought. `steps` counts by the index of a bound."""

    succeeded: int = 0
    failed: int = 0
    other: int = 0
    logins_succeeded: int = 0
    logins_rejected: int = 0
    logins_failed: int = 0
    steps: dict[int, int] = field(default_factory=dict)

    def add(self, more: Tally) -> None:
        """Count what `more` has counted."""
        self.succeeded += more.succeeded
        self.failed += more.failed
        self.other += more.other
        self.logins_succeeded += more.logins_succeeded
        self.logins_rejected += more.logins_rejected
        self.logins_failed += more.logins_failed
        for index, count in more.steps.items():
            self.steps[index] = self.steps.get(index, 0) + count


@dataclass(slots=True)
class HealthRow:
    """What one partition of the public topic says about one provider of one organization."""

    organization_id: OrganizationId
    provider: ProviderSlug
    partition: int
    applied: int = -1
    """Offset of the last fact that is counted; none at or below it counts again."""
    newest_ms: int = 0
    minutes: dict[int, Tally] = field(default_factory=dict)
    """By minute since 1970; at most `MINUTES_KEPT` of them, none older than that below the newest."""


def step_bucket(milliseconds: int) -> int:
    """Index of the bound that a step of this length is counted under; longer than the last counts as the last."""
    return min(bisect_left(STEP_BOUNDS_MS, milliseconds), len(STEP_BOUNDS_MS) - 1)


def windows_of(rows: Iterable[HealthRow], end_ms: int) -> tuple[HealthWindow, ...]:
    """The windows that end at `end_ms`, shortest first; what is newer is left out."""
    end = end_ms // MINUTE_MS
    tables = [row.minutes for row in rows]
    return tuple(_window(tables, minutes, end) for minutes in WINDOWS_MINUTES)


def _window(tables: Iterable[Mapping[int, Tally]], minutes: int, end: int) -> HealthWindow:
    total = Tally()
    for table in tables:
        for minute, tally in table.items():
            if end - minutes <= minute <= end:
                total.add(tally)
    return HealthWindow(
        minutes=minutes,
        succeeded=total.succeeded,
        failed=total.failed,
        other=total.other,
        logins_succeeded=total.logins_succeeded,
        logins_rejected=total.logins_rejected,
        logins_failed=total.logins_failed,
        steps=sum(total.steps.values()),
        step_p95_ms=_p95_ms(total.steps),
    )


def _p95_ms(steps: Mapping[int, int]) -> int:
    left = -(-sum(steps.values()) * _P95 // 100)
    for index in sorted(steps):
        left -= steps[index]
        if left <= 0:
            return STEP_BOUNDS_MS[index]
    return 0
