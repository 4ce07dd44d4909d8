"""What a process says of itself: JSON lines, ours and those of libraries alike, redacted last of all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import structlog

from kernel.line_context import with_line_context
from kernel.processor import QuietObserver
from kernel.processor.ports import Parked
from kernel.redaction import LiveSecrets, Redactor

_log = structlog.get_logger("kernel.processor")


def start_logging(handler: logging.Handler, live: LiveSecrets, *, service: str = "") -> None:
    """Log through `handler` from now on; `service` stands in every line unless it is empty."""
    shared: list[structlog.typing.Processor] = [
        with_line_context,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(service),
        structlog.processors.format_exc_info,
    ]
    rendering: list[structlog.typing.Processor] = [Redactor(live), _render]
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.raiseExceptions = False  # a full disk is told once, by whoever cannot go on, not by every line
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # it tells every step of every rebalance
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Lines(handler),
        cache_logger_on_first_use=True,
    )


class _Lines:
    """Where our own lines go: past the loggers of the standard library, which would take as long again for each."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def _put(self, line: str) -> None:
        self._handler.handle(_Line(line))

    debug = info = warning = error = critical = _put


class _Line(logging.LogRecord):
    """A line that is rendered already; a handler asks its formatter for nothing but the text."""

    def __init__(self, text: str) -> None:  # it does without what its class would find out about the caller
        self.text = text


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders the records of libraries as our own lines are."""

    def format(self, record: logging.LogRecord) -> str:
        return record.text if isinstance(record, _Line) else super().format(record)


_JSON = json.JSONEncoder(default=repr)


def _render(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    return _JSON.encode(event)


def _naming(service: str) -> Callable[..., structlog.typing.EventDict]:
    def name(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if service:
            event["service"] = service
        return event

    return name


class TellingObserver(QuietObserver):
    """Logs what an operator must know of the owning loop; the rest is quiet."""

    def stood_down(self, decider: str, partition: int) -> None:
        _log.warning("owner.stood_down", decider=decider, partition=partition)

    def append_unknown(self, decider: str, partition: int, what: str) -> None:
        _log.warning("owner.append_unknown", decider=decider, partition=partition, what=what)

    def parked(self, decider: str, partition: int, record: Parked) -> None:
        _log.error("input.parked", decider=decider, partition=partition, record=repr(record))

    def failed(self, decider: str, partition: int, what: str, error: str) -> None:
        _log.error("owner.failed", decider=decider, partition=partition, what=what, error=error)
