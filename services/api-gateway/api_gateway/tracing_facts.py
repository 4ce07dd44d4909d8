"""Spans of what is projected: one per committed batch, and the life of each run as the first span of its own trace.

Whoever commits a batch makes its spans, so each fact is in one batch span, however many gateways there are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from api_gateway.projections.change import Fact
from api_gateway.waiting import Projected
from kernel.clock import Clock
from kernel.domain.job_run import JobRunCancelled, JobRunCompleted, JobRunCreated, JobRunFailed
from kernel.domain.workflow_run import WorkflowRunCompleted, WorkflowRunCreated, WorkflowRunFailed
from kernel.tracing import SpanKind, Tracer
from kernel.tracing.context import NOBODY, TraceHeaders

REMEMBERED_MAX = 20_000
_BEGINS = (JobRunCreated, WorkflowRunCreated)
_ENDS = (JobRunCompleted, JobRunFailed, JobRunCancelled, WorkflowRunCompleted, WorkflowRunFailed)


class _Begun(NamedTuple):
    ms: int
    asked: TraceHeaders


class FactTracer:
    """Called with each committed batch; without I/O."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock
        self._begun: OrderedDict[str, _Begun] = OrderedDict()

    def projected(self, batch: Projected) -> None:
        """The batch was committed now."""
        if not self._tracer.is_on or not batch.facts:
            return
        links = [_asked(fact) for fact in batch.facts if fact.traceparent]
        if links:
            self._tracer.record(
                f"project {batch.topic}",
                SpanKind.CONSUMER,
                max(fact.time_ms for fact in batch.facts),
                self._clock.now_ms(),
                links=links,
                attributes={
                    "messaging.destination.name": batch.topic.value,
                    "messaging.destination.partition.id": str(batch.partition),
                    "messaging.batch.message_count": len(batch.facts),
                    "messaging.operation.type": "process",
                },
            )
        for fact in batch.facts:
            self._follow(fact)

    def _follow(self, fact: Fact) -> None:
        """The first fact of a root run, and the one that ends it; one that began elsewhere is told by its end alone."""
        if fact.sequence == 1 and isinstance(fact.event, _BEGINS):
            self._begun[fact.key] = _Begun(fact.time_ms, _asked(fact))
            if len(self._begun) > REMEMBERED_MAX:
                self._begun.popitem(last=False)
        elif isinstance(fact.event, _ENDS) and _of_root(fact):
            self._ended(fact, self._begun.pop(fact.key, _Begun(fact.time_ms, NOBODY)))

    def _ended(self, fact: Fact, begun: _Begun) -> None:
        self._tracer.record(
            "job run" if fact.wire.startswith("job_run.") else "workflow run",
            SpanKind.INTERNAL,
            begun.ms,
            fact.time_ms,
            links=[begun.asked],
            run=fact.key,
            is_first=True,
            attributes={"towpath.run_id": fact.key, "towpath.outcome": fact.wire.rpartition(".")[2]},
        )


def _asked(fact: Fact) -> TraceHeaders:
    return TraceHeaders(fact.traceparent, fact.tracestate)


def _of_root(fact: Fact) -> bool:
    """Whether it is about the root run itself, and not about a part of it."""
    return fact.wire.startswith("job_run.") or fact.event.workflow_run_id == fact.key
