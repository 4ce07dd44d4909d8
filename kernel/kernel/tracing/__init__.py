"""Where time goes, told to a collector of traces: the port, and what stands for it where nobody collects.

What travels with records is `kernel.tracing.context`, ours. Spans are made by OpenTelemetry's SDK, whose only door is
`kernel.tracing.otel`; it is installed with the cluster form and loaded only when `OTEL_TRACES_EXPORTER` asks for it.

    POST        a span; the record of the request carries it as `traceparent`, and so does all that is decided on it;
                a caller's `tracestate` goes along
    batches     a span per committed batch of a decider or projector, linked to what it answers
    a run       a trace of its own, linked to the POST; a span per step

A span stands for what happened now: nothing that is replayed, restored or rebuilt makes any.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

from kernel.errors import Permanent
from kernel.tracing.context import NOBODY, TraceHeaders

EXPORTER_VARIABLE = "OTEL_TRACES_EXPORTER"
"""`otlp` or `console`; empty or `none`: no traces. `OTEL_EXPORTER_OTLP_*` and `OTEL_TRACES_SAMPLER` are the SDK's."""

Attributes = Mapping[str, str | int | float | bool]
_current: ContextVar[TraceHeaders] = ContextVar("trace_headers", default=NOBODY)


class SpanKind(StrEnum):
    """As OpenTelemetry has them."""

    INTERNAL = "internal"
    SERVER = "server"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """A span under way."""

    def rename(self, name: str) -> None: ...

    def set(self, name: str, value: str | float | bool) -> None:  # noqa: FBT001 (a value of any kind)
        """Say something about it. Never a secret, a personal value, or free text."""
        ...


class Tracer(Protocol):
    """Makes spans. All calls are quick, never raise and never wait for a collector."""

    @property
    def is_on(self) -> bool:
        """Whether anybody collects; when not, callers need not gather what spans would say."""
        ...

    def span(
        self, name: str, kind: SpanKind, *, parent: TraceHeaders | None = None, attributes: Attributes | None = None
    ) -> AbstractContextManager[Span]:
        """Around what is done inside; `current_trace` names it meanwhile. `parent` None: the current one."""
        ...

    def record(
        self,
        name: str,
        kind: SpanKind,
        begin_ms: float,
        end_ms: float,
        *,
        links: Iterable[TraceHeaders] = (),
        run: str = "",
        is_first: bool = False,
        attributes: Attributes | None = None,
    ) -> None:
        """A span of what is over, in milliseconds since 1970, linked to those named.

        With `run`, the id of a root run, it stands in that run's trace: below its first span, or as that one.
        """
        ...

    def close(self) -> None:
        """Hand over what is not sent yet; may take seconds. Idempotent."""
        ...


def current_trace() -> TraceHeaders:
    """The span that the current task works in, or what its caller has named; both empty when there is none."""
    return _current.get()


@contextmanager
def within(span: TraceHeaders) -> Iterator[None]:
    """Let `span` be the current one inside."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


class _NoSpan:
    def rename(self, name: str) -> None:
        pass

    def set(self, name: str, value: str | float | bool) -> None:  # noqa: FBT001 (shaped by the port)
        pass


class NoTracer:
    """Makes no spans; the one that a caller names still travels on."""

    is_on = False
    _span = _NoSpan()

    @contextmanager
    def span(
        self,
        name: str,  # noqa: ARG002 (shaped by the port)
        kind: SpanKind,  # noqa: ARG002 (shaped by the port)
        *,
        parent: TraceHeaders | None = None,
        attributes: Attributes | None = None,  # noqa: ARG002 (shaped by the port)
    ) -> Iterator[Span]:
        if parent is None:
            yield self._span
            return
        with within(parent):
            yield self._span

    def record(self, name: str, kind: SpanKind, begin_ms: float, end_ms: float, **more: object) -> None:
        pass

    def close(self) -> None:
        pass


NO_TRACER: Tracer = NoTracer()


def open_tracer(service: str, system: str, environ: Mapping[str, str]) -> Tracer:
    """What the environment asks for. `system` is what carries records: `kafka`, or `towpath` in the embedded form.

    `Permanent("tracing_unavailable")` when it asks for what is not installed.
    """
    exporter = environ.get(EXPORTER_VARIABLE, "")
    if exporter in {"", "none"}:
        return NO_TRACER
    try:
        otel = importlib.import_module("kernel.tracing.otel")
    except ImportError as error:
        raise Permanent(
            "tracing_unavailable",
            f"{EXPORTER_VARIABLE} is {exporter}, but OpenTelemetry is not installed ({error.name}): "
            "install requirements/cluster.txt, or unset it",
        ) from None
    tracer: Tracer = otel.OtelTracer.open(service, system, exporter)
    return tracer
