"""What a process says of itself: JSON lines, ours and those of libraries alike, redacted last of all."""

from __future__ import annotations

import logging
from collections.abc import Callable

import structlog

from kernel.processor import QuietObserver
from kernel.processor.ports import Parked
from kernel.redaction import LiveSecrets, Redactor

_log = structlog.get_logger("kernel.processor")


def start_logging(handler: logging.Handler, live: LiveSecrets, *, service: str = "") -> None:
    """Log through `handler` from now on; `service` stands in every line unless it is empty."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(service),
        structlog.processors.format_exc_info,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                Redactor(live),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.raiseExceptions = False  # a full disk is told once, by whoever cannot go on, not by every line
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # it tells every step of every rebalance
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


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
