"""A job: workflows of one provider in an order.

created -> changed* -> deleted
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from kernel.building import replace
from kernel.domain.ids import JobId, OrganizationId, ProviderSlug, RequestId, UserId, WorkflowId

# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class JobCreateRequested:
    """Internal."""

    request_id: RequestId
    organization_id: OrganizationId
    job_id: JobId
    name: str
    provider: ProviderSlug
    workflow_ids: tuple[WorkflowId, ...]
    requested_by: UserId
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class JobChangeRequested:
    """Internal. An empty `name` leaves it; `order_given` False leaves the order."""

    request_id: RequestId
    organization_id: OrganizationId
    job_id: JobId
    name: str
    order_given: bool
    workflow_ids: tuple[WorkflowId, ...]
    requested_by: UserId
    valid_until_ms: int
    expected_sequence: int = 0
    """The last fact about it must have this sequence; 0: any."""


@dataclass(frozen=True, slots=True)
class JobDeleteRequested:
    """Internal. `force`: also while a link to it is open."""

    request_id: RequestId
    organization_id: OrganizationId
    job_id: JobId
    force: bool
    requested_by: UserId
    valid_until_ms: int
    expected_sequence: int = 0
    """The last fact about it must have this sequence; 0: any."""


@dataclass(frozen=True, slots=True)
class RegistryRequestRejected:
    """A request about a definition was refused; nothing changed. `path` is a JSON Pointer, empty for the whole."""

    request_id: RequestId
    organization_id: OrganizationId
    code: str
    message: str
    path: str
    in_use_by: tuple[str, ...] = ()
    """Ids of the entities that stand in the way, such as the jobs that name a workflow; at most 20."""


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class JobCreated:
    """A job exists."""

    job_id: JobId
    organization_id: OrganizationId
    name: str
    provider: ProviderSlug
    workflow_ids: tuple[WorkflowId, ...]
    created_by: UserId
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class JobChanged:
    """Name and order as they stand now; running jobs keep their snapshot."""

    job_id: JobId
    name: str
    workflow_ids: tuple[WorkflowId, ...]
    changed_by: UserId
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class JobDeleted:
    """The job is gone; its runs stay, those under way keep their snapshot. Terminal."""

    job_id: JobId
    deleted_by: UserId
    request_id: RequestId


JobEvent = JobCreated | JobChanged | JobDeleted

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the registry keeps it."""

    id: JobId = JobId("")
    organization_id: OrganizationId = OrganizationId("")
    name: str = ""
    provider: ProviderSlug = ProviderSlug("")
    workflow_ids: tuple[WorkflowId, ...] = ()
    sequence: int = 0
    deleted: bool = False


def evolve(job: Job, event: JobEvent) -> Job:
    """Fold one fact."""
    match event:
        case JobCreated():
            return replace(
                job,
                id=event.job_id,
                organization_id=event.organization_id,
                name=event.name,
                provider=event.provider,
                workflow_ids=event.workflow_ids,
            )
        case JobChanged():
            return replace(job, name=event.name, workflow_ids=event.workflow_ids)
        case JobDeleted():
            return replace(job, deleted=True)
        case _:
            assert_never(event)
