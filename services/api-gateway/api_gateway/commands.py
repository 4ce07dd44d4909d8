"""The only way in: a principal's intent becomes a request in the log, and its outcome is awaited.

    check what can be checked -> secrets into the vault -> personal values sealed -> append -> wait for the fact

Nothing is written before the checks are through. A request id is derived from the idempotency key where there is one,
so a repetition finds its first outcome: in `request_outcomes` when it is long past, at the decider otherwise. A POST
whose outcome does not come in time gets `Temporary("unavailable")`; the request stays in the log and is decided.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from api_gateway import planning
from api_gateway.planning import Chosen, Definition, Reading
from api_gateway.principal import Principal
from api_gateway.projections.change import Fact
from api_gateway.projections.request_outcomes import is_derived
from api_gateway.settings import Settings
from api_gateway.waiting import Waiters
from kernel.clock import Clock
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
from kernel.domain.job import JobChangeRequested, JobCreateRequested, RegistryRequestRejected
from kernel.domain.job_run import JobRunRequested, RunCancelRequested, RunRequestRejected
from kernel.domain.plan import PlannedWorkflow, WorkflowType
from kernel.domain.provider import ProviderRegisterRequested
from kernel.domain.values import Document, Sealed
from kernel.domain.workflow import WorkflowChangeRequested, WorkflowCreateRequested, WorkflowStatus
from kernel.domain.workflow_run import WorkflowRunRequested
from kernel.errors import Detail, Rejected, Temporary
from kernel.ids import Entropy, derived_id
from kernel.log.codec import decode_value, encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.sealing import Sealer, SubjectKeys
from kernel.sql.port import Database
from kernel.steps.check import check_document
from kernel.store.port import ByteStore, GatewayOpener, PutHeader, SecretKind, Vault

READINGS_MAX = 512
OWN_SUBJECT_KEPT_MS = 60_000
ANSWER_TTL_MS = 24 * 60 * 60 * 1000
_DOCUMENT_CODES = ("unknown_step_type", "url_not_allowed")
_ALREADY_TRUE = "already_cancelled"


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """What makes a workflow; `steps` is `stepsJson` as decoded from JSON."""

    name: str
    provider: str
    type: WorkflowType
    steps: object


@dataclass(frozen=True, slots=True)
class StartInputs:
    """What a caller gives to a run. `by_workflow` wins over `shared`, workflow by workflow."""

    shared: Mapping[str, Any]
    by_workflow: Mapping[str, Mapping[str, Any]]
    external_id: str
    test_mode: bool


@dataclass(frozen=True, slots=True)
class Commands:
    """Everything a principal can ask for. Each call appends one request and returns its outcome, a `Fact`.

    All raise `Rejected` for what breaks a rule (nothing changed) and `Temporary` when the platform does not answer.
    """

    db: Database
    log: EventLog
    clock: Clock
    entropy: Entropy
    keys: SubjectKeys
    store: ByteStore
    vault: Vault
    waiters: Waiters
    settings: Settings
    readings: OrderedDict[tuple[str, int], Reading]
    own_subjects: dict[OrganizationId, tuple[float, SubjectId]]
    """Subjects of organizations themselves, each with the time at which it was asked for."""

    # ---------------------------------------------------------------- definitions

    async def create_workflow(self, by: Principal, new: NewWorkflow, request_id: RequestId | None) -> Fact:
        """A new workflow; `workflow.created`."""
        document = await self._document(by, new.steps, new.type)
        request_id = request_id or self._random_request()
        request = WorkflowCreateRequested(
            request_id=request_id,
            organization_id=by.organization_id,
            workflow_id=WorkflowId(self._new_id(request_id, "workflow")),
            name=new.name,
            provider=ProviderSlug(new.provider),
            type=new.type,
            document=document,
            requested_by=by.user_id,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.REGISTRY_REQUESTS, by.organization_id, request, by)

    async def change_workflow(
        self, by: Principal, workflow_id: str, name: str, steps: object | None, expected_revision: int = 0
    ) -> Fact:
        """Other name, other steps, or both; `workflow.changed`. `steps` None leaves them."""
        definition = await self._definition(by.organization_id, WorkflowId(workflow_id), "")
        document = Document() if steps is None else await self._document(by, steps, definition.type)
        request = WorkflowChangeRequested(
            request_id=self._random_request(),
            organization_id=by.organization_id,
            workflow_id=WorkflowId(workflow_id),
            name=name,
            document=document,
            expected_revision=expected_revision,
            requested_by=by.user_id,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.REGISTRY_REQUESTS, by.organization_id, request, by)

    async def create_job(
        self, by: Principal, name: str, provider: str, order: Sequence[str], request_id: RequestId | None
    ) -> Fact:
        """A new job; `job.created`. Its references are checked by the registry, exactly."""
        request_id = request_id or self._random_request()
        request = JobCreateRequested(
            request_id=request_id,
            organization_id=by.organization_id,
            job_id=JobId(self._new_id(request_id, "job")),
            name=name,
            provider=ProviderSlug(provider),
            workflow_ids=tuple(WorkflowId(id_) for id_ in order),
            requested_by=by.user_id,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.REGISTRY_REQUESTS, by.organization_id, request, by)

    async def change_job(self, by: Principal, job_id: str, name: str, order: Sequence[str] | None) -> Fact:
        """Other name, other order, or both; `job.changed`."""
        request = JobChangeRequested(
            request_id=self._random_request(),
            organization_id=by.organization_id,
            job_id=JobId(job_id),
            name=name,
            order_given=order is not None,
            workflow_ids=tuple(WorkflowId(id_) for id_ in order or ()),
            requested_by=by.user_id,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.REGISTRY_REQUESTS, by.organization_id, request, by)

    async def register_provider(
        self, by: Principal, slug: str, display_name: str, login_url: str, allowed_domains: Sequence[str]
    ) -> Fact:
        """A provider as it stands from now on; `provider.registered`. Used when an installation is set up."""
        request = ProviderRegisterRequested(
            request_id=self._random_request(),
            organization_id=by.organization_id,
            slug=ProviderSlug(slug),
            display_name=display_name,
            login_url=login_url,
            allowed_domains=tuple(allowed_domains),
            requested_by=by.user_id,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.REGISTRY_REQUESTS, by.organization_id, request, by)

    # ---------------------------------------------------------------- runs

    async def start_job_run(self, by: Principal, job_id: str, start: StartInputs, request_id: RequestId | None) -> Fact:
        """A run of a job as it stands now; `job_run.created`."""
        definitions = await self._job_definitions(by.organization_id, JobId(job_id))
        request_id = request_id or self._random_request()
        root = RootRunId(self._new_id(request_id, "job_run"))
        chosen = [await self._chosen(definition, start, "/inputs") for definition in definitions]
        subject = await self._subject(by.organization_id, start.external_id)
        plan = [await self._plan(one, start, subject, root, position) for position, one in enumerate(chosen)]
        request = JobRunRequested(
            request_id=request_id,
            job_run_id=JobRunId(root),
            job_id=JobId(job_id),
            organization_id=by.organization_id,
            subject_id=subject,
            external_id=await self._seal_external_id(by.organization_id, subject, start.external_id),
            plan=await planning.fit(plan, self.store, by.organization_id, subject),
            test_mode=start.test_mode,
            created_by=by.user_id,
            retry_of="",
            priority=0,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.RUN_REQUESTS, root, request, by)

    async def start_workflow_run(
        self, by: Principal, workflow_id: str, start: StartInputs, request_id: RequestId | None
    ) -> Fact:
        """A run of one workflow alone; `workflow_run.created`. The workflow run is its own root run."""
        definition = await self._definition(by.organization_id, WorkflowId(workflow_id), "/workflowId")
        chosen = await self._chosen(definition, start, "/inputs")
        request_id = request_id or self._random_request()
        root = RootRunId(self._new_id(request_id, "workflow_run"))
        subject = await self._subject(by.organization_id, start.external_id)
        plan = await self._plan(chosen, start, subject, root, 0)
        request = WorkflowRunRequested(
            request_id=request_id,
            organization_id=by.organization_id,
            subject_id=subject,
            external_id=await self._seal_external_id(by.organization_id, subject, start.external_id),
            workflow=plan,
            test_mode=start.test_mode,
            created_by=by.user_id,
            retry_of="",
            priority=0,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.RUN_REQUESTS, plan.workflow_run_id, request, by)

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
        if request_id and (kept := await self._kept_outcome(request_id)):
            return self._accepted(kept)
        if status != InputRequestStatus.OPEN.value:
            raise Rejected("input_already_answered", f"the input request is {status}")
        asked: list[dict[str, Any]] = json.loads(fields)
        _check_answer(asked, values)
        request = InputAnswerSubmitted(
            request_id=request_id or self._random_request(),
            root_run_id=root,
            input_request_id=InputRequestId(input_request_id),
            values=await self._sealer(by.organization_id).seal_json(
                SubjectId(subject), await self._safe_answer(by.organization_id, SubjectId(subject), asked, values)
            ),
            answered_by=by.user_id,
            valid_until_ms=self._valid_until(),
        )
        return await self._ask(Topic.RUN_REQUESTS, root, request, by)

    # ---------------------------------------------------------------- asking

    async def _ask(self, topic: Topic, key: str, request: Any, by: Principal) -> Fact:
        """Append, wait, and turn a rejection into `Rejected`."""
        request_id: RequestId = request.request_id
        with self.waiters.outcome(request_id) as outcome:
            kept = await self._kept_outcome(request_id)
            if kept is None:
                await self._append(topic, key, request, by)
                try:
                    kept = await asyncio.wait_for(outcome, self.settings.outcome_wait_seconds)
                except TimeoutError:
                    raise Temporary(
                        "unavailable", "accepted, but not decided in time; ask for its state", delay_seconds=1.0
                    ) from None
        return self._accepted(kept)

    @staticmethod
    def _accepted(fact: Fact) -> Fact:
        event = fact.event
        if isinstance(event, RunRequestRejected):
            raise Rejected(event.code, event.message)
        if isinstance(event, RegistryRequestRejected):
            details = (Detail(event.path, event.code, event.message),) if event.path else ()
            raise Rejected(event.code, event.message, details)
        return fact

    async def _append(self, topic: Topic, key: str, request: Any, by: Principal) -> None:
        envelope = Envelope(
            id=request.request_id,
            time_ms=self.clock.now_ms(),
            organization_id=by.organization_id,
            correlation_id=request.request_id,
        )
        partition = partition_of(key, self.log.partitions(topic))
        await self.log.append([encode(request, topic=topic, key=key, envelope=envelope, partition=partition)])

    async def _kept_outcome(self, request_id: RequestId) -> Fact | None:
        """The outcome of an earlier request with this id; only derived ids can have one."""
        if not is_derived(request_id):
            return None
        row = await self.db.fetch_one(
            "SELECT stream, sequence, wire, time_ms, value FROM request_outcomes WHERE request_id = ?", (request_id,)
        )
        if row is None:
            return None
        stream, sequence, wire, time_ms, value = row
        return Fact(stream, sequence, wire, time_ms, decode_value(wire, bytes(value)), bytes(value))

    async def _cancel(self, by: Principal, root: str, workflow_run_id: str, request_id: RequestId | None) -> None:
        request = RunCancelRequested(
            request_id=request_id or self._random_request(),
            root_run_id=root,
            workflow_run_id=workflow_run_id,
            requested_by=by.user_id,
            valid_until_ms=self._valid_until(),
        )
        try:
            await self._ask(Topic.RUN_REQUESTS, root, request, by)
        except Rejected as rejected:
            if rejected.code != _ALREADY_TRUE:
                raise

    # ---------------------------------------------------------------- definitions and inputs

    async def _document(self, by: Principal, steps: object, type_: WorkflowType) -> Document:
        """A checked `stepsJson`, inline or staged. `Rejected` with pointers into the request's body."""
        faults = check_document(steps, workflow_type=type_, open_hosts=self.settings.open_hosts)
        if faults:
            details = tuple(replace(fault, path=f"/stepsJson{fault.path}") for fault in faults)
            raise Rejected(_document_code(faults), "stepsJson cannot be saved", details)
        text = msgspec.json.encode(steps)
        if len(text) <= planning.DOCUMENT_INLINE_BYTES_MAX:
            return Document(inline=text.decode(), size=len(text))
        subject = await self._subject(by.organization_id, "")
        staged = await self.store.put_bytes(text, PutHeader(subject, GatewayOpener(by.organization_id)))
        await self.store.mark_named([staged.sha256])
        return Document(blob=staged.sha256, size=staged.size)

    async def _definition(self, organization_id: OrganizationId, workflow_id: WorkflowId, pointer: str) -> Definition:
        """The workflow as it stands; `not_found`, `workflow_deleted`."""
        row = await self.db.fetch_one(
            "SELECT w.name, w.provider, w.type, w.document, w.document_blob, w.document_size, w.revision, w.status,"
            " p.allowed_domains FROM workflows w LEFT JOIN providers p"
            " ON p.organization_id = w.organization_id AND p.slug = w.provider"
            " WHERE w.id = ? AND w.organization_id = ?",
            (workflow_id, organization_id),
        )
        if row is None:
            details = (Detail(pointer, "not_found", "no such workflow"),) if pointer else ()
            raise Rejected("not_found", f"no workflow {workflow_id}", details)
        name, provider, type_, inline, blob, size, revision, status, domains = row
        definition = Definition(
            workflow_id=workflow_id,
            organization_id=organization_id,
            name=name,
            provider=ProviderSlug(provider),
            type=WorkflowType(type_),
            document=Document(inline, blob, size),
            revision=revision,
            archived=status == WorkflowStatus.ARCHIVED.value,
            provider_domains=tuple(json.loads(domains)) if domains else (),
        )
        if definition.archived:
            raise Rejected("workflow_deleted", f"workflow {workflow_id} was deleted")
        return definition

    async def _job_definitions(self, organization_id: OrganizationId, job_id: JobId) -> list[Definition]:
        row = await self.db.fetch_one(
            "SELECT workflow_ids FROM jobs WHERE id = ? AND organization_id = ?", (job_id, organization_id)
        )
        if row is None:
            raise Rejected("not_found", f"no job {job_id}", (Detail("/jobId", "not_found", "no such job"),))
        order: list[str] = json.loads(row[0])
        if not order:
            raise Rejected("empty_job", "the job names no workflow")
        found = {id_: await self._definition(organization_id, WorkflowId(id_), "") for id_ in dict.fromkeys(order)}
        return [found[id_] for id_ in order]

    async def _chosen(self, definition: Definition, start: StartInputs, pointer: str) -> Chosen:
        """Inputs given for this workflow alone win, and faults are then told below their own place."""
        own = start.by_workflow.get(definition.workflow_id)
        if own is not None:
            pointer = f"/workflowInputs/{definition.workflow_id}"
        reading = await self._reading(definition)
        inputs = planning.check_inputs(reading, {**start.shared, **(own or {})}, pointer)
        return Chosen(definition, reading, inputs)

    async def _reading(self, definition: Definition) -> Reading:
        place = (definition.workflow_id, definition.revision)
        reading = self.readings.get(place)
        if reading is None:
            document = definition.document
            text = document.inline or await self.store.get_bytes(document.blob)
            reading = self.readings[place] = planning.parse_reading(text)
            if len(self.readings) > READINGS_MAX:
                self.readings.popitem(last=False)
        return reading

    async def _plan(
        self, chosen: Chosen, start: StartInputs, subject: SubjectId, root: RootRunId, position: int
    ) -> PlannedWorkflow:
        connection = planning.connection_of(
            chosen.definition, subject, root, has_customer=bool(start.external_id), test_mode=start.test_mode
        )
        plan = planning.planned(chosen, root, position, connection)
        if not chosen.inputs:
            return plan
        safe = await planning.put_secrets(self.vault, subject, chosen)
        sealer = self._sealer(chosen.definition.organization_id)
        return replace(plan, inputs=await sealer.seal_json(subject, safe))

    async def _safe_answer(
        self, organization: OrganizationId, subject: SubjectId, asked: list[dict[str, Any]], values: Mapping[str, Any]
    ) -> dict[str, Any]:
        safe = dict(values)
        for field in asked:
            name = field["name"]
            if field["secret"] and name in safe:
                raw = str(safe[name]).encode()
                ref = await self.vault.put_secret(organization, subject, SecretKind.ANSWER, raw, ANSWER_TTL_MS)
                safe[name] = {"$secret": ref}
        return safe

    # ---------------------------------------------------------------- small things

    async def _subject(self, organization: OrganizationId, external_id: str) -> SubjectId:
        """Whose the personal values are. Runs without a customer are frequent, and their subject hardly changes."""
        if external_id:
            return await self.vault.subject_for(organization, external_id)
        now_ms = self.clock.boot_ms()
        known = self.own_subjects.get(organization)
        if known is None or now_ms - known[0] > OWN_SUBJECT_KEPT_MS:
            known = self.own_subjects[organization] = (now_ms, await self.vault.subject_for(organization))
        return known[1]

    def _sealer(self, organization: OrganizationId) -> Sealer:
        return Sealer(self.keys, self.store, self.entropy, GatewayOpener(organization))

    async def _seal_external_id(self, organization: OrganizationId, subject: SubjectId, external_id: str) -> Sealed:
        if not external_id:
            return Sealed(subject)
        return await self._sealer(organization).seal_text(subject, external_id)

    def _random_request(self) -> RequestId:
        return RequestId(self.entropy.uuid())

    def _new_id(self, request_id: RequestId, kind: str) -> str:
        """An entity's id: random, but for a request that may come again the same every time."""
        return derived_id(kind, request_id) if is_derived(request_id) else self.entropy.uuid()

    def _valid_until(self) -> int:
        return self.clock.now_ms() + self.settings.request_validity_seconds * 1000


def _document_code(faults: Sequence[Detail]) -> str:
    """The code of the whole: the most telling one among the faults."""
    codes = {fault.code for fault in faults}
    if "document_too_large" in codes:
        return "body_too_large"
    return next((code for code in _DOCUMENT_CODES if code in codes), "validation_failed")


def _check_answer(asked: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> None:
    """Every field is answered, by text that fits; nothing else is. The offending value is never repeated."""
    faults = [Detail(f"/values/{name}", "unknown", "is not asked for") for name in values.keys() - _names(asked)]
    for field in asked:
        pointer = f"/values/{field['name']}"
        value = values.get(field["name"])
        if value is None:
            faults.append(Detail(pointer, "inputs_missing", "is required"))
        elif not isinstance(value, str | bool):
            faults.append(Detail(pointer, "inputs_invalid", "must be text"))
        elif field["options"] and value not in field["options"]:
            faults.append(Detail(pointer, "inputs_invalid", "must be one of the options"))
    if faults:
        raise Rejected("inputs_invalid", "the answer does not fit the question", tuple(faults))


def _names(asked: Sequence[Mapping[str, Any]]) -> set[str]:
    return {field["name"] for field in asked}
