"""What a runner measures: its slots, its browsers, and what its way out refuses."""

from __future__ import annotations

from collections.abc import Callable

from browser_runner.heartbeat import Load
from kernel import metrics
from kernel.domain.values import Pool
from kernel.metrics import Metrics


class RunnerMeter:
    """The series of one runner process; its methods are what browsers and proxy are given to call."""

    def __init__(self, measures: Metrics) -> None:
        self._slots = measures.gauge(metrics.RUNNER_SLOTS)
        self._launch = measures.histogram(metrics.BROWSER_LAUNCH)
        self._crashes = measures.counter(metrics.BROWSER_CRASHES)
        self._denied = measures.counter(metrics.EGRESS_DENIED)

    def launched(self, seconds: float) -> None:
        """A browser was started."""
        self._launch.observe(seconds)

    def crashed(self) -> None:
        """A browser has ended by itself."""
        self._crashes.inc()

    def denied(self, reason: str) -> None:
        """The way out has refused a connection."""
        self._denied.labels(reason).inc()

    def show_slots(self, pool: Pool, load: Callable[[], Load]) -> None:
        """From now on each scrape asks `load` for the slots of `pool`."""

        def waiting() -> int:
            return sum(held.waiting for held in load().held)

        def busy() -> int:
            return len(load().held) - waiting()

        self._slots.labels(pool.value, "waiting").set_function(waiting)
        self._slots.labels(pool.value, "busy").set_function(busy)
        self._slots.labels(pool.value, "free").set_function(lambda: max(0, load().slots - busy()))
