"""A workflow definition: named steps for one provider, with revisions.

created -> changed* -> archived     archived ones stay readable; runs keep their snapshot
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from kernel.building import replace
from kernel.domain.ids import OrganizationId, ProviderSlug, RequestId, UserId, WorkflowId
from kernel.domain.plan import WorkflowType
from kernel.domain.values import Document

# ---------------------------------------------------------------- status


class WorkflowStatus(StrEnum):
    """ARCHIVED is terminal."""

    ACTIVE = "active"
    ARCHIVED = "archived"


TRANSITIONS: dict[WorkflowStatus, frozenset[WorkflowStatus]] = {
    WorkflowStatus.ACTIVE: frozenset({WorkflowStatus.ARCHIVED}),
    WorkflowStatus.ARCHIVED: frozenset(),
}

# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class WorkflowCreateRequested:
    """Internal."""

    request_id: RequestId
    organization_id: OrganizationId
    workflow_id: WorkflowId
    name: str
    provider: ProviderSlug
    type: WorkflowType
    document: Document
    requested_by: UserId
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class WorkflowChangeRequested:
    """Internal. An empty `name` and an empty document leave theirs as they are; `expected_revision` 0 means any."""

    request_id: RequestId
    organization_id: OrganizationId
    workflow_id: WorkflowId
    name: str
    document: Document
    expected_revision: int
    requested_by: UserId
    valid_until_ms: int
    expected_sequence: int = 0
    """The last fact about it must have this sequence; 0: any."""


@dataclass(frozen=True, slots=True)
class WorkflowDeleteRequested:
    """Internal. `force`: also while a job names it; such a job refuses to run until it is edited."""

    request_id: RequestId
    organization_id: OrganizationId
    workflow_id: WorkflowId
    force: bool
    requested_by: UserId
    valid_until_ms: int
    expected_sequence: int = 0
    """The last fact about it must have this sequence; 0: any."""


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class WorkflowCreated:
    """A workflow exists at revision 1."""

    workflow_id: WorkflowId
    organization_id: OrganizationId
    name: str
    provider: ProviderSlug
    type: WorkflowType
    document: Document
    revision: int
    created_by: UserId
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class WorkflowChanged:
    """Name or steps changed; `revision` grows only with the steps. Name and document are as they stand now."""

    workflow_id: WorkflowId
    name: str
    document: Document
    revision: int
    changed_by: UserId
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class WorkflowArchived:
    """It was deleted: it takes no change and no new run; it stays readable, and runs under way keep their snapshot."""

    workflow_id: WorkflowId
    archived_by: UserId
    request_id: RequestId


WorkflowEvent = WorkflowCreated | WorkflowChanged | WorkflowArchived

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as the registry keeps it; documents by hash are enough to see a change."""

    id: WorkflowId = WorkflowId("")
    organization_id: OrganizationId = OrganizationId("")
    name: str = ""
    provider: ProviderSlug = ProviderSlug("")
    type: WorkflowType = WorkflowType.USER_DEFINED
    document: Document = field(default_factory=Document)
    revision: int = 0
    status: WorkflowStatus = WorkflowStatus.ACTIVE
    sequence: int = 0


def evolve(workflow: Workflow, event: WorkflowEvent) -> Workflow:
    """Fold one fact."""
    match event:
        case WorkflowCreated():
            return replace(
                workflow,
                id=event.workflow_id,
                organization_id=event.organization_id,
                name=event.name,
                provider=event.provider,
                type=event.type,
                document=event.document,
                revision=event.revision,
            )
        case WorkflowChanged():
            return replace(workflow, name=event.name, document=event.document, revision=event.revision)
        case WorkflowArchived():
            return replace(workflow, status=WorkflowStatus.ARCHIVED)
        case _:
            assert_never(event)
