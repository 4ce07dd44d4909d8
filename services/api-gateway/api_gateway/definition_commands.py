"""What a principal may ask about definitions: each call becomes one request to the registry, which decides it.

How things are spelled (documents, URLs, domains) is checked here; names, references and versions are checked by the
registry, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from api_gateway import planning
from api_gateway.asking import Asker
from api_gateway.principal import Principal
from api_gateway.projections.change import Fact
from api_gateway.registry.decider import Request
from api_gateway.subjects import Subjects
from kernel.domain.ids import JobId, ProviderSlug, RequestId, WorkflowId
from kernel.domain.job import JobChangeRequested, JobCreateRequested, JobDeleteRequested
from kernel.domain.plan import WorkflowType
from kernel.domain.provider import ProviderDeleteRequested, ProviderRegisterRequested, RegisterMode
from kernel.domain.values import Document
from kernel.domain.workflow import WorkflowChangeRequested, WorkflowCreateRequested, WorkflowDeleteRequested
from kernel.egress import policy
from kernel.errors import Detail, Rejected
from kernel.log.topics import Topic
from kernel.steps.check import check_document
from kernel.steps.hosts import url_problem
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


@dataclass(frozen=True, slots=True)
class ProviderFields:
    """What is said about a provider; None leaves a field as it is, or at its default. Empty texts and 0 clear it."""

    display_name: str | None = None
    logo_url: str | None = None
    login_url: str | None = None
    allowed_domains: tuple[str, ...] | None = None
    default_job_id: str | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class DefinitionCommands:
    """Everything a principal can ask about definitions. Each call appends one request and returns its outcome.

    `expected` is the version that a change is meant for (`version` of an answer): when the entity has changed since, it
    is `precondition_failed`, and of two such changes exactly one wins. 0 means any version.

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

    async def change_workflow(self, by: Principal, workflow_id: str, change: WorkflowChange, expected: int = 0) -> Fact:
        """Other name, other steps, or both; `workflow.changed`."""
        document = Document() if change.steps is None else await self._document(by, change.steps, change.type)
        request = WorkflowChangeRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            workflow_id=WorkflowId(workflow_id),
            name=change.name,
            document=document,
            expected_revision=0,
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
            expected_sequence=expected,
        )
        return await self._ask(by, request)

    async def delete_workflow(self, by: Principal, workflow_id: str, *, force: bool, expected: int = 0) -> Fact:
        """Archive it; `workflow.archived`. `workflow_in_use` names the jobs that stand in the way without `force`."""
        request = WorkflowDeleteRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            workflow_id=WorkflowId(workflow_id),
            force=force,
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
            expected_sequence=expected,
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

    async def change_job(
        self, by: Principal, job_id: str, name: str, order: Sequence[str] | None, expected: int = 0
    ) -> Fact:
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
            expected_sequence=expected,
        )
        return await self._ask(by, request)

    async def delete_job(self, by: Principal, job_id: str, *, force: bool, expected: int = 0) -> Fact:
        """It is gone; `job.deleted`. Its runs stay."""
        request = JobDeleteRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            job_id=JobId(job_id),
            force=force,
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
            expected_sequence=expected,
        )
        return await self._ask(by, request)

    async def create_provider(
        self, by: Principal, slug: str, fields: ProviderFields, request_id: RequestId | None
    ) -> Fact:
        """Register a provider; `provider.registered`. `provider_exists` when its slug is taken."""
        asked = self._provider_request(by, slug, fields)
        return await self._ask(by, replace(asked, request_id=request_id or asked.request_id, mode=RegisterMode.CREATE))

    async def change_provider(self, by: Principal, slug: str, fields: ProviderFields, expected: int = 0) -> Fact:
        """Other values for the fields that are given; `provider.registered`, with all of them as they stand now."""
        given = tuple(name for name in ProviderFields.__slots__ if getattr(fields, name) is not None)
        asked = self._provider_request(by, slug, fields)
        return await self._ask(by, replace(asked, mode=RegisterMode.CHANGE, given=given, expected_sequence=expected))

    async def delete_provider(self, by: Principal, slug: str, expected: int = 0) -> Fact:
        """Register it no more; `provider.deleted`. Workflows go on with the domains of their own steps."""
        request = ProviderDeleteRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            slug=ProviderSlug(slug),
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
            expected_sequence=expected,
        )
        return await self._ask(by, request)

    def _provider_request(self, by: Principal, slug: str, fields: ProviderFields) -> ProviderRegisterRequested:
        """A checked registration. `Rejected` with pointers into the request's body."""
        return ProviderRegisterRequested(
            request_id=self.asker.random_request(),
            organization_id=by.organization_id,
            slug=ProviderSlug(slug),
            display_name=fields.display_name or "",
            login_url=self._url("loginUrl", fields.login_url),
            allowed_domains=_domains(fields.allowed_domains or ()),
            requested_by=by.user_id,
            valid_until_ms=self.asker.valid_until(),
            logo_url=self._url("logoUrl", fields.logo_url),
            default_job_id=JobId(fields.default_job_id or ""),
            concurrency=fields.concurrency or 0,
        )

    def _url(self, name: str, url: str | None) -> str:
        """An `http` or `https` URL that a document could hold, too, but for templates. Empty: none."""
        if not url:
            return ""
        problem = "is no template" if "{{" in url else url_problem(url, self.asker.settings.open_hosts)
        if problem:
            raise Rejected("url_not_allowed", problem, (Detail(f"/{name}", "url_not_allowed", problem),))
        return url

    async def _ask(
        self,
        by: Principal,
        request: Request,
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


def _domains(domains: Sequence[str]) -> tuple[str, ...]:
    """Host names in canonical form, each once; a leading dot, which allows sub-domains, stays."""
    found = []
    for index, domain in enumerate(domains):
        try:
            name = policy.host_name(domain.removeprefix("."))
        except ValueError:
            spot = Detail(
                f"/allowedDomains/{index}", "validation_failed", "must be a host name; a leading dot may stand"
            )
            raise Rejected("validation_failed", "a domain is malformed", (spot,)) from None
        found.append(f".{name}" if domain.startswith(".") else name)
    return tuple(dict.fromkeys(found))


def _document_code(faults: Sequence[Detail]) -> str:
    """The code of the whole: the most telling one among the faults."""
    codes = {fault.code for fault in faults}
    if "document_too_large" in codes:
        return "body_too_large"
    return next((code for code in _DOCUMENT_CODES if code in codes), "validation_failed")
