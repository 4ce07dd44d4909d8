"""How many appends to one partition may be in flight, by how long the log takes to acknowledge them. Pure.

A healthy log never meets its limit. One that is slow, or fails, would let requests pile up in front of it: the limit is
halved, at most once for what was under way together, and grows again by so many a second while acknowledgements are
quick. A log that says nothing at all is noticed by those who come meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST = 2000
"""Where the limit begins, and what it never exceeds: each append holds a request of up to 64 KiB."""
LEAST = 16
"""What it never falls below, so that somebody finds out when the log is well again."""
TARGET_MS = 1000.0
"""An acknowledgement that takes longer is slow; a healthy log takes a hundredth of it."""
GROWTH_PER_MS = 0.1
"""From the least to the most in twenty seconds."""


@dataclass(slots=True, eq=False)
class CommitLimit:
    """The limit of one partition, and who is below it. Times are those of one monotonic clock, in milliseconds.

    For each `enter` that was true one of `acknowledged`, `failed` and `given_up` is called, with the time of it.
    """

    most: float = MOST
    in_flight: int = 0
    heard_ms: float = 0.0
    """When the log last answered, or when an append began while there was none."""
    judged_ms: float = 0.0
    """When the limit was last moved, or found to stand where it begins."""
    cut_ms: float = float("-inf")
    """When it was last halved: appends that began before have had their say."""

    def enter(self, now_ms: float) -> bool:
        """Count one more; False, and nothing is counted, where that would be one too many."""
        if not self.in_flight:
            self.heard_ms = now_ms
        elif now_ms - max(self.heard_ms, self.cut_ms) > TARGET_MS:
            self._cut(now_ms)
        if self.in_flight + 1 > self.most:
            return False
        self.in_flight += 1
        return True

    def acknowledged(self, began_ms: float, now_ms: float) -> None:
        """The log has taken it."""
        self.heard_ms = now_ms
        self.given_up(began_ms, now_ms)
        if now_ms - began_ms <= TARGET_MS:
            self.most = min(MOST, self.most + (now_ms - self.judged_ms) * GROWTH_PER_MS)
            self.judged_ms = now_ms

    def failed(self, began_ms: float, now_ms: float) -> None:
        """The log has not taken it, or nobody knows."""
        self.heard_ms = now_ms
        self.in_flight -= 1
        self._judge(began_ms, now_ms)

    def given_up(self, began_ms: float, now_ms: float) -> None:
        """Whoever asked waits no more; that says something of the log only after a while."""
        self.in_flight -= 1
        if now_ms - began_ms > TARGET_MS:
            self._judge(began_ms, now_ms)

    def _judge(self, began_ms: float, now_ms: float) -> None:
        if began_ms >= self.cut_ms:
            self._cut(now_ms)

    def _cut(self, now_ms: float) -> None:
        self.most = max(LEAST, self.most / 2)
        self.cut_ms = self.judged_ms = now_ms
