"""A whole gateway for tests: real database, log, store, vault, registry and projector, and HTTP without a net.

Only the scheduler is scripted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from litestar import Litestar

from api_gateway.app import create_app
from api_gateway.draining import Drain
from api_gateway.gateway import Services
from api_gateway.key_store import KeyStore, NewKey
from api_gateway.migrations import migrations
from api_gateway.principal import Level
from api_gateway.projecting import Projector
from api_gateway.registry.decider import RegistryDecider
from api_gateway.settings import Settings
from api_gateway.signed_url import SigningKeys
from api_gateway.waiting import Waiters
from artifact_store.inprocess import open_local, open_store
from kernel.clock import SystemClock
from kernel.domain.ids import OrganizationId
from kernel.ids import SystemEntropy
from kernel.log import codec
from kernel.processor.loop import run_decider
from kernel.processor.ports import Ports
from kernel.sealing import SubjectKeys
from kernel.sql.port import migrate
from scheduler.advance import Advance
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.grounds import ground_in
from tests.support.scripted_scheduler import ScriptedScheduler
from tests.support.stores import Tokens

ACME = OrganizationId("00000000-0000-4000-8000-0000000000a1")
RIVAL = OrganizationId("00000000-0000-4000-8000-0000000000b2")
PEPPER = b"p" * 32
KEYS = SigningKeys("k2", {"k2": b"2" * 32, "k1": b"1" * 32})
Json = dict[str, Any]


class MovableClock(SystemClock):
    """The machine's clock, moved forward by the test, and stopped where a test counts what comes back with time."""

    ahead_ms = 0
    _stands_at_ms: int | None = None

    def now_ms(self) -> int:
        return (super().now_ms() if self._stands_at_ms is None else self._stands_at_ms) + self.ahead_ms

    def stand_still(self) -> None:
        """From now on only `ahead_ms` moves it, however slow the machine is."""
        self._stands_at_ms = super().now_ms()


@dataclass
class RunningGateway:
    """What a test holds of one gateway. `api` asks as Acme with a write key."""

    services: Services
    app: Litestar
    clock: MovableClock
    scheduler: ScriptedScheduler
    projector: Projector
    api: httpx.AsyncClient
    reader: httpx.AsyncClient
    rival: httpx.AsyncClient
    admin: httpx.AsyncClient
    rival_admin: httpx.AsyncClient
    stranger: httpx.AsyncClient
    write_key: str
    folder: Path
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def counts(self) -> dict[str, int]:
        """How many records each topic holds: what a refused request must not change."""
        log = self.services.log
        topics = ("registry_requests", "run_requests", "definitions", "job_runs")
        return {
            topic: sum([await log.end_offset(topic, part) for part in range(log.partitions(topic))]) for topic in topics
        }


@asynccontextmanager
async def gateway_in(folder: Path, *, real_scheduler: bool = False, **settings: Any) -> AsyncIterator[RunningGateway]:
    """Start everything below `folder`, hand it over, stop it. `real_scheduler`: `advance` decides, nothing runs.

    Without further `settings` nobody is held back by a rate limit, and an outcome is waited for on a busy machine, too.
    """
    settings = {
        "rate_per_minute": 0,
        "address_rate_per_minute": 0,
        "outcome_wait_seconds": PATIENCE_SECONDS,
        **settings,
    }
    clock, entropy = MovableClock(), SystemEntropy()
    stack = AsyncExitStack()
    db, log = await stack.enter_async_context(ground_in(folder, clock))
    await migrate(db, migrations(db.dialect))
    store = await open_store(
        await open_local(folder / "bytes"), folder / "keyring.json", db, Tokens(), clock=clock, entropy=entropy
    )
    services = Services(
        db=db, log=log, clock=clock, entropy=entropy, keys=SubjectKeys(store.vault, clock), store=store.bytes,
        vault=store.vault, waiters=Waiters(), drain=Drain(), settings=Settings(PEPPER, KEYS, **settings),
    )  # fmt: skip
    projector = Projector(log, db, services.waiters, clock)
    scheduler = ScriptedScheduler(log, clock)
    stop = asyncio.Event()
    ports = Ports(log, codec, clock, entropy)
    tasks = [
        asyncio.create_task(projector.run()),
        asyncio.create_task(run_decider(Advance(), ports, stop) if real_scheduler else scheduler.run()),
        asyncio.create_task(run_decider(RegistryDecider(), ports, stop)),
    ]
    app = create_app(services)
    key_store = KeyStore(db, PEPPER, clock, entropy)
    keys = [
        await key_store.create(organization, NewKey(level))
        for organization, level in (
            (ACME, Level.WRITE), (ACME, Level.READ), (RIVAL, Level.WRITE), (ACME, Level.ADMIN), (RIVAL, Level.ADMIN)
        )
    ]  # fmt: skip
    clients = [client_of(app, text) for text in (*(key.text for key in keys), "")]
    api, reader, rival, admin, rival_admin, stranger = clients
    try:
        yield RunningGateway(
            services, app, clock, scheduler, projector, api, reader, rival, admin, rival_admin, stranger, keys[0].text,
            folder, tasks,
        )  # fmt: skip
    finally:
        for client in clients:
            await client.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stack.aclose()


def client_of(app: Litestar, key: str = "") -> httpx.AsyncClient:
    """HTTP without a net, as whoever has `key`."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # two wordings of ASGI
    return httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers=headers)


# ---------------------------------------------------------------- things that most tests need

FINISH: Json = {"id": "done", "type": "finish", "params": {}}


def steps(*more: Json, inputs: Json | None = None, required: list[str] | None = None) -> Json:
    """A small valid `stepsJson`."""
    document: Json = {"version": 1, "steps": [*more, FINISH]}
    if inputs is not None:
        document["inputSchema"] = {"type": "object", "properties": inputs, "required": required or []}
    return document


def workflow_body(name: str = "Payroll", provider: str = "gusto", **more: Any) -> Json:
    return {"name": name, "sourceProvider": provider, "type": "USER_DEFINED", "stepsJson": steps(), **more}


async def made(api: httpx.AsyncClient, path: str, body: Json) -> Json:
    """POST that must succeed with 201."""
    answer = await api.post(f"/api/v2{path}", json=body)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def a_workflow(api: httpx.AsyncClient, **more: Any) -> str:
    found: str = (await made(api, "/workflows", workflow_body(**more)))["id"]
    return found


async def a_job(api: httpx.AsyncClient, *workflow_ids: str, provider: str = "gusto") -> str:
    body = {"name": "j", "sourceProvider": provider, "jobConfigJson": {"workflowExecutionOrder": list(workflow_ids)}}
    found: str = (await made(api, "/jobs", body))["id"]
    return found


async def a_run(api: httpx.AsyncClient, **more: Any) -> str:
    workflow_id = await a_workflow(api)
    found: str = (await made(api, "/workflow-runs", {"workflowId": workflow_id, **more}))["id"]
    return found


async def seen(gateway: RunningGateway, path: str, **wanted: Any) -> Json:
    """Read until the answer has the wanted members: projections follow on their own."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found: Json = (await gateway.api.get(f"/api/v2{path}")).json()
            if all(found.get(name) == value for name, value in wanted.items()):
                return found
            await asyncio.sleep(0.002)
