"""One assignment as its attempt works on it: whose it is, and calls to vault and store that wait out a bad moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import Any, TypeVar

from browser_runner.deadline import Deadline
from browser_runner.ends import Fenced
from browser_runner.reporting import Reporter, Ticket
from browser_runner.services import Services
from kernel.domain.ids import RootRunId
from kernel.domain.task import TaskAssigned
from kernel.domain.values import Sealed, SealedBody
from kernel.errors import Temporary, TowpathError
from kernel.sealing import Sealer
from kernel.store.port import RunOpener

TEXT_CHARS_MAX = 2000
"""What people are told of a failure beyond that is cut off."""

_RETRY_SECONDS = (0.2, 1.0, 3.0)

T = TypeVar("T")


class Assignment:
    """What the parts of one attempt share."""

    def __init__(self, services: Services, assigned: TaskAssigned) -> None:
        request = assigned.request
        self.services = services
        self.assigned = assigned
        self.request = request
        self.workflow = request.workflow
        self.subject_id = request.subject_id
        self.clock = services.clock
        self.opener = RunOpener(
            request.organization_id,
            RootRunId(assigned.root_run_id),
            assigned.workflow_run_id,
            assigned.task_id,
            assigned.token,
            request.requested_ms,
        )
        self.sealer = Sealer(services.keys, services.store, services.entropy, self.opener)
        self.reporter = Reporter(services.log, services.clock, assigned)
        self._patience_ends_ms = self.clock.boot_ms() + Deadline(self.clock, request).left_ms()

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask vault or store again while they are away, as long as the run may take; then `Temporary`.

        A run is not to fail for what is our own fault and will be mended: it waits, and holds its slot meanwhile.
        """
        for delay in chain(_RETRY_SECONDS, repeat(_RETRY_SECONDS[-1])):
            try:
                return await call()
            except Temporary:
                if self.clock.boot_ms() + delay * 1000 > self._patience_ends_ms:
                    raise
                await self.clock.sleep(delay * (0.5 + self.services.entropy.fraction() / 2))
        raise AssertionError  # the delays never end

    async def seal_text(self, text: str) -> Sealed:
        """Sealed under the key of the run's subject, which is kept for minutes only and then asked for again."""
        return await self.patiently(lambda: self.sealer.seal_text(self.subject_id, text))

    async def seal_json(self, value: Any) -> SealedBody:
        """As `seal_text`, for what JSON can hold."""
        return await self.patiently(lambda: self.sealer.seal_json(self.subject_id, value))

    async def opened(self, body: SealedBody) -> Any:
        """The value of a sealed body."""
        return await self.patiently(lambda: self.sealer.open_json(body))

    async def told(self, message: str) -> Sealed:
        """A text for people: scrubbed of every live secret, then sealed. Left out when no key can be had."""
        text = self.services.live.scrub_text(message)[:TEXT_CHARS_MAX]
        try:
            return await self.sealer.seal_text(self.subject_id, text)
        except TowpathError:
            return Sealed()

    async def document_text(self) -> str:
        """The `stepsJson` of the run."""
        document = self.workflow.document
        if document.inline:
            return document.inline
        return (await self.services.store.get_bytes(document.blob)).decode()

    async def inputs(self) -> dict[str, Any]:
        """The inputs by name; a secret one is a reference."""
        inputs = await self.sealer.open_json(self.workflow.inputs)
        return inputs if isinstance(inputs, dict) else {}

    async def read_back(self, ticket: Ticket) -> None:
        """Wait until a report was read back before any end of the token: only then does it surely count. `Fenced`."""
        position = await asyncio.shield(ticket)
        assigned, fence = self.assigned, self.services.fence
        if not await self.patiently(lambda: fence.read_back(assigned.root_run_id, assigned.token, position)):
            raise Fenced
