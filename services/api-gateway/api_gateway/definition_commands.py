"""What a principal may ask about definitions: each call becomes one request to the registry, which decides it.

What needs the document or the vault is checked here; names, references and versions are checked by the registry,
exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from api_gateway import planning
from api_gateway.asking import Asker
from api_gateway.principal import Principal
from api_gateway.projections.change import Fact
from api_gateway.subjects import Subjects
from kernel.domain.ids import JobId, ProviderSlug, RequestId, WorkflowId
from kernel.domain.job import JobChangeRequested, JobCreateRequested
from kernel.domain.plan import WorkflowType
from kernel.domain.provider import ProviderRegisterRequested
from kernel.domain.values import Document
from kernel.domain.workflow import WorkflowChangeRequested, WorkflowCreateRequested
from kernel.errors import Detail, Rejected
from kernel.log.topics import Topic
from kernel.steps.check import check_document
from kernel.store.port import ByteStore, GatewayOpener, PutHeader

_DOCUMENT_CODES = ("unknown_step_type", "url_not_allowed")


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """What makes a workflow; `steps` is `stepsJson` as decoded from JSON."""

    name: str
    provider: str
    type: WorkflowType
    steps: object


@dataclass(frozen=True, slots=True)
class WorkflowChange:
    """What shall be different. `type` is the workflow's own; an empty `name` and `steps` None leave theirs."""

    type: WorkflowType
    name: str
    steps: object | None
    expected_revision: int = 0


@dataclass(frozen=True, slots=True)
class DefinitionCommands:
    """Everything a principal can ask about definitions. Each call appends one request and returns its outcome.

    All raise `Rejected` for what breaks a rule (nothing changed) and `Temporary` when the platform does not answer.
    """

    asker: Asker
    store: ByteStore
    subjects: Subjects

    async def create_workflow(self, by: Principal, new: NewWorkflow, request_id: RequestId | None) -> Fact:
        """A new workflow; `workflow.created`."""
        document = await self._document(by, new.steps, new.type)
        request_id = request_id or self.asker.random_request()
        request = WorkflowCreateRequested(
            request_id=request_id,
            organization_id=by.organization_id,
            workflow_id=WorkflowId(self.asker.new_id(request_id, "workflow")),
            name=new.name,
            provider=ProviderSlug(new.provider),
            type=new.type,
            document=document,
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self._ask(by, request)

    async def change_workflow(self, by: Principal, workflow_id: str, change: WorkflowChange) -> Fact:
        """Other name, other steps, or both; `workflow.changed`."""
        document = Document() if change.steps is None else await self._document(by, change.steps, change.type)
        request = WorkflowChangeRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            workflow_id=WorkflowId(workflow_id),
            name=change.name,
            document=document,
            expected_revision=change.expected_revision,
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self._ask(by, request)

    async def create_job(
        self, by: Principal, name: str, provider: str, order: Sequence[str], request_id: RequestId | None
    ) -> Fact:
        """A new job; `job.created`. Its references are checked by the registry, exactly."""
        request_id = request_id or self.asker.random_request()
        request = JobCreateRequested(
            request_id=request_id,
            organization_id=by.organization_id,
            job_id=JobId(self.asker.new_id(request_id, "job")),
            name=name,
            provider=ProviderSlug(provider),
            workflow_ids=tuple(WorkflowId(id_) for id_ in order),
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self._ask(by, request)

    async def change_job(self, by: Principal, job_id: str, name: str, order: Sequence[str] | None) -> Fact:
        """Other name, other order, or both; `job.changed`."""
        request = JobChangeRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            job_id=JobId(job_id),
            name=name,
            order_given=order is not None,
            workflow_ids=tuple(WorkflowId(id_) for id_ in order or ()),
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self._ask(by, request)

    async def register_provider(
        self, by: Principal, slug: str, display_name: str, login_url: str, allowed_domains: Sequence[str]
    ) -> Fact:
        """A provider as it stands from now on; `provider.registered`. Used when an installation is set up."""
        request = ProviderRegisterRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            slug=ProviderSlug(slug),
            display_name=display_name,
            login_url=login_url,
            allowed_domains=tuple(allowed_domains),
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
        )
        return await self._ask(by, request)

    async def _ask(
        self,
        by: Principal,
        request: WorkflowCreateRequested
        | WorkflowChangeRequested
        | JobCreateRequested
        | JobChangeRequested
        | ProviderRegisterRequested,
    ) -> Fact:
        return await self.asker.ask(Topic.REGISTRY_REQUESTS, by.organization_id, request, by)

    async def _document(self, by: Principal, steps: object, type_: WorkflowType) -> Document:
        """A checked `stepsJson`, inline or staged. `Rejected` with pointers into the request's body."""
        faults = check_document(steps, workflow_type=type_, open_hosts=self.asker.settings.open_hosts)
        if faults:
            details = tuple(replace(fault, path=f"/stepsJson{fault.path}") for fault in faults)
            raise Rejected(_document_code(faults), "stepsJson cannot be saved", details)
        text = msgspec.json.encode(steps)
        if len(text) <= planning.DOCUMENT_INLINE_BYTES_MAX:
            return Document(inline=text.decode(), size=len(text))
        subject = await self.subjects.of(by.organization_id, "")
        staged = await self.store.put_bytes(text, PutHeader(subject, GatewayOpener(by.organization_id)))
        await self.store.mark_named([staged.sha256])
        return Document(blob=staged.sha256, size=staged.size)


def _document_code(faults: Sequence[Detail]) -> str:
    """The code of the whole: the most telling one among the faults."""
    codes = {fault.code for fault in faults}
    if "document_too_large" in codes:
        return "body_too_large"
    return next((code for code in _DOCUMENT_CODES if code in codes), "validation_failed")
