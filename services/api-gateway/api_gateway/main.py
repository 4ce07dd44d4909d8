"""The process of the gateway: REST, the registry's deciders and the projections, on the partitions its group proposes.

The composition root of the service: the only file of it that names an adapter. Any number of them may run: each answers
every request, whichever of them decides or projects what it is about.

Order of the end: say so to probes and streams, answer what is under way, hand over partitions, close.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from api_gateway import cluster_checks, key_ages, serving
from api_gateway.cluster_checks import ClusterParts
from api_gateway.draining import Drain
from api_gateway.following import Following
from api_gateway.gateway import Services
from api_gateway.idempotency import forget_answers
from api_gateway.key_ages import KeyFile
from api_gateway.key_store import KeyStore
from api_gateway.measuring import FactMeter
from api_gateway.migrations import migrations
from api_gateway.projecting import each
from api_gateway.rebuilding import rebuild_beside
from api_gateway.registry.decider import RegistryDecider
from api_gateway.retention import Forgetting
from api_gateway.runner_slots import RunnerSlots, follow_runners
from api_gateway.settings import ProcessSettings, settings_from
from api_gateway.tracing_facts import FactTracer
from api_gateway.upkeep import keep_house, sweep
from kernel.clock import Clock, SystemClock
from kernel.domain.ids import OrganizationId
from kernel.errors import Rejected
from kernel.ids import Entropy, SystemEntropy
from kernel.listening import check_free
from kernel.log import codec
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.membership import Membership
from kernel.log.kafka.settings import KafkaSettings, kafka_settings
from kernel.log.topics import Topic
from kernel.metering import MeteringObserver, Standing, measure_lag
from kernel.processor import Bounds, Ports, run_in_group
from kernel.refusing import run_command
from kernel.sealing import SubjectKeys
from kernel.service import Service, run_service
from kernel.settings import file_of, read_settings
from kernel.sql.migrating import run_migrate
from kernel.sql.port import migrate
from kernel.sql.postgres.settings import postgres_settings
from kernel.store.remote import RemoteStore
from kernel.telling import TellingObserver

GROUP = "api-gateway"
BOUNDS = Bounds(snapshot_step_records=64, snapshot_step_bytes=65_536, snapshot_rest_seconds=30.0)
_USAGE = """usage: python -m api_gateway
       python -m api_gateway migrate [--check]
       python -m api_gateway rebuild
       python -m api_gateway create-organization
       python -m api_gateway create-key ORGANIZATION_ID
       python -m api_gateway erase ORGANIZATION_ID EXTERNAL_ID"""


async def run(service: Service) -> None:
    """Put the gateway together and serve until told to end."""
    settings, process = settings_from(service.environ)
    check_free(process.address.host, process.address.port, "another process has it; set API_GATEWAY_ADDRESS")
    kafka, postgres = kafka_settings(service.environ), postgres_settings(service.environ)
    log = await service.reach(f"Kafka at {kafka.bootstrap}", lambda: KafkaLog.open(kafka, service.clock))
    service.parts.push_async_callback(log.close)
    db = await service.reach(f"PostgreSQL at {postgres.place}", postgres.open)
    service.parts.push_async_callback(db.close)
    await migrate(db, migrations(db.dialect))
    store = await _reach_store(service, process)
    meter, tracer = FactMeter(service.metrics, db, service.clock), FactTracer(service.tracer, service.clock)
    following = await Following.open(
        log, db, postgres.signals(), service.clock, measured=each(meter.projected, tracer.projected)
    )
    group, slots = await _join(service, kafka, process), RunnerSlots()
    service.watch("kafka", lambda: log.end_offset(Topic.RUN_REQUESTS, 0))
    service.beside(log.watch_topics(), name="watch of the topics")
    service.watch("artifact store", store.check)

    async def is_ready() -> bool:
        return service.health.is_ready and await following.is_ready()

    gateway = Services(
        db=db,
        log=log,
        clock=service.clock,
        entropy=service.entropy,
        keys=SubjectKeys(store.vault, service.clock),
        store=store.bytes,
        vault=store.vault,
        waiters=following.waiters,
        drain=Drain(),
        settings=settings,
        is_ready=is_ready,
        checks=(
            *cluster_checks.checks(ClusterParts(kafka, log, db, group, service.clock, slots)),
            key_ages.check(_key_files(service.environ), service.clock),
        ),
        slots=slots,
        metrics=service.metrics,
        tracer=service.tracer,
    )
    hint, observer = (
        log.snapshot_hint(),
        MeteringObserver(service.metrics, TellingObserver(), service.clock, tracer=service.tracer),
    )
    ports = Ports(
        log, codec, service.clock, service.entropy, service.member, hint=hint, observer=observer, bounds=BOUNDS
    )

    def standing() -> Iterable[Standing]:
        owned = group.proposals(RegistryDecider().ledger).now
        return (*observer.standing(lambda _, partition: partition in owned), *following.projector.standing())

    service.beside(measure_lag(service.metrics, log, service.clock, standing), name="lag")
    service.beside(meter.run(), name="measuring")
    service.started()
    await _Process(service, process, gateway, following, group, ports).run()


def _key_files(environ: Mapping[str, str]) -> list[KeyFile]:
    """The gateway's own. Of the pepper there is no limit: it lasts as long as the API keys that it has hashed."""
    signing = (
        "add a signing key behind the old one, restart the gateways, put it in front, restart them again,"
        " and take the old one out a quarter of an hour later"
    )
    return [
        KeyFile("signing keys", Path(environ["API_GATEWAY_SIGNING_KEYS_FILE"]), signing),
        KeyFile("pepper", Path(environ["API_GATEWAY_PEPPER_FILE"])),
    ]


async def _reach_store(service: Service, process: ProcessSettings) -> RemoteStore:
    store = _store_of(process, service.clock, service.entropy)
    service.parts.push_async_callback(store.close)
    await service.reach(f"the artifact store at {process.store}", store.check)
    return store


def _store_of(process: ProcessSettings, clock: Clock, entropy: Entropy) -> RemoteStore:
    certificate = file_of(process.store_ca_path) if process.store_ca_path else None
    return RemoteStore(process.store, process.store_key, clock=clock, entropy=entropy, root_certificate=certificate)


async def _join(service: Service, kafka: KafkaSettings, process: ProcessSettings) -> Membership:
    topics = (RegistryDecider().ledger, Topic.JOB_RUNS)
    group = await service.reach(
        f"the group {GROUP}",
        lambda: Membership.join(
            kafka, GROUP, topics, service.clock, member=service.member, session_ms=process.session_ms
        ),
    )
    service.parts.push_async_callback(group.leave)
    service.health.conditions["group"] = lambda: group.is_member
    return group


@dataclass(frozen=True, slots=True)
class _Process:
    """What runs side by side."""

    service: Service
    settings: ProcessSettings
    gateway: Services
    following: Following
    group: Membership
    ports: Ports

    async def run(self) -> None:
        """Serve until told to end. Whoever is being answered still gets an outcome: deciding ends after serving."""
        gateway, address, closing = self.gateway, self.settings.address, asyncio.Event()
        async with asyncio.TaskGroup() as running:
            deciding = running.create_task(
                run_in_group(
                    [RegistryDecider()], self.ports, self.group, closing, drain_seconds=self.settings.drain_seconds
                )
            )
            others = [
                running.create_task(self.following.run(self.group.proposals(Topic.JOB_RUNS))),
                running.create_task(follow_runners(gateway.slots, gateway.log, gateway.clock)),
                running.create_task(keep_house(self._tidy, gateway.clock, self._is_housekeeper)),
            ]
            answering = running.create_task(serving.serve(gateway, address.host, address.port))
            await self.service.stop.wait()
            gateway.drain.begin()
            answering.cancel()
            await asyncio.wait([answering])
            closing.set()
            await asyncio.wait([deciding])
            for task in others:
                task.cancel()

    async def _tidy(self) -> None:
        await sweep(self.gateway.db, self.gateway.clock)
        if days := self.settings.retention_days:
            await Forgetting(days, self.gateway.db, self.gateway.store, self.gateway.clock).forget()

    def _is_housekeeper(self) -> bool:
        """One gateway of all is enough, and several do no harm."""
        return 0 in self.group.proposals(Topic.JOB_RUNS).now


def main(arguments: Sequence[str]) -> int:
    """Run the process, or a command of it; the exit code."""
    match arguments:
        case []:
            return run_service(GROUP, run)
        case ["migrate"] | ["migrate", "--check"]:
            return run_command(GROUP, lambda: _migrate(check="--check" in arguments))
        case ["rebuild"]:
            return run_command(GROUP, _rebuild)
        case ["create-organization"]:
            return run_command(GROUP, lambda: _create_key(""))
        case ["create-key", organization]:
            return run_command(GROUP, lambda: _create_key(organization))
        case ["erase", organization, external_id]:
            return run_command(GROUP, lambda: _erase(OrganizationId(organization), external_id))
        case _:
            print(_USAGE, file=sys.stderr)  # noqa: T201 (a command)
            return 2


async def _migrate(*, check: bool) -> int:
    return await run_migrate(postgres_settings(os.environ).open_unhurried, migrations("postgres"), check=check)


async def _create_key(organization: str) -> int:
    """Make a key of level admin, of a new organization when none is named."""
    pepper = read_settings(_Pepper, "API_GATEWAY_", os.environ).pepper
    db = await postgres_settings(os.environ).open()
    try:
        await migrate(db, migrations(db.dialect))
        created = await KeyStore(db, pepper, SystemClock(), SystemEntropy()).create_by_operator(organization)
    finally:
        await db.close()
    print(f"organization  {created.answer.organization_id}")  # noqa: T201 (a command)
    print(f"API key       {created.text}   (level admin; shown once, kept nowhere)")  # noqa: T201 (a command)
    return 0


async def _erase(organization: OrganizationId, external_id: str) -> int:
    """Delete the data key of an end customer, secrets, sessions, blobs and kept answers, while everything works."""
    _, process = settings_from(os.environ)
    db = await postgres_settings(os.environ).open()
    store = _store_of(process, SystemClock(), SystemEntropy())
    try:
        subject = await store.vault.find_subject(organization, external_id)
        if subject is None:
            raise Rejected("not_found", "nothing is kept of such a customer")
        await store.vault.erase_subject(subject)
        await forget_answers(db, organization)
    finally:
        await store.close()
        await db.close()
    print("Erased. What topics and backups still hold cannot be read by anyone.")  # noqa: T201 (a command)
    return 0


async def _rebuild() -> int:
    """Project everything anew, beside the tables that gateways serve meanwhile."""
    # The batches at work are a million objects without cycles; to look through them took a third of the time.
    gc.set_threshold(2_000_000)
    clock = SystemClock()
    kafka, postgres = kafka_settings(os.environ), postgres_settings(os.environ)
    log = await KafkaLog.open(kafka, clock)
    try:
        db = await postgres.open()
        try:
            count = await rebuild_beside(log, db, clock, tell=_tell)
        finally:
            await db.close()
    finally:
        await log.close()
    print(f"projected {count:,} records")  # noqa: T201 (a command)
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (a command)


@dataclass(frozen=True, slots=True)
class _Pepper:
    pepper: bytes = field(repr=False)
