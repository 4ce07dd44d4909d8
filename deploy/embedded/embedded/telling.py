"""What the platform says of itself: JSON lines in `platform.log`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path

from kernel.redaction import LiveSecrets
from kernel.telling import TellingObserver, start_logging


def log_to(path: Path, live: LiveSecrets) -> None:
    """Log to `path` from now on: at most four files of 10 MB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start_logging(RotatingFileHandler(path, maxBytes=10_000_000, backupCount=3), live)


class PlatformObserver(TellingObserver):
    """Logs what an operator must know, and passes on what the housework needs."""

    def __init__(self, decided: Callable[[int, Mapping[str, int]], None], restored: Callable[[], None]) -> None:
        """`decided` gets a partition and how far its input topics are decided; `restored` is told of each restore."""
        self._decided = decided
        self._restored = restored

    def restored(self, decider: str, partition: int, records: int, took_ms: float, clock_step_ms: int) -> None:  # noqa: ARG002 (shaped by the port)
        self._restored()

    def checkpointed(self, decider: str, partition: int, positions: Mapping[str, int]) -> None:  # noqa: ARG002 (shaped by the port)
        self._decided(partition, positions)
