"""Repeating a run that has ended: a new run with the same snapshot, from the failed workflow on or from the start.

The first facts of a run tell its snapshot: order, revisions, sealed inputs, what was asked beyond the work. Nothing
else is looked up but the steps of those revisions and what is policy and no snapshot: a provider's domains and limit
count as they are today. So a workflow may be repeated after it was changed or archived. Secret inputs stay the same
secrets of the vault, which are kept for another while; an input that is gone, or whose customer was erased, refuses the
retry.

Workflows share a login and nothing else. A customer's login outlives the run, so a retry may begin at the failed
workflow; without a customer it was the run's own, and the retry begins at the last LOGIN workflow before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from api_gateway import planning
from api_gateway.asking import Asker
from api_gateway.planning import Chosen, Definition
from api_gateway.principal import Principal
from api_gateway.projections.change import Fact
from api_gateway.readings import Readings
from kernel.domain.ids import JobRunId, OrganizationId, ProviderSlug, RequestId, RootRunId, WorkflowId, WorkflowRunId
from kernel.domain.job_run import TRANSITIONS as JOB_RUN_TRANSITIONS
from kernel.domain.job_run import JobRunCreated, JobRunRequested, JobRunStatus
from kernel.domain.plan import PlannedWorkflow, RunOptions, WorkflowType
from kernel.domain.values import Document, SealedBody
from kernel.domain.workflow_run import ENDED_WELL, TERMINAL, WorkflowRunCreated, WorkflowRunRequested, WorkflowRunStatus
from kernel.errors import Permanent, Rejected, SecretUnavailable
from kernel.ids import Entropy
from kernel.log.codec import decode_value
from kernel.log.topics import Topic
from kernel.sealing import Sealer, SubjectKeys
from kernel.sql.port import Database, Row
from kernel.store.port import ByteStore, GatewayOpener, SecretRef, Vault

_BEGUN = "SELECT wire, value FROM run_events WHERE root_run_id = ? AND wire = 'workflow_run.created' ORDER BY sequence"

_OF_A_FILE = frozenset({"artifactId", "name", "sha256", "type", "size"})
"""What an input of kind `artifact` was replaced by."""


class From(StrEnum):
    """Where a retry begins."""

    FAILED = "failed"
    START = "start"


@dataclass(frozen=True, slots=True)
class _Part:
    """One workflow of the run that is repeated."""

    definition: Definition
    inputs: SealedBody
    repeats: WorkflowRunId
    """Its workflow run; empty when it never got one."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Starts runs anew. `Rejected` for what breaks a rule (nothing changed), `Temporary` when nobody decides in time.

    Codes: `not_found`, `run_not_ended`, `run_not_failed` (nothing failed, so there is no failed workflow to begin at),
    `run_not_retryable` (an earlier version kept too little of it), `inputs_gone`.
    """

    asker: Asker
    db: Database
    entropy: Entropy
    keys: SubjectKeys
    store: ByteStore
    vault: Vault
    readings: Readings

    async def retry_job_run(self, by: Principal, job_run_id: str, begin: From, request_id: RequestId | None) -> Fact:
        """A new job run; `job_run.created`."""
        if earlier := await self.asker.earlier(request_id):
            return earlier
        row = await self._row("job_runs", "status", job_run_id, by.organization_id)
        status = JobRunStatus(row[0])
        if JOB_RUN_TRANSITIONS[status]:
            raise _not_ended()
        if begin is From.START:
            return await self._repeat_job_run(by, job_run_id, 0, request_id)
        if status is JobRunStatus.COMPLETED:
            raise _not_failed()
        # The one that failed, or was cancelled, is the last that was created.
        last = await self.db.fetch_one("SELECT max(position) FROM workflow_runs WHERE job_run_id = ?", (job_run_id,))
        return await self._repeat_job_run(by, job_run_id, last[0] if last else 0, request_id, step_back=True)

    async def retry_workflow_run(
        self, by: Principal, workflow_run_id: str, begin: From, request_id: RequestId | None
    ) -> str:
        """The id of a new workflow run, which can be read; one that belongs to a job begins a new job run."""
        if earlier := await self.asker.earlier(request_id):
            return await self._first_workflow_run(earlier)
        columns = "status, job_run_id, position"
        status, job_run_id, position = await self._row("workflow_runs", columns, workflow_run_id, by.organization_id)
        if WorkflowRunStatus(status) not in TERMINAL:
            raise _not_ended()
        if begin is From.FAILED and WorkflowRunStatus(status) in ENDED_WELL:
            raise _not_failed()
        if not job_run_id:
            return await self._first_workflow_run(await self._repeat_workflow_run(by, workflow_run_id, request_id))
        (job_status,) = await self._row("job_runs", "status", job_run_id, by.organization_id)
        if JOB_RUN_TRANSITIONS[JobRunStatus(job_status)]:
            raise _not_ended()
        fact = await self._repeat_job_run(by, job_run_id, position, request_id, step_back=True)
        return await self._first_workflow_run(fact)

    # ---------------------------------------------------------------- the new run

    async def _repeat_job_run(
        self, by: Principal, job_run_id: str, position: int, request_id: RequestId | None, *, step_back: bool = False
    ) -> Fact:
        created = await self._first(job_run_id, JobRunCreated)
        begun = await self._begun(job_run_id)
        if not begun or len(created.inputs) != len(created.workflow_ids):
            raise _not_retryable()
        parts = [
            _Part(await self._definition(by.organization_id, id_, revision), inputs, repeats)
            for id_, revision, inputs, repeats in zip(
                created.workflow_ids,
                created.workflow_revisions,
                created.inputs,
                _by_position(begun, len(created.workflow_ids)),
                strict=True,
            )
        ]
        if step_back and not created.external_id.box:
            position = _last_login(parts, position)
        request_id = request_id or self.asker.random_request()
        root = RootRunId(self.asker.new_id(request_id, "job_run"))
        plan = [await self._plan(part, created, root, number, _options(begun[0])) for number, part in enumerate(parts)]
        await self._keep_inputs(by.organization_id, created, [one.inputs for one in plan[position:]])
        request = JobRunRequested(
            request_id=request_id,
            job_run_id=JobRunId(root),
            job_id=created.job_id,
            organization_id=by.organization_id,
            subject_id=created.subject_id,
            external_id=created.external_id,
            plan=await planning.fit(plan, self.store, by.organization_id, created.subject_id),
            test_mode=created.test_mode,
            created_by=by.user_id,
            retry_of=job_run_id,
            priority=0,
            valid_until_ms=self.asker.valid_until(),
            first_position=position,
        )
        return await self.asker.ask(Topic.RUN_REQUESTS, root, request, by)

    async def _repeat_workflow_run(self, by: Principal, workflow_run_id: str, request_id: RequestId | None) -> Fact:
        created = await self._first(workflow_run_id, WorkflowRunCreated)
        if not created.pool:
            raise _not_retryable()
        definition = await self._definition(by.organization_id, created.workflow_id, created.revision)
        request_id = request_id or self.asker.random_request()
        root = RootRunId(self.asker.new_id(request_id, "workflow_run"))
        part = _Part(definition, created.inputs, WorkflowRunId(workflow_run_id))
        plan = await self._plan(part, created, root, 0, _options(created))
        await self._keep_inputs(by.organization_id, created, [plan.inputs])
        request = WorkflowRunRequested(
            request_id=request_id,
            organization_id=by.organization_id,
            subject_id=created.subject_id,
            external_id=created.external_id,
            workflow=plan,
            test_mode=created.test_mode,
            created_by=by.user_id,
            retry_of=workflow_run_id,
            priority=0,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self.asker.ask(Topic.RUN_REQUESTS, plan.workflow_run_id, request, by)

    async def _plan(
        self,
        part: _Part,
        created: JobRunCreated | WorkflowRunCreated,
        root: RootRunId,
        position: int,
        options: RunOptions,
    ) -> PlannedWorkflow:
        connection = planning.connection_of(
            part.definition,
            created.subject_id,
            root,
            has_customer=bool(created.external_id.box),
            test_mode=created.test_mode,
        )
        chosen = Chosen(part.definition, await self.readings.of(part.definition), {})
        plan = planning.planned(chosen, root, position, connection, options)
        return replace(plan, inputs=part.inputs, retry_of=part.repeats)

    async def _first_workflow_run(self, fact: Fact) -> str:
        """Of a run that was just decided; it can be read when this returns."""
        event = fact.event
        if isinstance(event, WorkflowRunCreated):
            return event.workflow_run_id
        id_ = planning.workflow_run_id(fact.key, event.first_position)

        async def is_there() -> bool:
            return await self.db.fetch_one("SELECT 1 FROM workflow_runs WHERE id = ?", (id_,)) is not None

        await self.asker.until(fact.key, is_there)
        return id_

    # ---------------------------------------------------------------- the old run

    async def _row(self, table: str, columns: str, id_: str, organization: OrganizationId) -> Row:
        row = await self.db.fetch_one(
            f"SELECT {columns} FROM {table} WHERE id = ? AND organization_id = ?",  # noqa: S608 (our own names)
            (id_, organization),
        )
        if row is None:
            raise Rejected("not_found", "no such run")
        return row

    async def _first(self, root: str, kind: type[Any]) -> Any:
        """The run's first fact."""
        row = await self.db.fetch_one(
            "SELECT wire, value FROM run_events WHERE root_run_id = ? AND sequence = 1", (root,)
        )
        event = None if row is None else decode_value(row[0], bytes(row[1]))
        if not isinstance(event, kind):
            raise _not_retryable()
        return event

    async def _begun(self, root: str) -> list[WorkflowRunCreated]:
        """The first facts of its workflow runs, in order."""
        rows = await self.db.fetch_all(_BEGUN, (root,))
        return [decode_value(wire, bytes(value)) for wire, value in rows]

    async def _definition(self, organization: OrganizationId, workflow_id: WorkflowId, revision: int) -> Definition:
        """The workflow at that revision, archived or not."""
        row = await self.db.fetch_one(
            "SELECT w.name, w.provider, w.type, r.document, r.document_blob, r.document_size, p.allowed_domains,"
            " p.concurrency FROM workflows w JOIN workflow_revisions r ON r.workflow_id = w.id AND r.revision = ?"
            " LEFT JOIN providers p ON p.organization_id = w.organization_id AND p.slug = w.provider"
            " AND p.deleted_ms = 0 WHERE w.id = ? AND w.organization_id = ?",
            (revision, workflow_id, organization),
        )
        if row is None:
            raise _not_retryable()
        name, provider, type_, inline, blob, size, domains, concurrency = row
        return Definition(
            workflow_id=workflow_id,
            organization_id=organization,
            name=name,
            provider=ProviderSlug(provider),
            type=WorkflowType(type_),
            document=Document(inline, blob, size),
            revision=revision,
            provider_domains=tuple(json.loads(domains)) if domains else (),
            provider_concurrency=concurrency or 0,
        )

    async def _keep_inputs(
        self,
        organization: OrganizationId,
        created: JobRunCreated | WorkflowRunCreated,
        inputs: Iterable[SealedBody],
    ) -> None:
        """What the new run will need is still there, and stays as long as that of any new run."""
        sealer = Sealer(self.keys, self.store, self.entropy, GatewayOpener(organization))
        try:
            await sealer.open_text(created.external_id)
            opened = [await sealer.open_json(body) for body in inputs]
        except (SecretUnavailable, Permanent):
            raise Rejected("inputs_gone", "the inputs of this run, or its customer, were erased") from None
        for name, sha256 in (found for values in opened for found in _files(values or {})):
            if await self.store.stat(sha256) is None:
                raise Rejected("inputs_gone", f"a file of the input {name} of this run is not kept any more")
        for name, ref in (found for values in opened for found in _references(values or {})):
            if not await self.vault.keep_secret(ref, organization, planning.SECRET_INPUT_TTL_MS):
                raise Rejected(
                    "inputs_gone", f"the secret input {name} of this run is not kept any more; start a new run"
                )


def _references(values: dict[str, Any]) -> list[tuple[str, SecretRef]]:
    return [
        (name, SecretRef(its["$secret"])) for name, its in values.items() if isinstance(its, dict) and "$secret" in its
    ]


def _files(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Names of inputs with the digests of the artifacts that they stand for; another run has made those."""
    told = [(name, one) for name, its in values.items() for one in (its if isinstance(its, list) else [its])]
    return [(name, one["sha256"]) for name, one in told if isinstance(one, dict) and one.keys() == _OF_A_FILE]


def _by_position(begun: Sequence[WorkflowRunCreated], count: int) -> list[WorkflowRunId]:
    known = {created.position: created.workflow_run_id for created in begun}
    return [known.get(position, WorkflowRunId("")) for position in range(count)]


def _last_login(parts: Sequence[_Part], position: int) -> int:
    """The newest LOGIN workflow up to `position`, which makes the session anew; `position` when there is none."""
    logins = [number for number in range(position + 1) if parts[number].definition.type is WorkflowType.LOGIN]
    return max(logins, default=position)


def _options(created: WorkflowRunCreated) -> RunOptions:
    return RunOptions(created.test_mode, created.stop_after_step, created.keep_open_seconds, created.trace)


def _not_ended() -> Rejected:
    return Rejected("run_not_ended", "the run has not ended; cancel it first, or wait")


def _not_failed() -> Rejected:
    return Rejected("run_not_failed", 'the run did not fail; repeat it with {"from": "start"}')


def _not_retryable() -> Rejected:
    return Rejected("run_not_retryable", "too little is known of this run to repeat it; start a new one")
