"""What becomes of a request about a workflow definition.

A revision counts versions of the *steps*: a new name leaves it. Provider and type are fixed at creation.
"""

from __future__ import annotations

from collections.abc import Collection

from api_gateway.registry.refusal import Refusal, name_refusal, version_refusal
from kernel.domain.ids import JobId
from kernel.domain.values import Document
from kernel.domain.workflow import (
    Workflow,
    WorkflowArchived,
    WorkflowChanged,
    WorkflowChangeRequested,
    WorkflowCreated,
    WorkflowCreateRequested,
    WorkflowDeleteRequested,
    WorkflowStatus,
)

IN_USE_BY_MAX = 20
"""So many jobs are named when they keep a workflow from being deleted."""


def create(known: Workflow | None, request: WorkflowCreateRequested) -> WorkflowCreated | Refusal:
    """A new workflow at revision 1."""
    if known is not None:
        return Refusal("already_exists", "a workflow with this id exists")
    if refusal := name_refusal(request.name):
        return refusal
    if request.document == Document():
        return Refusal("validation_failed", "a workflow has steps", "/stepsJson")
    return WorkflowCreated(
        workflow_id=request.workflow_id,
        organization_id=request.organization_id,
        name=request.name,
        provider=request.provider,
        type=request.type,
        document=request.document,
        revision=1,
        created_by=request.requested_by,
        request_id=request.request_id,
    )


def change(known: Workflow | None, request: WorkflowChangeRequested) -> WorkflowChanged | Refusal:
    """Name and steps as they stand after the change; what the request leaves empty stays."""
    if known is None or known.organization_id != request.organization_id:
        return Refusal("not_found", "no such workflow")
    if known.status is WorkflowStatus.ARCHIVED:
        return Refusal("workflow_deleted", "the workflow was deleted")
    if request.expected_revision not in {0, known.revision}:
        return Refusal("precondition_failed", f"the workflow stands at revision {known.revision}")
    name = request.name or known.name
    if refusal := version_refusal(request.expected_sequence, known.sequence) or name_refusal(name):
        return refusal
    document = request.document if request.document != Document() else known.document
    return WorkflowChanged(
        workflow_id=known.id,
        name=name,
        document=document,
        revision=known.revision + (document != known.document),
        changed_by=request.requested_by,
        request_id=request.request_id,
    )


def delete(
    known: Workflow | None, request: WorkflowDeleteRequested, used_by: Collection[JobId]
) -> WorkflowArchived | Refusal:
    """Archived; by force also while jobs name it, which then refuse to run until they are edited."""
    if known is None or known.organization_id != request.organization_id:
        return Refusal("not_found", "no such workflow")
    if known.status is WorkflowStatus.ARCHIVED:
        return Refusal("workflow_deleted", "the workflow was deleted")
    if refusal := version_refusal(request.expected_sequence, known.sequence):
        return refusal
    if used_by and not request.force:
        named = tuple(sorted(used_by)[:IN_USE_BY_MAX])
        return Refusal("workflow_in_use", f"jobs that name the workflow: {len(used_by)}", in_use_by=named)
    return WorkflowArchived(workflow_id=known.id, archived_by=request.requested_by, request_id=request.request_id)
