"""A runner and the hands of a test around it: assignments in, reports out, over any log and any store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

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
from kernel.fence import Fence
from kernel.ids import SystemEntropy, derived_id
from kernel.log.codec import decode, encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.redaction import LiveSecrets
from kernel.sealing import Sealer, SubjectKeys
from kernel.steps.document import needs_page, parse_document
from kernel.store.port import ByteStore, GatewayOpener, Vault
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.model_site import HOST

ROOT = "root-1"
RUN = WorkflowRunId("run-1")
ORGANIZATION = OrganizationId("org-1")
CONNECTION = ConnectionId("connection-1")
FIRST = Token(1, "1" * 32)
SECOND = Token(2, "2" * 32)
SLOTS = {Pool.BROWSER: 2, Pool.LIGHT: 4}
PARTITIONS = {Topic.TASK_REPORTS.value: 4, Topic.DISPATCH.value: 2, Topic.RUNNER_INBOX.value: 2}

E = TypeVar("E")


@dataclass(kw_only=True)
class World:
    """What a test holds in its hands, whatever log and store are below."""

    services: Services
    runner: Runner
    sealer: Sealer
    fence: Fence
    subject: SubjectId
    hosts: tuple[str, ...] = (HOST,)
    """Where a page may go."""
    poll_seconds: float = 0.001
    running: asyncio.Task[None] | None = None

    def start(self, egress: Egress | None = None) -> None:
        """Start the runner; with `egress` its browsers go out that way."""
        if egress is not None:
            self.services = replace(self.services, egress=egress)
            self.runner = Runner(self.services, SLOTS)
        self.running = asyncio.create_task(self.runner.run())

    async def task(self, document: dict[str, Any], token: Token = FIRST, **more: Any) -> TaskAssigned:
        """An assignment of `document` to this runner, not yet sent."""
        text = msgspec.json.encode(document).decode()
        pool = Pool.BROWSER if needs_page(parse_document(text)) else Pool.LIGHT
        workflow = PlannedWorkflow(
            workflow_run_id=RUN,
            type=more.pop("type", WorkflowType.USER_DEFINED),
            pool=pool,
            document=Document(inline=text, size=len(text)),
            inputs=await self.sealer.seal_json(self.subject, more.pop("inputs", {})),
            connection_id=more.pop("connection", ConnectionId("")),
            allowed_hosts=self.hosts,
            timeout_seconds=more.pop("timeout_seconds", 3600),
            options=more.pop("options", RunOptions()),
        )
        request = TaskRequested(
            task_id=TaskId(derived_id("task", token.nonce)),
            root_run_id=ROOT,
            workflow_run_id=RUN,
            organization_id=ORGANIZATION,
            subject_id=self.subject,
            token=token,
            pool=pool,
            priority=0,
            workflow=workflow,
            journal=more.pop("journal", Journal(SealedBody(), (), ())),
            answers=more.pop("answers", ()),
            deadline_ms=0,
            requested_ms=self.services.clock.now_ms(),
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
            partition = partition_of(ROOT, self.services.log.partitions(topic))
        envelope = Envelope(self.services.entropy.uuid(), self.services.clock.now_ms())
        await self.services.log.append([encode(event, topic=topic, key=ROOT, envelope=envelope, partition=partition)])

    async def events(self, topic: Topic = Topic.TASK_REPORTS) -> list[Any]:
        """Everything that stands in a topic."""
        log, found = self.services.log, []
        for partition in range(log.partitions(topic)):
            offset = 0
            while batch := await log.read(topic, partition, offset, max_records=10_000):
                found += [decode(stored).event for stored in batch]
                offset = batch[-1].offset + 1
        return found

    async def reports(self, token: Token = FIRST) -> list[Any]:
        """What was reported under `token`, in order; the numbers are gapless."""
        found = [event for event in await self.events() if getattr(event, "number", 0) and event.token == token]
        assert [event.number for event in found] == list(range(1, len(found) + 1))
        return found

    async def until_report(
        self, report_type: type[E], token: Token = FIRST, *, count: int = 1, seconds: float = PATIENCE_SECONDS
    ) -> E:
        """Wait until there are `count` reports of a type; the newest."""
        async with asyncio.timeout(seconds):
            while True:
                found = [event for event in await self.reports(token) if isinstance(event, report_type)]
                if len(found) >= count:
                    return found[-1]
                await asyncio.sleep(self.poll_seconds)

    async def opened(self, body: SealedBody) -> Any:
        return await self.sealer.open_json(body)

    async def answer(self, path: str, values: dict[str, Any]) -> Answer:
        return Answer(path, InputRequestId("question-1"), await self.sealer.seal_json(self.subject, values))

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

    async def stop(self) -> None:
        """End the runner where it stands, and its fence."""
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait([self.running])
        await self.fence.close()


def services_over(
    *, log: EventLog, store: ByteStore, vault: Vault, fence: Fence, browsers: BrowserPool, clock: Clock
) -> Services:
    """What a runner stands on."""
    return Services(
        log=log,
        clock=clock,
        entropy=SystemEntropy(),
        fence=fence,
        store=store,
        vault=vault,
        keys=SubjectKeys(vault, clock),
        live=LiveSecrets(),
        incarnation=Incarnation("runner-1"),
        host_id="host-1",
        inbox_partition=1,
        browsers=browsers,
    )


def sealer_over(services: Services) -> Sealer:
    """As the gateway seals, whose keys are its own."""
    keys = SubjectKeys(services.vault, services.clock)
    return Sealer(keys, services.store, services.entropy, GatewayOpener(ORGANIZATION))


def kinds(reports: Sequence[object]) -> list[str]:
    """The types of reports, for comparing their order."""
    return [type(report).__name__ for report in reports]
