"""Several gateways over one log and one PostgreSQL, as processes of a cluster are, but each an object of this process.

Each has a pool, a listener, a projector and a waiting room of its own; they share nothing but the log, the database and
the store. The deciders run once beside them. `crash` lets one go as a killed process does: without a word to anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from litestar import Litestar

from api_gateway.announcing import Announcements
from api_gateway.app import create_app
from api_gateway.draining import Drain
from api_gateway.following import Following
from api_gateway.gateway import Services
from api_gateway.key_store import KeyStore, NewKey
from api_gateway.migrations import migrations
from api_gateway.principal import Level
from api_gateway.projecting import Projector
from api_gateway.registry.decider import RegistryDecider
from api_gateway.settings import Settings
from artifact_store.inprocess import Store, open_local, open_store
from kernel.clock import SystemClock
from kernel.ids import SystemEntropy
from kernel.log import codec
from kernel.log.port import EventLog
from kernel.processor.loop import run_decider
from kernel.processor.ports import Ports
from kernel.proposals import Proposals
from kernel.sealing import SubjectKeys
from kernel.sql.port import migrate
from kernel.sql.postgres import PostgresDatabase, PostgresSignals
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from scheduler.advance import Advance
from tests.support.databases import schema_of_its_own
from tests.support.gateways import ACME, KEYS, PEPPER, MovableClock, client_of
from tests.support.scripted_scheduler import ScriptedScheduler
from tests.support.stores import Tokens

OpenLog = Callable[[], Awaitable[EventLog]]


@dataclass
class Replica:
    """One gateway of several; `api` asks as Acme with a write key, `admin` with one of level admin."""

    services: Services
    app: Litestar
    following: Following
    proposals: Proposals
    api: httpx.AsyncClient
    admin: httpx.AsyncClient
    db: PostgresDatabase
    running: asyncio.Task[None]

    @property
    def announcements(self) -> Announcements:
        return self.following.announcements

    @property
    def projector(self) -> Projector:
        return self.following.projector

    async def crash(self) -> None:
        """Nothing of it goes on; nobody is told."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@dataclass
class Cluster:
    """What replicas share, and the way to start one more."""

    url: str
    schema: str
    open_log: OpenLog
    store: Store
    scheduler: ScriptedScheduler
    write_key: str
    admin_key: str
    clock: MovableClock
    stack: AsyncExitStack

    async def replica(self, partitions: Iterable[int], **settings: Any) -> Replica:
        """Start a gateway that projects `partitions`; it ends with the cluster."""
        settings = {"rate_per_minute": 0, "address_rate_per_minute": 0, **settings}
        log, entropy = await self.open_log(), SystemEntropy()
        self.stack.push_async_callback(log.close)
        db = await PostgresDatabase.open(self.url, schema=self.schema, pool_max=5)
        self.stack.push_async_callback(db.close)
        following = await Following.open(log, db, PostgresSignals(self.url, schema=self.schema), self.clock)
        services = Services(
            db=db, log=log, clock=self.clock, entropy=entropy, keys=SubjectKeys(self.store.vault, self.clock),
            store=self.store.bytes, vault=self.store.vault, waiters=following.waiters, drain=Drain(),
            settings=Settings(PEPPER, KEYS, **settings), is_ready=following.is_ready,
        )  # fmt: skip
        proposals = Proposals(partitions)
        app = create_app(services)
        clients = [client_of(app, key) for key in (self.write_key, self.admin_key)]
        for client in clients:
            self.stack.push_async_callback(client.aclose)
        running = asyncio.create_task(following.run(proposals))
        replica = Replica(services, app, following, proposals, clients[0], clients[1], db, running)
        self.stack.push_async_callback(replica.crash)
        return replica


@asynccontextmanager
async def cluster_over(open_log: OpenLog, folder: Path, *, real_scheduler: bool = False) -> AsyncIterator[Cluster]:
    """Everything but the gateways. `open_log` gives each process its own; they are closed by the cluster."""
    clock, entropy = MovableClock(), SystemEntropy()
    async with AsyncExitStack() as stack:
        url, schema = await stack.enter_async_context(schema_of_its_own())
        db = await PostgresDatabase.open(url, schema=schema, pool_max=2)
        stack.push_async_callback(db.close)
        await migrate(db, migrations(db.dialect))
        file = await SqliteFile.open(folder / "store.db")
        stack.push_async_callback(file.close)
        store = await open_store(
            await open_local(folder / "bytes"),
            folder / "keyring.json",
            SqliteDatabase(file),
            Tokens(),
            clock=clock,
            entropy=entropy,
        )
        log = await open_log()
        stack.push_async_callback(log.close)
        scheduler, stop, ports = ScriptedScheduler(log, clock), asyncio.Event(), Ports(log, codec, clock, entropy)
        tasks = [
            asyncio.create_task(run_decider(Advance(), ports, stop) if real_scheduler else scheduler.run()),
            asyncio.create_task(run_decider(RegistryDecider(), ports, stop)),
        ]
        key_store = KeyStore(db, PEPPER, SystemClock(), entropy)
        write, admin = [await key_store.create(ACME, NewKey(level)) for level in (Level.WRITE, Level.ADMIN)]
        try:
            async with AsyncExitStack() as inner:
                yield Cluster(url, schema, open_log, store, scheduler, write.text, admin.text, clock, inner)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
