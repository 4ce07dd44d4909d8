"""The one platform process: all services over one folder. The composition root of the embedded form.

Order of the start: the folder's lock (proof that every earlier life is over), log and tables, the proof of death to
`dispatch`, deciders and runner, gateway. Order of the end: no new work, attempts hand back, open requests are
answered, deciders checkpoint.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from api_gateway.draining import Drain
from api_gateway.gateway import Services as GatewayServices
from api_gateway.migrations import migrations as gateway_migrations
from api_gateway.projecting import Projector
from api_gateway.registry.decider import RegistryDecider
from api_gateway.runner_slots import follow_runners
from api_gateway.settings import Settings as GatewaySettings
from api_gateway.signed_url import SigningKeys
from api_gateway.waiting import Waiters
from artifact_store.inprocess import Store, open_local, open_store
from artifact_store.naming import Naming
from artifact_store.tables import migrations as store_migrations
from browser_runner.egress_proxy import EgressProxy
from browser_runner.runner import Runner
from browser_runner.services import Services as RunnerServices
from browser_runner.watchdog import Liveness
from embedded.browsers import open_browsers
from embedded.checks import checks
from embedded.collecting import Collecting
from embedded.folder import kept_bytes, kept_uuid
from embedded.hints import BOUNDS, SqlHint
from embedded.keys import first_api_key
from embedded.measuring import Measuring
from embedded.ports import check_free
from embedded.retention import Retention
from embedded.settings import PARTITIONS, Settings, read_settings
from embedded.tables import MIGRATIONS
from embedded.telling import PlatformObserver, log_to
from embedded.trimming import Trimming
from embedded.upkeep import Upkeep
from kernel.clock import Clock, SystemClock
from kernel.domain.decider import Decider
from kernel.domain.ids import Incarnation
from kernel.domain.task import RunnerDied
from kernel.domain.values import Pool, pool_key
from kernel.egress.dialer import Dialer
from kernel.egress.policy import Policy, parse_networks
from kernel.errors import Permanent
from kernel.fence import Fence
from kernel.ids import Entropy, SystemEntropy
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.sqlite import SqliteLog
from kernel.log.topics import TOPICS, Topic, partition_of
from kernel.processor import Ports, run_decider
from kernel.redaction import LiveSecrets
from kernel.refusing import run_plainly
from kernel.sealing import SubjectKeys
from kernel.sql.port import Database, migrate
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from kernel.tracing import open_tracer
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from scheduler.health_loop import HealthLoop

_log = structlog.get_logger("embedded.platform")


@dataclass(frozen=True, slots=True)
class Ground:
    """What everything stands on."""

    settings: Settings
    clock: Clock
    entropy: Entropy
    db: Database
    log: SqliteLog
    fence: Fence
    store: Store
    live: LiveSecrets
    host_id: str
    incarnation: Incarnation
    measuring: Measuring


async def open_ground(settings: Settings, stack: AsyncExitStack, live: LiveSecrets) -> Ground:
    """Open the folder; `LogRefused` or `Permanent` when it cannot be used. What was opened is closed by `stack`."""
    clock, entropy = SystemClock(), SystemEntropy()
    measuring = Measuring(clock, open_tracer("towpath", "towpath", os.environ))
    stack.push_async_callback(asyncio.to_thread, measuring.tracer.close)
    file = await SqliteFile.open(settings.database)
    stack.push_async_callback(file.close)
    db = SqliteDatabase(file)
    log = await SqliteLog.open(file, dict.fromkeys(TOPICS, PARTITIONS), clock, entropy)
    stack.push_async_callback(log.close)
    fence = Fence(log, codec.decode, clock)
    stack.push_async_callback(fence.close)
    await migrate(db, [*gateway_migrations(db.dialect), *store_migrations(db.dialect), *MIGRATIONS])
    blobs, used = await open_local(settings.blobs), measuring.store.used
    store = await open_store(blobs, settings.keyring, db, fence, clock=clock, entropy=entropy, used=used)
    measuring.show_files(settings.data, settings.keyring)
    host_id = kept_uuid(settings.data / "host-id", entropy)
    incarnation = Incarnation(entropy.uuid())
    return Ground(settings, clock, entropy, db, log, fence, store, live, host_id, incarnation, measuring)


async def open_ended(settings: Settings, stack: AsyncExitStack) -> Ground:
    """As `open_ground`, for commands beside no platform: `Permanent("no_such_folder")` where none has ever been."""
    if not await asyncio.to_thread(settings.database.exists):
        raise Permanent("no_such_folder", f"there is no Towpath in {settings.data}; set TOWPATH_DATA")
    return await open_ground(settings, stack, LiveSecrets())


async def tell_deaths(ground: Ground) -> None:
    """The folder's lock is ours: every earlier incarnation on this host is dead."""
    for pool in Pool:
        died = RunnerDied(Incarnation(""), ground.host_id, ground.incarnation, pool)
        key = pool_key(pool)
        partition = partition_of(key, ground.log.partitions(Topic.DISPATCH))
        envelope = Envelope(id=ground.entropy.uuid(), time_ms=ground.clock.now_ms(), subject=ground.host_id)
        record = codec.encode(died, topic=Topic.DISPATCH, key=key, envelope=envelope, partition=partition)
        await ground.log.append([record])


def gateway_settings(settings: Settings, entropy: Entropy) -> GatewaySettings:
    """Settings of the gateway; its secrets are files of the folder."""
    return GatewaySettings(
        pepper=kept_bytes(settings.data / "pepper", 32, entropy),
        signing_keys=SigningKeys("k1", {"k1": kept_bytes(settings.data / "signing-key", 32, entropy)}),
        public_url=settings.url,
        open_hosts=frozenset({"127.0.0.1", "localhost"}) if settings.allows_loopback else frozenset(),
        rate_per_minute=settings.rate_per_minute,
        rate_burst=settings.rate_burst,
        address_rate_per_minute=settings.address_rate_per_minute,
        address_rate_burst=settings.address_rate_burst,
        open_requests_max=settings.open_requests_max,
        open_streams_max=settings.open_streams_max,
        trusted_proxies=parse_networks(settings.trusted_proxies),
    )


async def run_platform(settings: Settings, live: LiveSecrets, stop: asyncio.Event) -> None:
    """Serve until `stop`; then drain. Raises what makes the folder unusable."""
    check_free(settings.port)
    async with AsyncExitStack() as stack:
        ground = await open_ground(settings, stack, live)
        keys = SubjectKeys(ground.store.vault, ground.clock)
        trimming = Trimming(ground.log, ground.clock)
        deciders: list[Decider] = [RegistryDecider(), Advance(), Dispatch()]
        collecting = Collecting(len(deciders) * PARTITIONS)
        observer = ground.measuring.observer(PlatformObserver(trimming.decided, collecting.restored))
        ports = Ports(
            ground.log,
            codec,
            ground.clock,
            ground.entropy,
            owner=ground.incarnation,
            hint=SqlHint(ground.db),
            observer=observer,
            bounds=BOUNDS,
            at_end=ground.log,
        )
        await tell_deaths(ground)
        runner = await _open_runner(ground, keys, stack)
        gateway = _gateway(ground, keys)
        deciders_stop = asyncio.Event()
        await first_api_key(settings, ground.db, gateway.settings.pepper, ground.clock, ground.entropy)
        async with asyncio.TaskGroup() as group:
            owners = [group.create_task(run_decider(decider, ports, deciders_stop)) for decider in deciders]
            facts = ground.measuring.facts(ground.db)
            projector = Projector(
                ground.log, ground.db, gateway.waiters, ground.clock, measured=ground.measuring.each(facts)
            )
            projecting = group.create_task(projector.run())
            measuring = group.create_task(ground.measuring.run(ground.log, facts, observer, projector))
            following = group.create_task(follow_runners(gateway.slots, ground.log, ground.clock))
            watching = group.create_task(HealthLoop(ground.log, ground.db, ground.clock).run())
            upkeep = group.create_task(_upkeep(ground, trimming).run())
            running = group.create_task(runner.run())
            serving = group.create_task(_serve(gateway, settings.port))
            await stop.wait()
            _log.info("platform.draining", held=runner.held)
            gateway.drain.begin()
            runner.drain()
            await running
            # Who is being answered gets an outcome: deciders and projector are still there for that.
            serving.cancel()
            await asyncio.wait([serving])
            deciders_stop.set()
            await asyncio.wait(owners)
            for task in (projecting, following, watching, upkeep, measuring):
                task.cancel()


def _upkeep(ground: Ground, trimming: Trimming) -> Upkeep:
    naming = Naming(ground.store.bytes, ground.db, ground.log, ground.clock)
    days = ground.settings.retention_days
    retention = Retention(days, ground.db, ground.log, naming, ground.clock) if days else None
    return Upkeep(ground.store, ground.db, ground.clock, naming, trimming, retention)


async def _serve(gateway: GatewayServices, port: int) -> None:
    """Load the server while deciders and runner are at work: after a death they are what others wait for."""
    serving = await asyncio.to_thread(importlib.import_module, "api_gateway.serving")
    await serving.serve(gateway, "127.0.0.1", port)


async def _open_runner(ground: Ground, keys: SubjectKeys, stack: AsyncExitStack) -> Runner:
    settings = ground.settings
    policy = Policy(parse_networks(settings.egress_allow))
    meter = ground.measuring.runner
    proxy = EgressProxy(Dialer(policy), ground.fence, ground.entropy, count_denied=meter.denied)
    await proxy.start()
    stack.push_async_callback(proxy.close)
    browsers = await open_browsers(settings, stack, meter)
    services = RunnerServices(
        log=ground.log,
        clock=ground.clock,
        entropy=ground.entropy,
        fence=ground.fence,
        store=ground.store.bytes,
        vault=ground.store.vault,
        keys=keys,
        live=ground.live,
        incarnation=ground.incarnation,
        host_id=ground.host_id,
        inbox_partition=partition_of(ground.incarnation, ground.log.partitions(Topic.RUNNER_INBOX)),
        browsers=browsers,
        egress=proxy,
        tracer=ground.measuring.tracer,
    )
    slots = {Pool.LIGHT: settings.light_slots}
    if browsers is not None:
        slots[Pool.BROWSER] = settings.browser_slots
    runner = Runner(services, slots, drain_seconds=settings.drain_seconds)
    runner.show_slots(meter)
    return runner


def _gateway(ground: Ground, keys: SubjectKeys) -> GatewayServices:
    return GatewayServices(
        db=ground.db,
        log=ground.log,
        clock=ground.clock,
        entropy=ground.entropy,
        keys=keys,
        store=ground.store.bytes,
        vault=ground.store.vault,
        waiters=Waiters(),
        drain=Drain(),
        settings=gateway_settings(ground.settings, ground.entropy),
        checks=checks(ground.settings, ground.clock),
        metrics=ground.measuring.metrics,
        tracer=ground.measuring.tracer,
    )


async def _main(settings: Settings) -> None:
    live = LiveSecrets()
    log_to(settings.log_file, live)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    alive = asyncio.create_task(Liveness(os.environ).keep_beating(SystemClock()))
    try:
        await run_platform(settings, live, stop)
    finally:
        alive.cancel()


def main() -> None:
    """The platform process; started by the watchdog.

    A refusal ends it with one clear line and a code that the watchdog does not restart; a commit of unknown outcome
    with one line, and a restart.
    """
    import uvloop  # noqa: PLC0415 (only this process needs the loop)

    code = run_plainly("", lambda: uvloop.run(_main(read_settings())))
    if code:
        sys.exit(code)
