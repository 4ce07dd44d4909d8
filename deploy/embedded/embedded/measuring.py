"""Everything that the platform measures, in one registry: what the services of a cluster show each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import ProcessCollector

from api_gateway.measuring import FactMeter
from api_gateway.projecting import Projector, each
from api_gateway.tracing_facts import FactTracer
from api_gateway.waiting import Projected
from artifact_store.measuring import StoreMeter
from browser_runner.measuring import RunnerMeter
from kernel.clock import Clock
from kernel.log.port import EventLog
from kernel.metering import MeteringObserver, Standing, measure_lag, measure_loop
from kernel.metrics import Metrics
from kernel.processor.ports import ProcessorObserver
from kernel.sql.port import Database
from kernel.tracing import NO_TRACER, Tracer


@dataclass(slots=True)
class Measuring:
    """The meters of one platform process."""

    clock: Clock
    tracer: Tracer = NO_TRACER
    metrics: Metrics = field(default_factory=Metrics)
    runner: RunnerMeter = field(init=False)
    store: StoreMeter = field(init=False)

    def __post_init__(self) -> None:
        ProcessCollector(registry=self.metrics.registry)
        self.runner, self.store = RunnerMeter(self.metrics), StoreMeter(self.metrics, self.clock)

    def show_files(self, data: Path, keyring: Path) -> None:
        """The platform's folder is there."""
        self.store.show_disk(data)
        self.store.show_keyring(keyring)

    def facts(self, db: Database) -> FactMeter:
        """What measures batches of facts."""
        return FactMeter(self.metrics, db, self.clock)

    def each(self, facts: FactMeter) -> Callable[[Projected], None]:
        """What the projector is given to call."""
        return each(facts.projected, FactTracer(self.tracer, self.clock).projected)

    def observer(self, told: ProcessorObserver) -> MeteringObserver:
        """What the deciders are given to tell."""
        return MeteringObserver(self.metrics, told, self.clock, tracer=self.tracer)

    async def run(self, log: EventLog, facts: FactMeter, observer: MeteringObserver, projector: Projector) -> None:
        """Look, count and compare beside everything else, until cancelled."""

        def standing() -> Iterable[Standing]:
            return (*observer.standing(), *projector.standing())

        async with asyncio.TaskGroup() as group:
            group.create_task(facts.run())
            group.create_task(measure_lag(self.metrics, log, self.clock, standing))
            group.create_task(measure_loop(self.metrics, self.clock))
