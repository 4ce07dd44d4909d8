"""What an artifact store measures: openings of secrets, the age of the keyring, the room on its disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from kernel import metrics
from kernel.clock import Clock
from kernel.metrics import Metrics

UNKNOWN = float("nan")


class StoreMeter:
    """The series of one store. What is shown is looked up for each scrape; what cannot be read is no number."""

    def __init__(self, measures: Metrics, clock: Clock) -> None:
        self._measures = measures
        self._clock = clock
        self._used = measures.counter(metrics.SECRETS_USED)

    def used(self, kind: str) -> None:
        """A secret of this kind may be opened."""
        self._used.labels(kind).inc()

    def show_keyring(self, path: Path) -> None:
        """Since when the keyring is as it is."""

        def age_seconds() -> float:
            try:
                return self._clock.now_ms() / 1000 - path.stat().st_mtime
            except OSError:
                return UNKNOWN

        self._measures.gauge(metrics.KEYRING_AGE).set_function(age_seconds)

    def show_disk(self, folder: Path) -> None:
        """How much of the disk below `folder` is free."""

        def free_ratio() -> float:
            try:
                usage = shutil.disk_usage(folder)
            except OSError:
                return UNKNOWN
            return usage.free / usage.total

        self._measures.gauge(metrics.DISK_FREE).set_function(free_ratio)
