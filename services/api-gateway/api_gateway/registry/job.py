"""What becomes of a request about a job.

Every workflow it lists exists, belongs to the organization and has the job's provider.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from api_gateway.registry.refusal import Refusal, name_refusal, version_refusal
from kernel.domain.ids import OrganizationId, ProviderSlug, WorkflowId
from kernel.domain.job import (
    Job,
    JobChanged,
    JobChangeRequested,
    JobCreated,
    JobCreateRequested,
    JobDeleted,
    JobDeleteRequested,
)
from kernel.domain.workflow import Workflow, WorkflowStatus

ORDER_PATH = "/jobConfigJson/workflowExecutionOrder"

Find = Callable[[WorkflowId], Workflow | None]
"""Finds a workflow of this partition, of any organization."""


def create(known: Job | None, request: JobCreateRequested, find: Find) -> JobCreated | Refusal:
    """A new job; its order may be empty while it is drafted."""
    if known is not None:
        return Refusal("already_exists", "a job with this id exists")
    refusal = name_refusal(request.name) or order_refusal(
        request.workflow_ids, request.organization_id, request.provider, find
    )
    if refusal:
        return refusal
    return JobCreated(
        job_id=request.job_id,
        organization_id=request.organization_id,
        name=request.name,
        provider=request.provider,
        workflow_ids=request.workflow_ids,
        created_by=request.requested_by,
        request_id=request.request_id,
    )


def change(known: Job | None, request: JobChangeRequested, find: Find) -> JobChanged | Refusal:
    """Name and order as they stand after the change."""
    if known is None or known.deleted or known.organization_id != request.organization_id:
        return Refusal("not_found", "no such job")
    name = request.name or known.name
    refusal = version_refusal(request.expected_sequence, known.sequence) or name_refusal(name)
    if refusal is None and request.order_given:
        refusal = order_refusal(request.workflow_ids, known.organization_id, known.provider, find)
    if refusal:
        return refusal
    return JobChanged(
        job_id=known.id,
        name=name,
        workflow_ids=request.workflow_ids if request.order_given else known.workflow_ids,
        changed_by=request.requested_by,
        request_id=request.request_id,
    )


def delete(known: Job | None, request: JobDeleteRequested) -> JobDeleted | Refusal:
    """It goes; its runs stay. `force` matters to open links alone, and nothing in the registry opens one."""
    if known is None or known.deleted or known.organization_id != request.organization_id:
        return Refusal("not_found", "no such job")
    return version_refusal(request.expected_sequence, known.sequence) or JobDeleted(
        job_id=known.id, deleted_by=request.requested_by, request_id=request.request_id
    )


def order_refusal(
    workflow_ids: Sequence[WorkflowId], organization: OrganizationId, provider: ProviderSlug, find: Find
) -> Refusal | None:
    """The first listed workflow that this job may not name; a workflow may occur twice."""
    for index, workflow_id in enumerate(workflow_ids):
        path = f"{ORDER_PATH}/{index}"
        workflow = find(workflow_id)
        if workflow is None or workflow.organization_id != organization or workflow.status is WorkflowStatus.ARCHIVED:
            return Refusal("not_found", f"no workflow {workflow_id}", path)
        if workflow.provider != provider:
            return Refusal(
                "provider_mismatch", f"the workflow is for {workflow.provider}, the job for {provider}", path
            )
    return None
