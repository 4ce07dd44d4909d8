"""What is known of one run, gathered from several read models: its explanation, and its log.

Queries answer with rows; here rows, facts, heartbeats and log files come together for somebody who wants to understand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from api_gateway.explaining import TOLD, Explanation, Holder, Outage, ProviderUse, Situation, Told, explain
from api_gateway.provider_healths import ProviderHealths
from api_gateway.runner_slots import RunnerSlots
from kernel.clock import Clock
from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.domain.values import Pool
from kernel.domain.workflow_run import (
    ENDED_WELL,
    TERMINAL,
    StepStatus,
    WorkflowRunCreated,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)
from kernel.errors import Permanent, Rejected
from kernel.log.codec import decode_value
from kernel.log.topics import TYPES
from kernel.sql.port import Database
from kernel.steps.document import parse_document, walk
from kernel.steps.effects import retry_of
from kernel.store.port import ByteStore

RIVALS_MAX = 50
_BAD_ENDS = frozenset(status.value for status in TERMINAL - ENDED_WELL)
_LIVE = tuple(sorted(status.value for status in WorkflowRunStatus if status not in TERMINAL))
_TOLD_WIRES = tuple(sorted(TYPES[kind].wire for kind in TOLD))
_STEP_WIRE = TYPES[WorkflowRunStepFinished].wire


def _marks(values: tuple[str, ...]) -> str:
    return ", ".join("?" * len(values))


_RUN = "SELECT root_run_id, status, current_name, provider FROM workflow_runs WHERE id = ? AND organization_id = ?"
_FACTS = (
    "SELECT time_ms, wire, value FROM run_events WHERE root_run_id = ?"  # noqa: S608 (marks only)
    f" AND wire IN ({_marks(_TOLD_WIRES)}) AND (about = ? OR about = root_run_id"
    " OR about IN (SELECT id FROM input_requests WHERE workflow_run_id = ?)) ORDER BY sequence"
)
_LAST_STEP = (
    "SELECT value FROM run_events WHERE root_run_id = ? AND about = ? AND wire = ? ORDER BY sequence DESC LIMIT 1"
)
_RIVALS = (
    "SELECT r.id, r.root_run_id, r.attempt, r.position, r.status FROM workflow_runs r"  # noqa: S608 (marks only)
    " WHERE r.organization_id = ? AND r.subject_id = ? AND length(r.external_id) > 0 AND r.provider = ?"
    f" AND r.root_run_id <> ? AND r.status IN ({_marks(_LIVE)}) ORDER BY r.created_ms LIMIT {RIVALS_MAX}"
)


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation and whose it is: a job run's is that of its workflow run under way, or of the last one."""

    workflow_run_id: str
    explanation: Explanation
    place: tuple[int, int]
    """Which workflow of how many, from 1."""


@dataclass(frozen=True, slots=True)
class RunHistory:
    """Answers why. `Rejected("not_found")` for what is not there or another organization's."""

    db: Database
    store: ByteStore
    clock: Clock
    slots: RunnerSlots

    async def explain_workflow_run(self, organization: OrganizationId, workflow_run_id: str) -> Explanation:
        """Why this run stands where it stands."""
        row = await self.db.fetch_one(_RUN, (workflow_run_id, organization))
        if row is None:
            raise Rejected("not_found", "no such workflow run")
        root, status, current_name, provider = row
        facts = [Told(time_ms, event) async for time_ms, event in self._facts(root, workflow_run_id)]
        created: WorkflowRunCreated | None = next(
            (told.event for told in facts if isinstance(told.event, WorkflowRunCreated)), None
        )
        pool = Pool(created.pool) if created and created.pool else Pool.BROWSER
        is_pending = status == WorkflowRunStatus.PENDING.value
        last_step = await self._last_step(root, workflow_run_id)
        situation = Situation(
            now_ms=self.clock.now_ms(),
            workflow_run_id=workflow_run_id,
            status=WorkflowRunStatus(status),
            current_name=current_name,
            facts=facts,
            last_step=last_step,
            last_step_tries=await self._tries(created, last_step) if is_pending else 0,
            pool=pool,
            slots=self.slots.of(pool, self.clock.boot_ms()),
            holder=await self._holder(created, root) if is_pending and created else None,
            provider=await self._use(organization, provider) if is_pending else ProviderUse(provider, 0, 0),
            outage=await self._outage(organization, provider) if status in _BAD_ENDS else None,
        )
        return explain(situation)

    async def explain_job_run(self, organization: OrganizationId, job_run_id: str) -> Explained:
        """Why this job run stands where it stands: by its newest workflow run."""
        row = await self.db.fetch_one(
            "SELECT w.id, w.position, j.workflow_ids FROM job_runs j JOIN workflow_runs w ON w.job_run_id = j.id"
            " WHERE j.id = ? AND j.organization_id = ? ORDER BY w.position DESC LIMIT 1",
            (job_run_id, organization),
        )
        if row is None:
            raise Rejected("not_found", "no such job run")
        id_, position, order = row
        return Explained(id_, await self.explain_workflow_run(organization, id_), (position + 1, order.count(",") + 1))

    # ---------------------------------------------------------------- facts

    async def _facts(self, root: str, workflow_run_id: str) -> AsyncIterator[tuple[int, Any]]:
        rows = await self.db.fetch_all(_FACTS, (root, *_TOLD_WIRES, workflow_run_id, workflow_run_id))
        for time_ms, wire, value in rows:
            yield time_ms, decode_value(wire, bytes(value))

    async def _last_step(self, root: str, workflow_run_id: str) -> WorkflowRunStepFinished | None:
        row = await self.db.fetch_one(_LAST_STEP, (root, workflow_run_id, _STEP_WIRE))
        if row is None:
            return None
        event: WorkflowRunStepFinished = decode_value(_STEP_WIRE, bytes(row[0]))
        return event

    async def _tries(self, created: WorkflowRunCreated | None, step: WorkflowRunStepFinished | None) -> int:
        """How often the document lets the failed step be tried."""
        if created is None or step is None or step.status is not StepStatus.FAILED:
            return 0
        row = await self.db.fetch_one(
            "SELECT document, document_blob FROM workflow_revisions WHERE workflow_id = ? AND revision = ?",
            (created.workflow_id, created.revision),
        )
        if row is None:
            return 0
        try:
            document = parse_document(row[0] or await self.store.get_bytes(row[1]))
        except Permanent:
            return 0
        found = next((its for its in walk(document.steps) if its.id == step.step_id), None)
        return retry_of(found).max_attempts if found is not None else 0

    # ---------------------------------------------------------------- who else

    async def _holder(self, created: WorkflowRunCreated, root: str) -> Holder | None:
        """Another run that has the login: one that was given to a runner, and has not ended."""
        if not created.connection_id or not created.external_id.box:
            return None
        rows = await self.db.fetch_all(
            _RIVALS, (created.organization_id, created.subject_id, created.provider, root, *_LIVE)
        )
        for id_, other_root, attempt, position, status in rows:
            has_begun = attempt or position or status != WorkflowRunStatus.PENDING.value
            if has_begun and await self._uses(id_, other_root, created.connection_id):
                return Holder(id_, await self._begun_ms(id_, other_root))
        return None

    async def _uses(self, workflow_run_id: str, root: str, connection_id: str) -> bool:
        row = await self.db.fetch_one(
            "SELECT wire, value FROM run_events WHERE root_run_id = ? AND about = ? AND wire = ? LIMIT 1",
            (root, workflow_run_id, TYPES[WorkflowRunCreated].wire),
        )
        return row is not None and decode_value(row[0], bytes(row[1])).connection_id == connection_id

    async def _begun_ms(self, workflow_run_id: str, root: str) -> int:
        row = await self.db.fetch_one(
            "SELECT min(time_ms) FROM run_events WHERE root_run_id = ? AND about = ?", (root, workflow_run_id)
        )
        return int(row[0]) if row and row[0] else self.clock.now_ms()

    async def _use(self, organization: OrganizationId, provider: str) -> ProviderUse:
        """How busy the provider is; counted only where there is a limit."""
        row = await self.db.fetch_one(
            "SELECT concurrency FROM providers WHERE organization_id = ? AND slug = ? AND deleted_ms = 0",
            (organization, provider),
        )
        limit = int(row[0]) if row else 0
        if not limit:
            return ProviderUse(provider, 0, 0)
        counted = await self.db.fetch_one(
            "SELECT count(*) FROM workflow_runs WHERE organization_id = ? AND provider = ? AND status = ?",
            (organization, provider, WorkflowRunStatus.IN_PROGRESS.value),
        )
        return ProviderUse(provider, limit, int(counted[0]) if counted else 0)

    async def _outage(self, organization: OrganizationId, provider: str) -> Outage | None:
        decided = await ProviderHealths(self.db, self.clock).decided(organization, ProviderSlug(provider))
        return None if decided is None else Outage(decided.degraded_ms, decided.recovered_ms)
