"""Measures what a process does for the log: how its deciders do, and how far its consumers are behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import structlog

from kernel import metrics
from kernel.clock import Clock
from kernel.errors import LogUnavailable
from kernel.log.port import EventLog
from kernel.metrics import Metrics
from kernel.processor.ports import Parked, ProcessorObserver
from kernel.tracing import NO_TRACER, SpanKind, Tracer
from kernel.tracing.context import TraceHeaders

LAG_SECONDS = 15.0
BEAT_SECONDS = 1.0
_log = structlog.get_logger("kernel.metering")


class Standing(NamedTuple):
    """A consumer `group` has taken all of this partition below `next_offset`."""

    group: str
    topic: str
    partition: int
    next_offset: int


class MeteringObserver:
    """A `ProcessorObserver` that counts, makes spans, and passes everything on to `told`."""

    def __init__(self, measures: Metrics, told: ProcessorObserver, clock: Clock, *, tracer: Tracer = NO_TRACER) -> None:
        self._told = told
        self._clock = clock
        self._tracer = tracer
        self._transitions = measures.counter(metrics.TRANSITIONS)
        self._commit = measures.histogram(metrics.COMMIT)
        self._restore = measures.histogram(metrics.RESTORE)
        self._parked = measures.counter(metrics.PARKED)
        self._failures = measures.counter(metrics.FAILURES)
        self._positions: dict[tuple[str, int], Mapping[str, int]] = {}

    def standing(self, owns: Callable[[str, int], bool] = lambda _decider, _partition: True) -> Iterator[Standing]:
        """How far each partition that this process `owns` is decided, as of its last checkpoint."""
        owned = [place for place in self._positions if owns(*place)]
        for (decider, partition), positions in [(place, self._positions[place]) for place in owned]:
            for topic, next_offset in positions.items():
                yield Standing(decider, topic, partition, next_offset)

    def claimed(self, decider: str, partition: int) -> None:
        self._told.claimed(decider, partition)

    def restored(self, decider: str, partition: int, records: int, took_ms: float, clock_step_ms: int) -> None:
        self._restore.labels(decider).observe(took_ms / 1000)
        self._parked.labels(decider)  # there from the start, so that the first one is an increase
        self._failures.labels(decider)
        self._told.restored(decider, partition, records, took_ms, clock_step_ms)

    def stood_down(self, decider: str, partition: int) -> None:
        self._positions.pop((decider, partition), None)
        self._told.stood_down(decider, partition)

    def append_unknown(self, decider: str, partition: int, what: str) -> None:
        self._told.append_unknown(decider, partition, what)

    def committed(self, decider: str, partition: int, inputs: int, decisions: int, commit_ms: float) -> None:
        self._transitions.labels(decider).inc(inputs)
        self._commit.labels(decider).observe(commit_ms / 1000)
        self._told.committed(decider, partition, inputs, decisions, commit_ms)

    def traced(self, decider: str, partition: int, asked: Sequence[TraceHeaders], commit_ms: float) -> None:
        now_ms = self._clock.now_ms()
        self._tracer.record(
            f"decide {decider}",
            SpanKind.CONSUMER,
            now_ms - commit_ms,
            now_ms,
            links=asked,
            attributes={
                "towpath.decider": decider,
                "towpath.partition": partition,
                "messaging.operation.type": "process",
            },
        )
        self._told.traced(decider, partition, asked, commit_ms)

    def checkpointed(self, decider: str, partition: int, positions: Mapping[str, int]) -> None:
        self._positions[decider, partition] = positions
        self._told.checkpointed(decider, partition, positions)

    def derived(self, decider: str, partition: int, records: int) -> None:
        self._told.derived(decider, partition, records)

    def woken(self, decider: str, partition: int, late_ms: int) -> None:
        self._told.woken(decider, partition, late_ms)

    def parked(self, decider: str, partition: int, record: Parked) -> None:
        self._parked.labels(decider).inc()
        self._told.parked(decider, partition, record)

    def failed(self, decider: str, partition: int, what: str, error: str) -> None:
        self._failures.labels(decider).inc()
        self._told.failed(decider, partition, what, error)


async def measure_lag(
    measures: Metrics, log: EventLog, clock: Clock, standing: Callable[[], Iterable[Standing]]
) -> None:
    """Compare where consumers stand with where their topics end, now and then, until cancelled."""
    lag = measures.gauge(metrics.CONSUMER_LAG)
    while True:
        await clock.sleep(LAG_SECONDS)
        behind: Counter[tuple[str, str]] = Counter()
        try:
            for one in list(standing()):
                end = await log.end_offset(one.topic, one.partition)
                behind[one.group, one.topic] += max(0, end - one.next_offset)
        except LogUnavailable as error:
            _log.warning("metering.retry", error=str(error))
            continue
        lag.clear()
        for labels, records in behind.items():
            lag.labels(*labels).set(records)


async def measure_loop(measures: Metrics, clock: Clock) -> None:
    """Measure how late this event loop is, until cancelled."""
    lag = measures.gauge(metrics.LOOP_LAG)
    while True:
        slept_ms = clock.boot_ms()
        await clock.sleep(BEAT_SECONDS)
        lag.set(max(clock.boot_ms() - slept_ms - BEAT_SECONDS * 1000, 0) / 1000)
