"""`Tracer` over OpenTelemetry's SDK: spans are gathered and sent in batches, from a thread of the SDK's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision

from kernel.errors import Permanent
from kernel.tracing import EXPORTER_VARIABLE, Attributes, Span, SpanKind, current_trace, within
from kernel.tracing.context import TraceContext, TraceHeaders, of_run, parse, well_formed

LINKS_MAX = 128
_EXPORTERS = {"otlp": "otlp_proto_http"}
"""What people call it, and what the entry point is called."""
_KINDS = {kind: trace.SpanKind[kind.name] for kind in SpanKind}
_NS = 1_000_000
_NO_CONTEXT = trace.set_span_in_context(trace.INVALID_SPAN)


class OtelTracer:
    """Made by `open`, or over an exporter of one's own."""

    is_on = True

    def __init__(self, service: str, system: str, exporter: SpanExporter) -> None:
        """`system` carries records; the sampler is the one that the SDK's environment names."""
        self._ids = _Ids()
        self._system = system
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("towpath")

    @classmethod
    def open(cls, service: str, system: str, exporter: str) -> OtelTracer:
        """With an exporter by its usual name. `Permanent("tracing_unavailable")` when nothing is called so."""
        found = entry_points(group="opentelemetry_traces_exporter", name=_EXPORTERS.get(exporter, exporter))
        for entry in found:
            return cls(service, system, entry.load()())
        raise Permanent("tracing_unavailable", f"{EXPORTER_VARIABLE} is {exporter}, which is not installed")

    @contextmanager
    def span(
        self, name: str, kind: SpanKind, *, parent: TraceHeaders | None = None, attributes: Attributes | None = None
    ) -> Iterator[Span]:
        above = parse(*(current_trace() if parent is None else parent))
        span = self._tracer.start_span(
            name, context=_below(above), kind=_KINDS[kind], attributes=self._said(kind, attributes)
        )
        own = span.get_span_context()
        state = well_formed(own.trace_state.to_header()) if own.trace_state else ""  # a sampler may have added to it
        with within(TraceContext(own.trace_id, own.span_id, own.trace_flags.sampled, state).headers):
            try:
                yield _OtelSpan(span)
            except BaseException as error:
                # The type alone: what an error says may be personal.
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise
            finally:
                span.end()

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
        named = [context for link in list(dict.fromkeys(links))[:LINKS_MAX] if (context := parse(*link)) is not None]
        first = of_run(run) if run else None
        if first is not None and not self._is_sampled(first, name):
            return
        self._ids.next_ids = first if is_first else None
        span = self._tracer.start_span(
            name,
            context=_below(None if is_first else first),
            kind=_KINDS[kind],
            attributes=self._said(kind, attributes),
            links=[trace.Link(_of_sdk(context)) for context in named],
            start_time=round(begin_ms * _NS),
        )
        span.end(end_time=round(max(begin_ms, end_ms) * _NS))

    def close(self) -> None:
        self._provider.shutdown()

    def _is_sampled(self, first: TraceContext, name: str) -> bool:
        """Decided by the ids of the run's trace alone, so that every process decides the same."""
        decision = self._provider.sampler.should_sample(_NO_CONTEXT, first.trace_id, name).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def _said(self, kind: SpanKind, attributes: Attributes | None) -> dict[str, str | int | float | bool]:
        about = {"messaging.system": self._system} if kind in {SpanKind.PRODUCER, SpanKind.CONSUMER} else {}
        return {**about, **(attributes or {})}


class _OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, name: str, value: str | float | bool) -> None:  # noqa: FBT001 (shaped by the port)
        self._span.set_attribute(name, value)


class _Ids(RandomIdGenerator):
    """Random ids, but for the first span of a run's trace."""

    next_ids: TraceContext | None = None

    def generate_trace_id(self) -> int:
        return self.next_ids.trace_id if self.next_ids is not None else super().generate_trace_id()

    def generate_span_id(self) -> int:
        chosen, self.next_ids = self.next_ids, None
        return chosen.span_id if chosen is not None else super().generate_span_id()


def _of_sdk(context: TraceContext) -> trace.SpanContext:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if context.is_sampled else trace.TraceFlags.DEFAULT)
    state = trace.TraceState.from_header([context.tracestate]) if context.tracestate else None
    return trace.SpanContext(context.trace_id, context.span_id, is_remote=True, trace_flags=flags, trace_state=state)


def _below(parent: TraceContext | None) -> Context:
    """A context in which a new span is a child of `parent`, or has none."""
    if parent is None:
        return _NO_CONTEXT
    return trace.set_span_in_context(trace.NonRecordingSpan(_of_sdk(parent)))
