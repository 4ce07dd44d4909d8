"""The process of the scheduler: `advance` and `dispatch` on the partitions that its group proposes.

Any number of them may run. Each gets its share of the partitions; who dies or is told to end hands its share to the
others. The composition root of the service: the only file of it that names an adapter.
"""

from __future__ import annotations

from functools import partial

from kernel.log import codec
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.membership import Membership
from kernel.log.kafka.settings import kafka_settings
from kernel.metering import MeteringObserver, measure_lag
from kernel.processor import Bounds, Ports, run_in_group
from kernel.service import Service, run_service
from kernel.settings import read_settings
from kernel.telling import TellingObserver
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from scheduler.settings import Settings

GROUP = "scheduler"
BOUNDS = Bounds(snapshot_step_records=64, snapshot_step_bytes=65_536, snapshot_rest_seconds=30.0)
"""Small steps of snapshots, because inputs wait for them; and none while a takeover has most to do."""


async def serve(service: Service) -> None:
    """Serve until told to end."""
    settings = read_settings(Settings, "SCHEDULER_", service.environ)
    kafka = kafka_settings(service.environ)
    log = await service.reach(f"Kafka at {kafka.bootstrap}", lambda: KafkaLog.open(kafka, service.clock))
    service.parts.push_async_callback(log.close)
    deciders = (Advance(), Dispatch())
    ledgers = [decider.ledger for decider in deciders]
    group = await service.reach(
        f"the group {GROUP}",
        lambda: Membership.join(
            kafka, GROUP, ledgers, service.clock, member=service.member, session_ms=settings.session_ms
        ),
    )
    service.parts.push_async_callback(group.leave)
    service.health.conditions["group"] = lambda: group.is_member
    observer = MeteringObserver(service.metrics, TellingObserver(), service.clock, tracer=service.tracer)
    ports = Ports(
        log,
        codec,
        service.clock,
        service.entropy,
        owner=service.member,
        hint=log.snapshot_hint(),
        observer=observer,
        bounds=BOUNDS,
    )
    owned = {decider.name: group.proposals(decider.ledger) for decider in deciders}
    standing = partial(observer.standing, lambda decider, partition: partition in owned[decider].now)
    service.beside(log.watch_topics(), name="watch of the topics")
    service.beside(measure_lag(service.metrics, log, service.clock, standing), name="lag")
    service.started()
    await run_in_group(deciders, ports, group, service.stop, drain_seconds=settings.drain_seconds)


def main() -> int:
    """Run the process; its exit code."""
    return run_service("scheduler", serve)
