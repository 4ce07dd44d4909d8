"""What the platform says of itself: JSON lines in `platform.log`, redacted last of all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

from kernel.processor import QuietObserver
from kernel.processor.ports import Parked
from kernel.redaction import LiveSecrets, Redactor

_log = structlog.get_logger("embedded.processor")


def start_logging(path: Path, live: LiveSecrets) -> None:
    """Log to `path` from now on: at most four files of 10 MB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=10_000_000, backupCount=3)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.raiseExceptions = False  # a full disk is told once, by whoever cannot go on, not by every line
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            Redactor(live),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


class PlatformObserver(QuietObserver):
    """Logs what an operator must know of the owning loop, and passes on what the housework needs; the rest is quiet."""

    def __init__(self, decided: Callable[[int, Mapping[str, int]], None], restored: Callable[[], None]) -> None:
        """`decided` gets a partition and how far its input topics are decided; `restored` is told of each restore."""
        self._decided = decided
        self._restored = restored

    def restored(self, decider: str, partition: int, records: int, took_ms: float, clock_step_ms: int) -> None:  # noqa: ARG002 (shaped by the port)
        self._restored()

    def checkpointed(self, decider: str, partition: int, positions: Mapping[str, int]) -> None:  # noqa: ARG002 (shaped by the port)
        self._decided(partition, positions)

    def stood_down(self, decider: str, partition: int) -> None:
        _log.warning("owner.stood_down", decider=decider, partition=partition)

    def append_unknown(self, decider: str, partition: int, what: str) -> None:
        _log.warning("owner.append_unknown", decider=decider, partition=partition, what=what)

    def parked(self, decider: str, partition: int, record: Parked) -> None:
        _log.error("input.parked", decider=decider, partition=partition, record=repr(record))

    def failed(self, decider: str, partition: int, what: str, error: str) -> None:
        _log.error("owner.failed", decider=decider, partition=partition, what=what, error=error)
