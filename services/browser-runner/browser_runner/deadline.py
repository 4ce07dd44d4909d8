"""The run's own time-out, as this attempt sees it: on the boot clock, and without the time that a person takes."""

from __future__ import annotations

from kernel.clock import Clock
from kernel.domain.task import TaskRequested


class Deadline:
    """Runs from the beginning of the attempt, unless earlier attempts have used up a part."""

    def __init__(self, clock: Clock, request: TaskRequested) -> None:
        left = request.deadline_ms - clock.now_ms() if request.deadline_ms else request.workflow.timeout_seconds * 1000
        self._clock = clock
        self._at_ms = clock.boot_ms() + left
        self._paused_ms: float | None = None

    def left_ms(self) -> float:
        """Until it has come; not above 0 when it has."""
        now = self._paused_ms if self._paused_ms is not None else self._clock.boot_ms()
        return self._at_ms - now

    def pause(self) -> None:
        """A person is waited for."""
        self._paused_ms = self._clock.boot_ms()

    def go_on(self) -> None:
        """The person is not waited for any more."""
        if self._paused_ms is not None:
            self._at_ms += self._clock.boot_ms() - self._paused_ms
        self._paused_ms = None
