"""The process of the artifact store: opens the store, listens, does the housework in its turn, drains at SIGTERM.

The composition root of the service: the only file of it that names an adapter. With blobs in a bucket any number of
them may run; with blobs in a folder, one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from artifact_store.blobs.opening import open_blobs
from artifact_store.blobs.port import BlobStore
from artifact_store.inprocess import Store, open_store
from artifact_store.measuring import StoreMeter
from artifact_store.naming import NAMING_TOPICS, Naming
from artifact_store.server import ServiceKeys, StoreServer, tls_credentials
from artifact_store.settings import Settings, settings_from
from artifact_store.tables import migrations
from artifact_store.turns import Turn
from artifact_store.upkeep import Upkeep
from artifact_store.vault.rotation import rotate, told
from kernel.clock import Clock
from kernel.errors import Permanent
from kernel.fence import Fence
from kernel.ids import Entropy, SystemEntropy
from kernel.log import codec
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import kafka_settings
from kernel.log.port import EventLog
from kernel.log.topics import Topic
from kernel.metrics import Metrics
from kernel.refusing import run_command
from kernel.service import Service, run_service
from kernel.sql.migrating import run_migrate
from kernel.sql.port import Database
from kernel.sql.postgres.settings import postgres_settings
from kernel.store.port import TokenCheck

NAMING_POLL_BYTES = 256 * 1024
"""Naming reads all that is decided, and nobody waits for it: it takes what has come a few times a second at most."""
_USAGE = "usage: python -m artifact_store [migrate [--check] | rotate-keyring]"


async def run(service: Service) -> None:
    """Put the store together and serve until told to end."""
    settings = settings_from(service.environ)
    kafka, postgres = kafka_settings(service.environ), postgres_settings(service.environ)
    log = await service.reach(f"Kafka at {kafka.bootstrap}", lambda: KafkaLog.open(kafka, service.clock))
    service.parts.push_async_callback(log.close)
    patient = replace(kafka, poll_bytes=NAMING_POLL_BYTES)
    unhurried = await service.reach(
        f"Kafka at {kafka.bootstrap}", lambda: KafkaLog.open(patient, service.clock, topics=NAMING_TOPICS)
    )
    service.parts.push_async_callback(unhurried.close)
    fence = Fence(log, codec.decode, service.clock)
    service.parts.push_async_callback(fence.close)
    db = await service.reach(f"PostgreSQL at {postgres.place}", postgres.open)
    service.parts.push_async_callback(db.close)
    blobs = await service.reach(
        "the store of blobs", lambda: open_blobs(settings, service.parts, service.clock, service.entropy)
    )
    service.watch("postgres", lambda: db.fetch_one("SELECT 1"))
    service.watch("kafka", lambda: log.end_offset(Topic.TASK_REPORTS, 0))
    service.beside(log.watch_topics(Topic.TASK_REPORTS, *NAMING_TOPICS), name="watch of the topics")
    await serve(
        settings,
        blobs,
        db,
        fence,
        clock=service.clock,
        entropy=service.entropy,
        stop=service.stop,
        listening=lambda _: service.started(),
        measures=service.metrics,
        housework=lambda store: _upkeep(store, settings, db, unhurried, service).run(),
    )


def _upkeep(store: Store, settings: Settings, db: Database, log: EventLog, service: Service) -> Upkeep:
    naming = Naming(store.bytes, db, log, service.clock)
    turn = Turn("upkeep", service.entropy.uuid(), db, service.clock)
    return Upkeep(store, naming, turn, service.clock, settings.sweep_seconds)


async def serve(
    settings: Settings,
    blobs: BlobStore,
    db: Database,
    token_check: TokenCheck,
    *,
    clock: Clock,
    entropy: Entropy,
    stop: asyncio.Event,
    listening: Callable[[int], None] | None = None,
    measures: Metrics | None = None,
    housework: Callable[[Store], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until `stop` is set, then drain. `listening` is told the port once health says SERVING.

    `housework` runs beside it; without one nothing is swept.
    """
    keys, meter = _service_keys(settings), StoreMeter(measures or Metrics(), clock)
    meter.show_keyring(settings.keyring_path)
    if settings.folder is not None:
        meter.show_disk(settings.folder)
    store = await open_store(
        blobs,
        settings.keyring_path,
        db,
        token_check,
        clock=clock,
        entropy=entropy,
        blob_bytes_max=settings.blob_bytes_max,
        used=meter.used,
    )
    credentials = tls_credentials(settings.tls_certificate_path, settings.tls_key_path)
    server = StoreServer(store.bytes, store.vault, keys, address=settings.address, credentials=credentials)
    await server.start()
    if listening is not None:
        listening(server.port)
    working = [] if housework is None else [asyncio.create_task(housework(store))]
    try:
        await _until_told(stop, working)
    finally:
        for task in working:
            task.cancel()
        await server.drain(settings.drain_seconds)
        await asyncio.gather(*working, return_exceptions=True)


async def _until_told(stop: asyncio.Event, working: Sequence[asyncio.Task[None]]) -> None:
    """Until `stop`; a fault in the housework ends the process, which is started again."""
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([told, *working], return_when=asyncio.FIRST_COMPLETED)
        for task in working:
            if task.done():
                task.result()
    finally:
        told.cancel()


def _service_keys(settings: Settings) -> ServiceKeys:
    try:
        gateway, runner = (path.read_text().strip() for path in (settings.gateway_key_path, settings.runner_key_path))
    except OSError as error:
        raise Permanent("setting_malformed", f"{error.filename} cannot be read: {error.strerror}") from None
    if not gateway or not runner or gateway == runner:
        raise Permanent("setting_malformed", "the service keys of gateway and runner must differ and not be empty")
    return ServiceKeys(gateway, runner)


def main(arguments: Sequence[str]) -> int:
    """Run the process, or a command of it; the exit code."""
    match arguments:
        case []:
            return run_service("artifact-store", run)
        case ["migrate"] | ["migrate", "--check"]:
            return run_command("artifact-store", lambda: _migrate(check="--check" in arguments))
        case ["rotate-keyring"]:
            return run_command("artifact-store", _rotate_keyring)
        case _:
            print(_USAGE)  # noqa: T201 (a command)
            return 2


async def _migrate(*, check: bool) -> int:
    settings = postgres_settings(os.environ)
    return await run_migrate(settings.open_unhurried, migrations("postgres"), check=check)


async def _rotate_keyring() -> int:
    settings, postgres = settings_from(os.environ), postgres_settings(os.environ)
    await _refuse_beside_a_store(settings.address)
    db = await postgres.open_unhurried()
    try:
        rotated = await rotate(db, settings.keyring_path, SystemEntropy())
    finally:
        await db.close()
    print(told(rotated))  # noqa: T201 (a command)
    return 0


async def _refuse_beside_a_store(address: str) -> None:
    """Stores at other addresses are not seen: docs tell to stop them all."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return
    writer.close()
    raise Permanent("store_runs", f"an artifact store runs at {address}: stop all of them first")
