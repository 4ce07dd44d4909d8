"""The process of the artifact store: opens the store, listens, sweeps once an hour, and drains at SIGTERM.

The database and the fence are handed in by whoever starts the process: they are shared with nobody here, and which
ones they are depends on the way of running.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

import structlog

from artifact_store.inprocess import Store, open_store
from artifact_store.server import ServiceKeys, StoreServer, tls_credentials
from artifact_store.settings import Settings
from kernel.clock import Clock
from kernel.errors import Permanent, TowpathError
from kernel.ids import Entropy
from kernel.sql.port import Database
from kernel.store.port import TokenCheck

_LOG = structlog.get_logger()


async def serve(
    settings: Settings,
    db: Database,
    token_check: TokenCheck,
    *,
    clock: Clock,
    entropy: Entropy,
    stop: asyncio.Event,
    listening: Callable[[int], None] | None = None,
) -> None:
    """Serve until `stop` is set, then drain. `listening` is told the port once health says SERVING."""
    keys = _service_keys(settings)
    store = await open_store(
        settings.folder,
        settings.keyring_path,
        db,
        token_check,
        clock=clock,
        entropy=entropy,
        blob_bytes_max=settings.blob_bytes_max,
    )
    credentials = tls_credentials(settings.tls_certificate_path, settings.tls_key_path)
    server = StoreServer(store.bytes, store.vault, keys, address=settings.address, credentials=credentials)
    await server.start()
    if listening is not None:
        listening(server.port)
    sweeping = asyncio.create_task(_sweep_for_ever(store, clock, settings.sweep_seconds))
    try:
        await stop.wait()
    finally:
        sweeping.cancel()
        await server.drain(settings.drain_seconds)
        with contextlib.suppress(asyncio.CancelledError):
            await sweeping


def stop_at_sigterm(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM or SIGINT; called once, on the running loop of the main thread."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _service_keys(settings: Settings) -> ServiceKeys:
    gateway, runner = (path.read_text().strip() for path in (settings.gateway_key_path, settings.runner_key_path))
    if not gateway or not runner or gateway == runner:
        raise Permanent("setting_malformed", "the service keys of gateway and runner must differ and not be empty")
    return ServiceKeys(gateway, runner)


async def _sweep_for_ever(store: Store, clock: Clock, pause_seconds: float) -> None:
    while True:
        try:
            swept = await store.sweep(clock.now_ms())
            _LOG.info("swept", things=swept)
        except TowpathError as error:
            _LOG.warning("sweep_failed", error=str(error))
        await clock.sleep(pause_seconds)
