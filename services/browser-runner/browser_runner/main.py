"""The process of the runner: browsers, fence, way out and runner put together, served until SIGTERM.

Log, store and vault are handed in by whoever starts the process; which ones they are depends on the way of running.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from browser_runner.browser import ChromiumPool
from browser_runner.egress_proxy import EgressProxy
from browser_runner.ports import BrowserPool, Egress
from browser_runner.runner import Runner
from browser_runner.services import Services
from browser_runner.settings import Settings
from kernel.clock import Clock
from kernel.domain.ids import Incarnation
from kernel.domain.values import Pool
from kernel.egress.dialer import Dialer
from kernel.egress.policy import Policy, parse_networks
from kernel.fence import Fence
from kernel.ids import Entropy
from kernel.log.codec import decode
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.redaction import LiveSecrets
from kernel.sealing import SubjectKeys
from kernel.store.port import ByteStore, Vault


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
    incarnation: Incarnation | None = None,
    keys: SubjectKeys | None = None,
) -> None:
    """Serve until `stop` is set, then drain. Raises `LogRefused`, or `Temporary` when no browser starts.

    `incarnation` is fresh for every life of the process (drawn when not given); `keys` may be shared in one process.
    """
    incarnation = incarnation or Incarnation(entropy.uuid())
    async with AsyncExitStack() as cleanup:
        fence = Fence(log, decode, clock)
        cleanup.push_async_callback(fence.close)
        browsers: BrowserPool | None = None
        egress: Egress | None = None
        if settings.browser_slots:
            proxy = EgressProxy(
                Dialer(Policy(parse_networks(settings.allowed_networks))), fence, entropy, host=settings.proxy_host
            )
            await proxy.start()
            cleanup.push_async_callback(proxy.close)
            pool = ChromiumPool(
                settings.browser_path,
                slots=settings.browser_slots,
                runs_per_browser=settings.runs_per_browser,
                headless=settings.headless,
            )
            cleanup.push_async_callback(pool.close)
            await pool.start()
            browsers, egress = pool, proxy
        services = Services(
            log=log,
            clock=clock,
            entropy=entropy,
            fence=fence,
            store=store,
            vault=vault,
            keys=keys or SubjectKeys(vault, clock),
            live=live,
            incarnation=incarnation,
            host_id=settings.host_id,
            inbox_partition=partition_of(incarnation, log.partitions(Topic.RUNNER_INBOX)),
            browsers=browsers,
            egress=egress,
            session_days=settings.session_days,
        )
        runner = Runner(services, _slots(settings), drain_seconds=settings.drain_seconds)
        draining = asyncio.create_task(_drain_at(stop, runner))
        try:
            await runner.run()
        finally:
            draining.cancel()


def _slots(settings: Settings) -> dict[Pool, int]:
    slots = {Pool.BROWSER: settings.browser_slots, Pool.LIGHT: settings.light_slots}
    return {pool: count for pool, count in slots.items() if count}


async def _drain_at(stop: asyncio.Event, runner: Runner) -> None:
    await stop.wait()
    runner.drain()
