"""The same simulation with the gateway's real commands, registry and projector in it.

Clients ask through `Commands`, as REST handlers do, sometimes two replicas at once under one idempotency key, and ask
again under the same key when they got no answer. The projector is one more process that may be late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from api_gateway.asking import Asker
from api_gateway.commands import Commands, StartInputs
from api_gateway.definition_commands import DefinitionCommands, NewWorkflow
from api_gateway.migrations import migrations
from api_gateway.principal import Level, Principal
from api_gateway.projecting import Projector
from api_gateway.readings import Readings
from api_gateway.registry.decider import RegistryDecider
from api_gateway.settings import Settings
from api_gateway.signed_url import SigningKeys
from api_gateway.subjects import Subjects
from api_gateway.waiting import Waiters
from artifact_store.inprocess import open_local, open_store
from kernel.domain.ids import OrganizationId, RequestId, UserId
from kernel.domain.plan import WorkflowType
from kernel.errors import Rejected, TowpathError
from kernel.ids import derived_id
from kernel.log.port import Position, Record
from kernel.sealing import SubjectKeys
from kernel.sql.port import Database, migrate
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from tests.support.simulator.runner import MODEL_STEPS
from tests.support.simulator.simulation import Scenario, Seat, Simulation
from tests.support.simulator.world import Link, Violation, WorldClock
from tests.support.stores import Tokens

ACME = Principal(OrganizationId("00000000-0000-4000-8000-0000000000a1"), UserId("user"), Level.WRITE, "key")
PAGE = {"version": 1, "steps": [{"id": "open", "type": "navigate", "params": {"url": "https://shop.example/"}}]}


class CountingLink(Link):
    """Counts what was sent, so that the simulation knows when a client waits for its outcome."""

    sent = 0

    async def append(self, records: Sequence[Record]) -> list[Position]:
        """As the log."""
        try:
            return await super().append(records)
        finally:
            self.sent += 1


@dataclass(eq=False)
class Client:
    """One call of one client, under way."""

    task: asyncio.Task[Any]
    link: CountingLink


class GatewaySimulation(Simulation):
    """Asks through the gateway. `open` first; everything else as its parent."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        super().__init__(seed, scenario)
        for partition in range(scenario.partitions):
            self.seats.append(Seat(f"registry/{partition}", RegistryDecider, partition))
        self.intents: list[tuple[str, str, str]] = []
        """(what, of whom, idempotency key) still to be asked."""
        self.clients: list[Client] = []
        self.roots: dict[str, str] = {}
        self.refused: list[str] = []
        self.jobs: list[str] = []

    def _plan_requests(self) -> None:
        """Nothing is asked behind the gateway's back."""

    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[None]:
        """Tables, vault and definitions; no fault befalls the preparation."""
        async with AsyncExitStack() as stack:
            file = await SqliteFile.open(folder / "towpath.db", readers=1)
            stack.push_async_callback(file.close)
            db: Database = SqliteDatabase(file)
            clock = WorldClock(self.world)
            await migrate(db, migrations(db.dialect))
            store = await open_store(
                await open_local(folder / "bytes"), folder / "keyring.json", db, Tokens(), clock=clock,
                entropy=self.entropy,
            )  # fmt: skip
            waiters = Waiters()
            self.projector = Projector(self.log, db, waiters, clock)
            asker = Asker(db, Link(self.log), clock, self.entropy, waiters, Settings(b"p" * 32, SIGNING))
            subjects = Subjects(store.vault, clock)
            self.definitions = DefinitionCommands(asker, store.bytes, subjects)
            self.commands = Commands(
                asker=asker, db=db, entropy=self.entropy, keys=SubjectKeys(store.vault, clock), store=store.bytes,
                vault=store.vault, subjects=subjects, readings=Readings(store.bytes),
            )  # fmt: skip
            faults, self.log.faults = self.log.faults, None
            await self._define()
            self.log.faults = faults
            for number in range(self.scenario.runs):
                self.intents.append(("start", str(number), derived_id("key", str(number))))
            yield

    async def _define(self) -> None:
        login = await self._made(
            self.definitions.create_workflow, NewWorkflow("plain", "shop", WorkflowType.LOGIN, PAGE)
        )
        for name in sorted(MODEL_STEPS):
            work = NewWorkflow(name, "shop", WorkflowType.USER_DEFINED, PAGE)
            made = await self._made(self.definitions.create_workflow, work)
            order = [login.event.workflow_id, made.event.workflow_id]
            job = await self._made(self.definitions.create_job, name, "shop", order)
            self.jobs.append(job.event.job_id)

    async def _made(self, command: Callable[..., Awaitable[Any]], *what: Any) -> Any:
        task = asyncio.ensure_future(command(ACME, *what, None))
        while not task.done():
            for seat in self.seats:
                if seat.decider is RegistryDecider:
                    await self._step(seat)
            await self.projector.catch_up()
            await asyncio.sleep(0)
        return await task

    # ------------------------------------------------------------ clients

    def _is_over(self) -> bool:
        if self.intents or self.clients:
            return False
        return len(self.roots) == self.scenario.runs and super()._is_over()

    async def _move(self) -> None:
        if self.intents and self.random.random() < 0.05:
            self._ask_as_client(self.intents.pop(self.random.randrange(len(self.intents))))
            await self._settle()
        elif self.random.random() < 0.06:
            self.world.note("the projector catches up")
            await self.projector.catch_up()
            await self._settle()
        else:
            await super()._move()

    def _ask_as_client(self, intent: tuple[str, str, str]) -> None:
        self.world.note(f"a client asks {intent}")
        for _ in range(2 if self.random.random() < 0.3 else 1):
            link = CountingLink(self.log)
            commands = replace(self.commands, asker=replace(self.commands.asker, log=link))
            self.clients.append(Client(asyncio.ensure_future(self._carry_out(commands, intent)), link))

    async def _carry_out(self, commands: Commands, intent: tuple[str, str, str]) -> None:
        what, whom, key = intent
        request_id = RequestId(derived_id(what, whom, key))
        try:
            if what == "start":
                await self._start(commands, whom, request_id)
            elif what == "cancel":
                await commands.cancel_job_run(ACME, whom, request_id)
            else:
                await commands.answer_input_request(ACME, whom, {"code": "123456"}, request_id)
        except Rejected as rejected:
            self.refused.append(rejected.code)
            if rejected.code in {"not_found", "rate_limited"}:
                self.intents.append(intent)
        except TowpathError:
            self.intents.append(intent)

    async def _start(self, commands: Commands, number: str, request_id: RequestId) -> None:
        job = self.jobs[int(number) % len(self.jobs)]
        start = StartInputs({}, {}, f"customer-{int(number) % self.scenario.logins}")
        fact = await commands.start_job_run(ACME, job, start, request_id)
        root = fact.event.job_run_id
        if self.roots.setdefault(number, root) != root:
            raise Violation(f"one key started two runs: {root} and {self.roots[number]}")
        if root not in self.asked:
            self.asked.add(root)
            if self.random.random() < self.scenario.cancels:
                self.intents.append(("cancel", root, derived_id("cancel", root)))

    async def _answer(self) -> None:
        """A person answers what the outside knows of, through the gateway."""
        for question in list(self.outside.questions)[:1]:
            self._ask_as_client(("answer", question, derived_id("answer", question)))
            self.intents = [intent for intent in self.intents if intent[1] != question]
        await self._settle()

    async def _settle(self) -> None:
        """Until every client has its answer or waits for the log; vault and tables take real time."""
        for _ in range(4000):
            self._reap()
            if all(client.link.sent for client in self.clients):
                break
            await asyncio.sleep(0.0005)
        for _ in range(6):
            await asyncio.sleep(0)
        self._reap()

    def _reap(self) -> None:
        for client in [client for client in self.clients if client.task.done()]:
            self.clients.remove(client)
            client.task.result()

    async def _close(self) -> None:
        await super()._close()
        await self.projector.catch_up()


SIGNING = SigningKeys("k1", {"k1": b"1" * 32})


async def simulate_with_gateway(seed: int, folder: Path, scenario: Scenario) -> GatewaySimulation:
    """Run one seed; a violation carries the seed and the last moves."""
    simulation = GatewaySimulation(seed, scenario)
    async with simulation.open(folder):
        try:
            await simulation.run()
        except Violation as violation:
            story = "\n".join(simulation.world.trace[-60:])
            raise Violation(f"seed {seed}: {violation}\n{story}") from None
    return simulation
