"""given / when / then for the registry: past requests are folded, one more is decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api_gateway.registry.decider import RegistryDecider, Request
from api_gateway.registry.state import RegistryState
from kernel.domain.connection import LoginObserved
from kernel.domain.decider import Context, Decision, Input, Wake
from kernel.domain.ids import JobId, OrganizationId, ProviderSlug, RequestId, UserId, WorkflowId
from kernel.domain.job import JobChangeRequested, JobCreateRequested, JobDeleteRequested
from kernel.domain.plan import WorkflowType
from kernel.domain.provider import ProviderDeleteRequested, ProviderRegisterRequested, RegisterMode
from kernel.domain.provider_health import ProviderHealthObserved
from kernel.domain.values import Document
from kernel.domain.workflow import WorkflowChangeRequested, WorkflowCreateRequested, WorkflowDeleteRequested
from kernel.ids import derived_id

ACME = OrganizationId("00000000-0000-4000-8000-0000000000a1")
RIVAL = OrganizationId("00000000-0000-4000-8000-0000000000b2")
ALICE = UserId("00000000-0000-4000-8000-0000000000c3")
GUSTO = ProviderSlug("gusto")
TOAST = ProviderSlug("toast")
LATE = 10_000_000


class Registry:
    """One partition of the registry with its ledger in memory."""

    def __init__(self) -> None:
        self.decider = RegistryDecider()
        self.state: RegistryState = self.decider.empty()
        self.ledger: list[Decision] = []
        self.now_ms = 1_000

    def when(self, cause: Request | LoginObserved | ProviderHealthObserved | Wake) -> Sequence[Decision]:
        """Decide, fold, and hand back what was decided."""
        event: Any = cause
        heard = cause if isinstance(cause, Wake) else Input("registry_requests", ACME, event, "", "", self.now_ms)
        decisions = self.decider.decide(self.state, heard, Context(self.now_ms, derived_id, lambda: "0" * 32))
        for decision in decisions:
            fold(self.decider, self.state, decision)
        self.ledger.extend(decisions)
        return decisions

    def facts(self, request: Request | LoginObserved | ProviderHealthObserved | Wake) -> list[Any]:
        """The public facts that follow from `request`."""
        return [derived.event for decision in self.when(request) for derived in self.decider.derive(decision)]


def fold(decider: RegistryDecider, state: RegistryState, decision: Decision) -> None:
    """Apply one decision key by key, as the owning loop does."""
    for key in decider.touches(decision):
        state.put(key, decider.evolve(key, state.get(key), decision))


def create_workflow(
    name: str = "w",
    *,
    workflow: str = "w1",
    request: str = "",
    organization: OrganizationId = ACME,
    provider: ProviderSlug = GUSTO,
    steps: str = '{"steps":[]}',
    valid_until_ms: int = LATE,
) -> WorkflowCreateRequested:
    return WorkflowCreateRequested(
        RequestId(request or f"create-{workflow}"),
        organization,
        WorkflowId(workflow),
        name,
        provider,
        WorkflowType.USER_DEFINED,
        Document(inline=steps),
        ALICE,
        valid_until_ms,
    )


def change_workflow(
    name: str = "",
    *,
    workflow: str = "w1",
    request: str = "change",
    organization: OrganizationId = ACME,
    steps: str = "",
    expected_revision: int = 0,
    expected_sequence: int = 0,
    valid_until_ms: int = LATE,
) -> WorkflowChangeRequested:
    return WorkflowChangeRequested(
        RequestId(request),
        organization,
        WorkflowId(workflow),
        name,
        Document(inline=steps),
        expected_revision,
        ALICE,
        valid_until_ms,
        expected_sequence,
    )


def create_job(
    *order: str,
    name: str = "j",
    job: str = "j1",
    request: str = "",
    organization: OrganizationId = ACME,
    provider: ProviderSlug = GUSTO,
) -> JobCreateRequested:
    return JobCreateRequested(
        RequestId(request or f"create-{job}"),
        organization,
        JobId(job),
        name,
        provider,
        tuple(WorkflowId(id_) for id_ in order),
        ALICE,
        LATE,
    )


def change_job(
    order: Sequence[str] | None = None,
    *,
    name: str = "",
    job: str = "j1",
    request: str = "change-job",
    organization: OrganizationId = ACME,
    expected_sequence: int = 0,
) -> JobChangeRequested:
    return JobChangeRequested(
        RequestId(request),
        organization,
        JobId(job),
        name,
        order is not None,
        tuple(WorkflowId(id_) for id_ in order or ()),
        ALICE,
        LATE,
        expected_sequence,
    )


def delete_workflow(
    workflow: str = "w1",
    *,
    request: str = "delete",
    organization: OrganizationId = ACME,
    force: bool = False,
    expected_sequence: int = 0,
) -> WorkflowDeleteRequested:
    return WorkflowDeleteRequested(
        RequestId(request), organization, WorkflowId(workflow), force, ALICE, LATE, expected_sequence
    )


def delete_job(
    job: str = "j1", *, request: str = "delete-job", organization: OrganizationId = ACME, expected_sequence: int = 0
) -> JobDeleteRequested:
    return JobDeleteRequested(RequestId(request), organization, JobId(job), False, ALICE, LATE, expected_sequence)


def register_provider(
    slug: ProviderSlug = GUSTO,
    *,
    request: str = "register",
    organization: OrganizationId = ACME,
    mode: RegisterMode = RegisterMode.CREATE,
    given: Sequence[str] = (),
    **fields: Any,
) -> ProviderRegisterRequested:
    values: dict[str, Any] = {"display_name": "", "login_url": "", "allowed_domains": (), **fields}
    return ProviderRegisterRequested(
        request_id=RequestId(request),
        organization_id=organization,
        slug=slug,
        requested_by=ALICE,
        valid_until_ms=LATE,
        mode=mode,
        given=tuple(given),
        **values,
    )


def delete_provider(
    slug: ProviderSlug = GUSTO,
    *,
    request: str = "delete-provider",
    organization: OrganizationId = ACME,
    expected_sequence: int = 0,
) -> ProviderDeleteRequested:
    return ProviderDeleteRequested(RequestId(request), organization, slug, ALICE, LATE, expected_sequence)
