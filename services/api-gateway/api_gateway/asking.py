"""How a request gets its outcome: append it, wait for the fact that decides it, turn a refusal into an error.

Where the log is slow, only so many requests wait for it (`commit_limits`); whoever comes beyond that is told to come
again, before anything of it is in the log.

A request id is derived from the idempotency key where there is one, so a repetition finds its first outcome: in
`request_outcomes` when it is long past, at the decider otherwise. A request whose outcome does not come in time raises
`Temporary("unavailable")`; it stays in the log and is decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from api_gateway.committing import Commits
from api_gateway.principal import Principal
from api_gateway.projections.change import Fact
from api_gateway.projections.request_outcomes import is_derived
from api_gateway.settings import Settings
from api_gateway.waiting import Waiters
from kernel.clock import Clock
from kernel.domain.ids import RequestId
from kernel.domain.job import RegistryRequestRejected
from kernel.domain.job_run import RunRequestRejected
from kernel.errors import Detail, Rejected, Temporary
from kernel.ids import Entropy, derived_id
from kernel.log.codec import decode_value, encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.sql.port import Database
from kernel.tracing import NO_TRACER, SpanKind, Tracer, current_trace


@dataclass(frozen=True, slots=True)
class Asker:
    """Appends requests and waits for their outcomes. `waiters` are those that the projector tells."""

    db: Database
    log: EventLog
    clock: Clock
    entropy: Entropy
    waiters: Waiters
    settings: Settings
    tracer: Tracer = NO_TRACER
    commits: Commits = field(default_factory=Commits)

    async def ask(self, topic: Topic, key: str, request: Any, by: Principal) -> Fact:
        """The fact that decides `request`. `Rejected` when it was refused, `Temporary` when nobody decided in time.

        `rate_limited` when so many wait for a log that is slow: of this request nothing is known to anybody then.
        """
        request_id: RequestId = request.request_id
        with self.waiters.outcome(request_id, key if topic is Topic.RUN_REQUESTS else "") as outcome:
            kept = await self._kept_outcome(request_id)
            if kept is None:
                await self._append(topic, key, request, by)
                try:
                    kept = await asyncio.wait_for(outcome, self.settings.outcome_wait_seconds)
                except TimeoutError:
                    raise Temporary(
                        "unavailable", "accepted, but not decided in time; ask for its state", delay_seconds=1.0
                    ) from None
        return _accepted(kept)

    async def until(self, key: str, is_there: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the facts of `key` have made it so. `Temporary` when that takes too long."""
        try:
            async with asyncio.timeout(self.settings.outcome_wait_seconds):
                with self.waiters.stream(key) as changed:
                    while not await is_there():
                        await changed.wait()
                        changed.clear()
        except TimeoutError:
            raise Temporary("unavailable", "decided, but not to be read yet; ask again", delay_seconds=1.0) from None

    async def earlier(self, request_id: RequestId | None) -> Fact | None:
        """The outcome of an earlier request with this id, if there was one. `Rejected` when it was refused."""
        kept = await self._kept_outcome(request_id) if request_id else None
        return None if kept is None else _accepted(kept)

    def random_request(self) -> RequestId:
        """An id for a request that nobody repeats."""
        return RequestId(self.entropy.uuid())

    def new_id(self, request_id: RequestId, kind: str) -> str:
        """An entity's id: random, but for a request that may come again the same every time."""
        return derived_id(kind, request_id) if is_derived(request_id) else self.entropy.uuid()

    def valid_until(self) -> int:
        """Until when a request that is made now may be decided."""
        return self.clock.now_ms() + self.settings.request_validity_seconds * 1000

    async def _append(self, topic: Topic, key: str, request: Any, by: Principal) -> None:
        attributes = {"messaging.destination.name": topic.value, "messaging.operation.type": "send"}
        with self.tracer.span(f"send {topic}", SpanKind.PRODUCER, attributes=attributes):
            await self._append_now(topic, key, request, by)

    async def _append_now(self, topic: Topic, key: str, request: Any, by: Principal) -> None:
        traced = current_trace()
        envelope = Envelope(
            id=request.request_id,
            time_ms=self.clock.now_ms(),
            organization_id=by.organization_id,
            correlation_id=request.request_id,
            traceparent=traced.traceparent,
            tracestate=traced.tracestate,
        )
        partition = partition_of(key, self.log.partitions(topic))
        with self.commits.append(self.clock, topic, partition):
            await self.log.append([encode(request, topic=topic, key=key, envelope=envelope, partition=partition)])

    async def _kept_outcome(self, request_id: RequestId) -> Fact | None:
        """Only derived ids can have one."""
        if not is_derived(request_id):
            return None
        row = await self.db.fetch_one(
            "SELECT stream, sequence, wire, time_ms, value FROM request_outcomes WHERE request_id = ?", (request_id,)
        )
        if row is None:
            return None
        stream, sequence, wire, time_ms, value = row
        return Fact(stream, sequence, wire, time_ms, decode_value(wire, bytes(value)), bytes(value))


def _accepted(fact: Fact) -> Fact:
    event = fact.event
    if isinstance(event, RunRequestRejected):
        raise Rejected(event.code, event.message)
    if isinstance(event, RegistryRequestRejected):
        details = [Detail(f"/jobs/{id_}", event.code, "names it in its order") for id_ in event.in_use_by]
        if event.path:
            details.append(Detail(event.path, event.code, event.message))
        raise Rejected(event.code, event.message, tuple(details))
    return fact
