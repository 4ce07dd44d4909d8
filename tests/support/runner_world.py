"""A runner with everything around it in memory: log, fence, vault, store, a model site; time by hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import msgspec

from browser_runner.login import half_login_of
from browser_runner.ports import BrowserPool, Egress
from browser_runner.runner import Runner
from browser_runner.services import Services
from kernel.clock import Clock
from kernel.domain.decider import Event
from kernel.domain.ids import (
    ConnectionId,
    Incarnation,
    InputRequestId,
    OrganizationId,
    SubjectId,
    TaskId,
    WorkflowRunId,
)
from kernel.domain.plan import PlannedWorkflow, RunOptions, WorkflowType
from kernel.domain.task import Answer, Journal, JournalEntry, StepFinished, StepStarted, TaskAssigned, TaskRequested
from kernel.domain.values import Document, Pool, SealedBody, Token
from kernel.errors import Rejected, SecretUnavailable, Temporary
from kernel.fence import Fence
from kernel.ids import SystemEntropy, derived_id
from kernel.log.codec import decode, encode
from kernel.log.envelope import Envelope
from kernel.log.memory import MemoryLog
from kernel.log.topics import Topic, partition_of
from kernel.redaction import LiveSecrets
from kernel.sealing import Sealer, SubjectKeys
from kernel.steps.document import needs_page, parse_document
from kernel.store.port import ByteStore, GatewayOpener, PutHeader, RunOpener, Session, Staged, Vault
from kernel.store.secret import Secret
from tests.support.model_site import HOST, ModelBrowsers, Site
from tests.support.processing import HandClock

ROOT = "root-1"
RUN = WorkflowRunId("run-1")
SUBJECT = SubjectId("subject-1")
ORGANIZATION = OrganizationId("org-1")
CONNECTION = ConnectionId("connection-1")
FIRST = Token(1, "1" * 32)
SECOND = Token(2, "2" * 32)
SLOTS = {Pool.BROWSER: 2, Pool.LIGHT: 4}

E = TypeVar("E")


@dataclass
class MemoryBytes:
    """Blobs in a dictionary."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        return await self.put_bytes(b"".join([chunk async for chunk in chunks]), header)

    async def put_bytes(self, value: bytes, header: PutHeader) -> Staged:
        sha256 = hashlib.sha256(value).hexdigest()
        self.blobs[sha256] = value
        return Staged(sha256, len(value), header.mime_hint or "application/octet-stream")

    async def get_bytes(self, sha256: str) -> bytes:
        return self.blobs[sha256]

    async def get(self, sha256: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        yield self.blobs[sha256][offset:]


@dataclass
class MemoryVault:
    """Keys, secrets and sessions in dictionaries."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    codes: list[str | float] = field(default_factory=list)
    session: Session | None = None
    """The saved login of whatever connection."""
    halves: dict[str, Session] = field(default_factory=dict)
    """Half-finished logins, by where they are kept."""
    proven: int = 0
    refuses: SecretUnavailable | None = None
    """What every opening is answered with."""
    away: int = 0
    """How many of a run's calls for a key nobody answers."""

    async def subject_key(self, subject_id: SubjectId, opener: object) -> bytes:
        if self.away and isinstance(opener, RunOpener):
            self.away -= 1
            raise Temporary("store_unavailable", "nobody answers")
        return hashlib.sha256(subject_id.encode()).digest()

    async def open_secret(self, ref: str, opener: object, connection_id: str = "") -> Secret:
        if self.refuses is not None:
            raise self.refuses
        if ref not in self.secrets:
            raise SecretUnavailable("no such secret")
        return Secret(self.secrets[ref])

    async def totp_code(self, ref: str, opener: object, connection_id: str = "") -> Secret:
        """The next of `codes`; a number among them is a wait, in seconds, as between two windows of time."""
        code = self.codes.pop(0)
        if isinstance(code, str):
            return Secret(code.encode())
        raise Temporary("totp_window_used", "the next window of time makes the next code", code)

    async def load_session(self, connection_id: str, opener: object) -> Session | None:
        return self.halves.get(connection_id) if connection_id == half_login_of(RUN) else self.session

    async def save_session(
        self,
        connection_id: str,
        subject_id: str,
        opener: object,
        *,
        expected_version: int,
        state: bytes,
        expires_ms: int,
    ) -> int:
        kept = await self.load_session(connection_id, opener)
        version = kept.version if kept else 0
        if expected_version != version:
            raise Rejected("session_version_mismatch", "saved meanwhile")
        saved = Session(version + 1, state)
        if connection_id == half_login_of(RUN):
            self.halves[connection_id] = saved
        else:
            self.session = saved
        return version + 1

    async def forget_session(self, connection_id: str, opener: object) -> None:
        if connection_id == half_login_of(RUN):
            self.halves.pop(connection_id, None)
        else:
            self.session = None

    async def credentials_proven(self, connection_id: str, opener: object) -> None:
        self.proven += 1


@dataclass
class World:
    """What a test holds in its hands."""

    clock: HandClock
    log: MemoryLog
    site: Site
    store: MemoryBytes
    vault: MemoryVault
    services: Services
    runner: Runner
    sealer: Sealer
    fence: Fence
    running: asyncio.Task[None] | None = None

    def start(self, egress: Egress | None = None) -> None:
        """Start the runner; with `egress` its browsers go out that way."""
        if egress is not None:
            self.services = replace(self.services, egress=egress)
            self.runner = Runner(self.services, SLOTS)
        self.running = asyncio.create_task(self.runner.run())

    async def tick(self, milliseconds: int = 500, times: int = 1) -> None:
        """Let time pass in small steps, and everybody run between them."""
        for _ in range(times):
            self.clock.advance(milliseconds)
            for _ in range(20):
                await asyncio.sleep(0)

    async def task(self, document: dict[str, Any], token: Token = FIRST, **more: Any) -> TaskAssigned:
        """An assignment of `document` to this runner, not yet sent."""
        text = msgspec.json.encode(document).decode()
        pool = Pool.BROWSER if needs_page(parse_document(text)) else Pool.LIGHT
        workflow = PlannedWorkflow(
            workflow_run_id=RUN,
            type=more.pop("type", WorkflowType.USER_DEFINED),
            pool=pool,
            document=Document(inline=text, size=len(text)),
            inputs=await self.sealer.seal_json(SUBJECT, more.pop("inputs", {})),
            connection_id=more.pop("connection", ConnectionId("")),
            allowed_hosts=(HOST,),
            timeout_seconds=more.pop("timeout_seconds", 3600),
            options=more.pop("options", RunOptions()),
        )
        request = TaskRequested(
            task_id=TaskId(derived_id("task", token.nonce)),
            root_run_id=ROOT,
            workflow_run_id=RUN,
            organization_id=ORGANIZATION,
            subject_id=SUBJECT,
            token=token,
            pool=pool,
            priority=0,
            workflow=workflow,
            journal=more.pop("journal", Journal(SealedBody(), (), ())),
            answers=more.pop("answers", ()),
            deadline_ms=0,
            requested_ms=self.clock.now_ms(),
        )
        assert not more, more
        services = self.services
        return TaskAssigned(
            request.task_id, ROOT, RUN, token, services.incarnation, services.inbox_partition, 0, request
        )

    async def assign(self, document: dict[str, Any], token: Token = FIRST, **more: Any) -> TaskAssigned:
        """Send an assignment to the inbox and to the reports."""
        assigned = await self.task(document, token, **more)
        bare = replace(assigned.request, workflow=PlannedWorkflow(workflow_run_id=RUN), answers=())
        await self.put(Topic.TASK_REPORTS, replace(assigned, request=bare))
        await self.put(Topic.RUNNER_INBOX, assigned)
        return assigned

    async def put(self, topic: Topic, event: Event) -> None:
        """Append one record as its writer would."""
        if topic is Topic.RUNNER_INBOX:
            partition = self.services.inbox_partition
        else:
            partition = partition_of(ROOT, self.log.partitions(topic))
        envelope = Envelope(self.services.entropy.uuid(), self.clock.now_ms())
        await self.log.append([encode(event, topic=topic, key=ROOT, envelope=envelope, partition=partition)])

    async def events(self, topic: Topic = Topic.TASK_REPORTS) -> list[Any]:
        """Everything that stands in a topic."""
        found = []
        for partition in range(self.log.partitions(topic)):
            found += [decode(stored).event for stored in await self.log.read(topic, partition, 0, max_records=10_000)]
        return found

    async def reports(self, token: Token = FIRST) -> list[Any]:
        """What was reported under `token`, in order; the numbers are gapless."""
        found = [event for event in await self.events() if getattr(event, "number", 0) and event.token == token]
        assert [event.number for event in found] == list(range(1, len(found) + 1))
        return found

    async def until_report(
        self, report_type: type[E], token: Token = FIRST, *, count: int = 1, seconds: float = 10
    ) -> E:
        """Wait until there are `count` reports of a type; the newest."""
        async with asyncio.timeout(seconds):
            while True:
                found = [event for event in await self.reports(token) if isinstance(event, report_type)]
                if len(found) >= count:
                    return found[-1]
                await asyncio.sleep(0.001)

    async def opened(self, body: SealedBody) -> Any:
        return await self.sealer.open_json(body)

    async def answer(self, path: str, values: dict[str, Any]) -> Answer:
        return Answer(path, InputRequestId("question-1"), await self.sealer.seal_json(SUBJECT, values))

    async def journal(self, token: Token = FIRST, *, upto: int | None = None) -> Journal:
        """The journal as `advance` would keep it from the reports of `token`, or from the first `upto` of them."""
        staged, entries, unknown = SealedBody(), [], []
        for report in (await self.reports(token))[:upto]:
            match report:
                case StepStarted(path=path):
                    unknown.append(path)
                case StepFinished():
                    unknown = [path for path in unknown if path != report.path]
                    entries.append(
                        JournalEntry(
                            report.path, report.status, report.effect, report.output, report.safe_point, report.url,
                            report.consumed, report.failure.code, report.asks_again,
                        )
                    )  # fmt: skip
                    if report.journal_staged.size:
                        staged, entries = report.journal_staged, []
                case _:
                    pass
        return Journal(staged, tuple(entries), tuple(unknown))


@asynccontextmanager
async def a_world(
    site: Site | None = None, *, clock: Clock | None = None, browsers: BrowserPool | None = None, run: bool = True
) -> AsyncIterator[World]:
    """A runner that is up, or, with `run=False`, about to be started."""
    hand = HandClock()
    used: Clock = clock or hand
    site = site or Site()
    counts = {Topic.TASK_REPORTS: 4, Topic.DISPATCH: 2, Topic.RUNNER_INBOX: 2}
    log = MemoryLog({str(topic): count for topic, count in counts.items()}, used)
    store, vault = MemoryBytes(), MemoryVault()
    keys = SubjectKeys(cast("Vault", vault), used)
    fence = Fence(log, decode, used)
    services = Services(
        log=log,
        clock=used,
        entropy=SystemEntropy(),
        fence=fence,
        store=cast("ByteStore", store),
        vault=cast("Vault", vault),
        keys=keys,
        live=LiveSecrets(),
        incarnation=Incarnation("runner-1"),
        host_id="host-1",
        inbox_partition=1,
        browsers=browsers or ModelBrowsers(site),
    )
    sealer = Sealer(
        SubjectKeys(cast("Vault", vault), used), cast("ByteStore", store), services.entropy, GatewayOpener(ORGANIZATION)
    )
    runner = Runner(services, SLOTS)
    world = World(hand, log, site, store, vault, services, runner, sealer, fence)
    if run:
        world.start()
        for _ in range(20):
            await asyncio.sleep(0)
    try:
        yield world
    finally:
        if world.running is not None:
            world.running.cancel()
            await asyncio.wait([world.running])
        await fence.close()


def kinds(reports: Sequence[object]) -> list[str]:
    """The types of reports, for comparing their order."""
    return [type(report).__name__ for report in reports]
