"""The only way in: a principal's intent becomes a request in the log, and its outcome is awaited.

    check what can be checked -> secrets into the vault -> personal values sealed -> append -> wait for the fact

Nothing is written before the checks are through. Here are the runs; `definition_commands` asks about definitions, and
`asking` appends and waits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from api_gateway import planning
from api_gateway.artifact_inputs import ArtifactInputs
from api_gateway.asking import Asker
from api_gateway.planning import Chosen, Definition
from api_gateway.principal import Principal
from api_gateway.projections.change import Fact
from api_gateway.readings import Readings
from api_gateway.registry.job import ORDER_PATH
from api_gateway.sharing import SharedReads
from api_gateway.subjects import Subjects
from kernel.domain.ids import (
    InputRequestId,
    JobId,
    JobRunId,
    OrganizationId,
    ProviderSlug,
    RequestId,
    RootRunId,
    SubjectId,
    WorkflowId,
)
from kernel.domain.input_request import InputAnswerSubmitted, InputRequestStatus
from kernel.domain.job_run import JobRunRequested, RunCancelRequested
from kernel.domain.plan import PlannedWorkflow, RunOptions, WorkflowType
from kernel.domain.values import Document, Sealed
from kernel.domain.workflow import WorkflowStatus
from kernel.domain.workflow_run import WorkflowRunRequested
from kernel.errors import Detail, Rejected
from kernel.ids import Entropy
from kernel.log.topics import Topic
from kernel.sealing import Sealer, SubjectKeys
from kernel.sql.port import Database, Row
from kernel.store.port import ByteStore, GatewayOpener, SecretKind, Vault

ANSWER_TTL_MS = 24 * 60 * 60 * 1000
_ALREADY_TRUE = "already_cancelled"
_DEFINITION = (
    "SELECT w.name, w.provider, w.type, w.document, w.document_blob, w.document_size, w.revision, w.status,"
    " p.allowed_domains, p.concurrency FROM workflows w LEFT JOIN providers p"
    " ON p.organization_id = w.organization_id AND p.slug = w.provider AND p.deleted_ms = 0"
    " WHERE w.id = ? AND w.organization_id = ?"
)


@dataclass(frozen=True, slots=True)
class StartInputs:
    """What a caller gives to a run. `by_workflow` wins over `shared`, workflow by workflow."""

    shared: Mapping[str, Any]
    by_workflow: Mapping[str, Mapping[str, Any]]
    external_id: str
    options: RunOptions = field(default_factory=RunOptions)


@dataclass(frozen=True, slots=True)
class Commands:
    """Everything a principal can ask about runs. Each call appends one request and returns its outcome, a `Fact`.

    All raise `Rejected` for what breaks a rule (nothing changed) and `Temporary` when the platform does not answer.
    """

    asker: Asker
    db: Database
    entropy: Entropy
    keys: SubjectKeys
    store: ByteStore
    vault: Vault
    subjects: Subjects
    readings: Readings
    definition_rows: SharedReads[Row | None] = field(default_factory=SharedReads)
    """Many begin runs of the same workflow at once."""

    # ---------------------------------------------------------------- runs

    async def start_job_run(self, by: Principal, job_id: str, start: StartInputs, request_id: RequestId | None) -> Fact:
        """A run of a job as it stands now; `job_run.created`."""
        definitions = await self._job_definitions(by.organization_id, JobId(job_id))
        request_id = request_id or self.asker.random_request()
        root = RootRunId(self.asker.new_id(request_id, "job_run"))
        planning.check_named(start.by_workflow, {definition.workflow_id for definition in definitions})
        chosen = [await self._chosen(definition, start, "/inputs") for definition in definitions]
        subject = await self.subjects.of(by.organization_id, start.external_id)
        plan = [await self._plan(one, start, subject, root, position) for position, one in enumerate(chosen)]
        request = JobRunRequested(
            request_id=request_id,
            job_run_id=JobRunId(root),
            job_id=JobId(job_id),
            organization_id=by.organization_id,
            subject_id=subject,
            external_id=await self._seal_external_id(by.organization_id, subject, start.external_id),
            plan=await planning.fit(plan, self.store, by.organization_id, subject),
            test_mode=start.options.test_mode,
            created_by=by.user_id,
            retry_of="",
            priority=0,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self.asker.ask(Topic.RUN_REQUESTS, root, request, by)

    async def start_workflow_run(
        self, by: Principal, workflow_id: str, start: StartInputs, request_id: RequestId | None
    ) -> Fact:
        """A run of one workflow alone; `workflow_run.created`. The workflow run is its own root run."""
        definition = await self._definition(by.organization_id, WorkflowId(workflow_id), "/workflowId")
        chosen = await self._chosen(definition, start, "/inputs")
        planning.check_stop(chosen.reading, start.options)
        request_id = request_id or self.asker.random_request()
        root = RootRunId(self.asker.new_id(request_id, "workflow_run"))
        subject = await self.subjects.of(by.organization_id, start.external_id)
        plan = await self._plan(chosen, start, subject, root, 0)
        request = WorkflowRunRequested(
            request_id=request_id,
            organization_id=by.organization_id,
            subject_id=subject,
            external_id=await self._seal_external_id(by.organization_id, subject, start.external_id),
            workflow=plan,
            test_mode=start.options.test_mode,
            created_by=by.user_id,
            retry_of="",
            priority=0,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self.asker.ask(Topic.RUN_REQUESTS, plan.workflow_run_id, request, by)

    async def cancel_job_run(self, by: Principal, job_run_id: str, request_id: RequestId | None) -> None:
        """Stop a job run. `run_already_ended` when it completed or failed; a cancelled one stays as it is."""
        row = await self.db.fetch_one(
            "SELECT id FROM job_runs WHERE id = ? AND organization_id = ?", (job_run_id, by.organization_id)
        )
        if row is None:
            raise Rejected("not_found", "no such job run")
        await self._cancel(by, row[0], "", request_id)

    async def cancel_workflow_run(self, by: Principal, workflow_run_id: str, request_id: RequestId | None) -> None:
        """Stop a workflow run and the job run that it belongs to."""
        row = await self.db.fetch_one(
            "SELECT root_run_id FROM workflow_runs WHERE id = ? AND organization_id = ?",
            (workflow_run_id, by.organization_id),
        )
        if row is None:
            raise Rejected("not_found", "no such workflow run")
        await self._cancel(by, row[0], workflow_run_id, request_id)

    async def answer_input_request(
        self, by: Principal, input_request_id: str, values: Mapping[str, Any], request_id: RequestId | None
    ) -> Fact:
        """Answer a question; `input_request.answered`. The first answer wins."""
        row = await self.db.fetch_one(
            "SELECT root_run_id, subject_id, status, fields FROM input_requests WHERE id = ? AND organization_id = ?",
            (input_request_id, by.organization_id),
        )
        if row is None:
            raise Rejected("not_found", "no such input request")
        root, subject, status, fields = row
        if earlier := await self.asker.earlier(request_id):
            return earlier
        if status != InputRequestStatus.OPEN.value:
            raise Rejected("input_already_answered", f"the input request is {status}")
        asked: list[dict[str, Any]] = json.loads(fields)
        _check_answer(asked, values)
        request = InputAnswerSubmitted(
            request_id=request_id or self.asker.random_request(),
            root_run_id=root,
            input_request_id=InputRequestId(input_request_id),
            values=await self._sealer(by.organization_id).seal_json(
                SubjectId(subject), await self._safe_answer(by.organization_id, SubjectId(subject), asked, values)
            ),
            answered_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self.asker.ask(Topic.RUN_REQUESTS, root, request, by)

    # ---------------------------------------------------------------- asking

    async def _cancel(self, by: Principal, root: str, workflow_run_id: str, request_id: RequestId | None) -> None:
        request = RunCancelRequested(
            request_id=request_id or self.asker.random_request(),
            root_run_id=root,
            workflow_run_id=workflow_run_id,
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
        )
        try:
            await self.asker.ask(Topic.RUN_REQUESTS, root, request, by)
        except Rejected as rejected:
            if rejected.code != _ALREADY_TRUE:
                raise

    # ---------------------------------------------------------------- definitions and inputs

    async def _definition(self, organization_id: OrganizationId, workflow_id: WorkflowId, pointer: str) -> Definition:
        """The workflow as it stands; `not_found`, `workflow_deleted`, told at `pointer`."""
        key = (workflow_id, organization_id)
        row = await self.definition_rows.read(key, lambda: self.db.fetch_one(_DEFINITION, key))
        if row is None:
            raise Rejected(
                "not_found", f"no workflow {workflow_id}", (Detail(pointer, "not_found", "no such workflow"),)
            )
        name, provider, type_, inline, blob, size, revision, status, domains, concurrency = row
        if status == WorkflowStatus.ARCHIVED.value:
            spot = Detail(pointer, "workflow_deleted", f"workflow {workflow_id} was deleted")
            raise Rejected("workflow_deleted", spot.message, (spot,))
        return Definition(
            workflow_id=workflow_id,
            organization_id=organization_id,
            name=name,
            provider=ProviderSlug(provider),
            type=WorkflowType(type_),
            document=Document(inline, blob, size),
            revision=revision,
            provider_domains=tuple(json.loads(domains)) if domains else (),
            provider_concurrency=concurrency or 0,
        )

    async def _job_definitions(self, organization_id: OrganizationId, job_id: JobId) -> list[Definition]:
        row = await self.db.fetch_one(
            "SELECT workflow_ids FROM jobs WHERE id = ? AND organization_id = ? AND deleted_ms = 0",
            (job_id, organization_id),
        )
        if row is None:
            raise Rejected("not_found", f"no job {job_id}", (Detail("/jobId", "not_found", "no such job"),))
        order: list[str] = json.loads(row[0])
        if not order:
            raise Rejected("empty_job", "the job names no workflow")
        found: dict[str, Definition] = {}
        for index, id_ in enumerate(order):
            if id_ not in found:
                found[id_] = await self._definition(organization_id, WorkflowId(id_), f"{ORDER_PATH}/{index}")
        return [found[id_] for id_ in order]

    async def _chosen(self, definition: Definition, start: StartInputs, pointer: str) -> Chosen:
        """Inputs given for this workflow alone win, and faults are then told below their own place."""
        own = start.by_workflow.get(definition.workflow_id)
        if own is not None:
            pointer = f"/workflowInputs/{definition.workflow_id}"
        reading = await self.readings.of(definition)
        inputs = planning.check_inputs(reading, {**start.shared, **(own or {})}, pointer)
        if reading.artifacts:
            organization = definition.organization_id
            files = ArtifactInputs(self.db, self._sealer(organization), organization)
            inputs = await files.resolved(inputs, reading.artifacts, pointer)
        return Chosen(definition, reading, inputs)

    async def _plan(
        self, chosen: Chosen, start: StartInputs, subject: SubjectId, root: RootRunId, position: int
    ) -> PlannedWorkflow:
        connection = planning.connection_of(
            chosen.definition, subject, root, has_customer=bool(start.external_id), test_mode=start.options.test_mode
        )
        plan = planning.planned(chosen, root, position, connection, start.options)
        if not chosen.inputs:
            return plan
        safe = await planning.put_secrets(self.vault, subject, chosen)
        sealer = self._sealer(chosen.definition.organization_id)
        return replace(plan, inputs=await sealer.seal_json(subject, safe))

    async def _safe_answer(
        self, organization: OrganizationId, subject: SubjectId, asked: list[dict[str, Any]], values: Mapping[str, Any]
    ) -> dict[str, Any]:
        safe = dict(values)
        for wanted in asked:
            name = wanted["name"]
            if wanted["secret"] and name in safe:
                raw = str(safe[name]).encode()
                ref = await self.vault.put_secret(organization, subject, SecretKind.ANSWER, raw, ANSWER_TTL_MS)
                safe[name] = {"$secret": ref}
        return safe

    # ---------------------------------------------------------------- small things

    def _sealer(self, organization: OrganizationId) -> Sealer:
        return Sealer(self.keys, self.store, self.entropy, GatewayOpener(organization))

    async def _seal_external_id(self, organization: OrganizationId, subject: SubjectId, external_id: str) -> Sealed:
        if not external_id:
            return Sealed(subject)
        return await self._sealer(organization).seal_text(subject, external_id)


def _check_answer(asked: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> None:
    """Every field is answered, by text that fits; nothing else is. The offending value is never repeated."""
    faults = [Detail(f"/values/{name}", "unknown", "is not asked for") for name in values.keys() - _names(asked)]
    for wanted in asked:
        pointer = f"/values/{wanted['name']}"
        value = values.get(wanted["name"])
        if value is None:
            faults.append(Detail(pointer, "inputs_missing", "is required"))
        elif not isinstance(value, str | bool):
            faults.append(Detail(pointer, "inputs_invalid", "must be text"))
        elif wanted["options"] and value not in wanted["options"]:
            faults.append(Detail(pointer, "inputs_invalid", "must be one of the options"))
    if faults:
        raise Rejected("inputs_invalid", "the answer does not fit the question", tuple(faults))


def _names(asked: Sequence[Mapping[str, Any]]) -> set[str]:
    return {wanted["name"] for wanted in asked}
