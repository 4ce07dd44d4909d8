"""One life of a runner: browsers, fence, way out and runner put together, served until SIGTERM.

The composition root of the service: with `watching`, its parent process, the only file of it that names an adapter.

The egress proxy runs in this process: it dies with the runner whose browsers it serves, and its fence reads the log
before anything passes, however long the process was paused.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from browser_runner.browser import ChromiumPool
from browser_runner.egress_proxy import EgressProxy
from browser_runner.measuring import RunnerMeter
from browser_runner.ports import BrowserPool, Egress
from browser_runner.runner import Runner
from browser_runner.services import Services
from browser_runner.settings import Settings, settings_from
from browser_runner.watchdog import INCARNATION_VARIABLE, Liveness
from kernel.clock import Clock
from kernel.domain.ids import Incarnation
from kernel.domain.values import Pool
from kernel.egress.dialer import Dialer
from kernel.egress.policy import Policy, parse_networks
from kernel.errors import Permanent, Temporary
from kernel.fence import Fence
from kernel.ids import Entropy
from kernel.log.codec import decode
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import kafka_settings
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.metrics import Metrics
from kernel.redaction import LiveSecrets
from kernel.refusing import Unreached
from kernel.sealing import SubjectKeys
from kernel.service import Service, run_service
from kernel.settings import file_of
from kernel.store.port import ByteStore, Vault
from kernel.store.remote import RemoteStore
from kernel.tracing import NO_TRACER, Tracer


async def run(service: Service) -> None:
    """Put the runner together and serve until told to end."""
    alive = asyncio.create_task(Liveness(service.environ).keep_beating(service.clock))
    service.parts.callback(alive.cancel)
    settings = settings_from(service.environ)
    kafka = kafka_settings(service.environ)
    if not settings.store or not settings.store_key:
        raise Permanent("setting_missing", "set BROWSER_RUNNER_STORE and BROWSER_RUNNER_STORE_KEY_FILE")
    log = await service.reach(f"Kafka at {kafka.bootstrap}", lambda: KafkaLog.open(kafka, service.clock))
    service.parts.push_async_callback(log.close)
    store = await _reach_store(service, settings)
    service.watch("kafka", lambda: log.end_offset(Topic.DISPATCH, 0))
    used = (Topic.TASK_REPORTS, Topic.DISPATCH, Topic.RUNNER_INBOX)
    service.beside(log.watch_topics(*used), name="watch of the topics")
    service.watch("artifact store", store.check)
    await serve(
        settings,
        log,
        store.bytes,
        store.vault,
        clock=service.clock,
        entropy=service.entropy,
        live=service.live,
        stop=service.stop,
        incarnation=Incarnation(service.environ.get(INCARNATION_VARIABLE, "")),
        serving=service.started,
        measures=service.metrics,
        tracer=service.tracer,
    )


async def _reach_store(service: Service, settings: Settings) -> RemoteStore:
    store = RemoteStore(
        settings.store,
        settings.store_key,
        clock=service.clock,
        entropy=service.entropy,
        root_certificate=file_of(settings.store_ca_path) if settings.store_ca_path else None,
    )
    service.parts.push_async_callback(store.close)
    await service.reach(f"the artifact store at {settings.store}", store.check)
    return store


async def serve(
    settings: Settings,
    log: EventLog,
    store: ByteStore,
    vault: Vault,
    *,
    clock: Clock,
    entropy: Entropy,
    live: LiveSecrets,
    stop: asyncio.Event,
    incarnation: Incarnation = Incarnation(""),
    serving: Callable[[], None] | None = None,
    measures: Metrics | None = None,
    tracer: Tracer = NO_TRACER,
) -> None:
    """Serve until `stop` is set, then drain. Raises `LogRefused`, and `Permanent` or `Unreached` when
    no browser may or does start.

    `incarnation` is fresh for every life of the process (drawn when it is empty). `serving` is called once browsers
    are there and the first heartbeat is about to be sent.
    """
    incarnation, meter = incarnation or Incarnation(entropy.uuid()), RunnerMeter(measures or Metrics())
    async with AsyncExitStack() as cleanup:
        fence = Fence(log, decode, clock)
        cleanup.push_async_callback(fence.close)
        browsers, egress = await _open_browsers(settings, fence, entropy, cleanup, meter)
        services = Services(
            log=log,
            clock=clock,
            entropy=entropy,
            fence=fence,
            store=store,
            vault=vault,
            keys=SubjectKeys(vault, clock),
            live=live,
            incarnation=incarnation,
            host_id=settings.host_id or socket.gethostname(),
            inbox_partition=partition_of(incarnation, log.partitions(Topic.RUNNER_INBOX)),
            browsers=browsers,
            egress=egress,
            unsandboxed=browsers is not None and os.geteuid() == 0,
            session_days=settings.session_days,
            tracer=tracer,
        )
        runner = Runner(services, _slots(settings), drain_seconds=settings.drain_seconds)
        runner.show_slots(meter)
        draining = asyncio.create_task(_drain_at(stop, runner))
        if serving is not None:
            serving()
        try:
            await runner.run()
        finally:
            draining.cancel()


async def _open_browsers(
    settings: Settings, fence: Fence, entropy: Entropy, cleanup: AsyncExitStack, meter: RunnerMeter
) -> tuple[BrowserPool | None, Egress | None]:
    if not settings.browser_slots:
        return None, None
    if settings.sandbox and os.geteuid() == 0:
        why = "as root a browser has no sandbox: use an ordinary user, or set BROWSER_RUNNER_SANDBOX=false for a trial"
        raise Permanent("no_sandbox", why)
    policy = Policy(parse_networks(settings.allowed_networks))
    proxy = EgressProxy(Dialer(policy), fence, entropy, host=settings.proxy_host, count_denied=meter.denied)
    await proxy.start()
    cleanup.push_async_callback(proxy.close)
    pool = ChromiumPool(
        settings.browser_path,
        slots=settings.browser_slots,
        runs_per_browser=settings.runs_per_browser,
        headless=settings.headless,
        launched=meter.launched,
        crashed=meter.crashed,
    )
    cleanup.push_async_callback(pool.close)
    try:
        await pool.start()
    except Temporary as error:
        raise Unreached(f"no browser starts: {error.message}") from None
    return pool, proxy


def _slots(settings: Settings) -> dict[Pool, int]:
    slots = {Pool.BROWSER: settings.browser_slots, Pool.LIGHT: settings.light_slots}
    return {pool: count for pool, count in slots.items() if count}


async def _drain_at(stop: asyncio.Event, runner: Runner) -> None:
    await stop.wait()
    runner.drain()


def main() -> int:
    """Run one life; its exit code."""
    return run_service("browser-runner", run, environ=os.environ)
