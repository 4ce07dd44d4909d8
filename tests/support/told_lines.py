"""What a process would log, line by line, through the very formatter that services log through."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from kernel.redaction import LiveSecrets
from kernel.telling import start_logging


class Told:
    """Everything that was logged so far; `live` are the secrets that must not be in it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.live = LiveSecrets()

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The lines in order, or those that tell of one event."""
        found = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in found if event in {"", line["event"]}]


@contextmanager
def telling() -> Iterator[Told]:
    """Log as a service does; what was configured before stands again afterwards."""
    root, before, raises = logging.getLogger(), structlog.get_config(), logging.raiseExceptions
    handlers, level, kafka = list(root.handlers), root.level, logging.getLogger("aiokafka").level
    told = Told()
    start_logging(logging.StreamHandler(told.stream), told.live, service="a-service")
    structlog.configure(cache_logger_on_first_use=False)  # loggers of modules outlive a test
    try:
        yield told
    finally:
        root.handlers[:], logging.raiseExceptions = handlers, raises
        root.setLevel(level)
        logging.getLogger("aiokafka").setLevel(kafka)
        structlog.configure(**before)
