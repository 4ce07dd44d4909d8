"""The registry: one decider over all definitions of an organization, so that names and references are checked exactly.

    request -> fact about the entity, and `registry.request_remembered`
            -> `registry.request_rejected`, and `registry.request_remembered`
            -> nothing, when the same request id was decided before: its first outcome stands
    login observed -> facts about the connection
    health observed -> a fact about the provider's health when that changes
    a day later    -> `registry.request_forgotten`
A fact's public record is keyed by its entity, and its sequence counts the facts of that entity. A rejection is a stream
of one record, keyed by the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, assert_never

from api_gateway.registry import job as jobs
from api_gateway.registry import provider as providers
from api_gateway.registry import workflow as workflows
from api_gateway.registry.refusal import Refusal
from api_gateway.registry.state import RegistryState, RememberedRequest
from kernel.domain import connection as connections
from kernel.domain import job as job_facts
from kernel.domain import provider as provider_facts
from kernel.domain import provider_health as healths
from kernel.domain import workflow as workflow_facts
from kernel.domain.connection import (
    Connection,
    ConnectionCreated,
    ConnectionEvent,
    ConnectionLoginRecorded,
    LoginObserved,
)
from kernel.domain.decider import Context, Decision, Derived, Input, State, TakenOver, Wake
from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.domain.job import (
    Job,
    JobChanged,
    JobChangeRequested,
    JobCreated,
    JobCreateRequested,
    JobDeleted,
    JobDeleteRequested,
    JobEvent,
    RegistryRequestRejected,
)
from kernel.domain.provider import (
    Provider,
    ProviderDeleted,
    ProviderDeleteRequested,
    ProviderEvent,
    ProviderRegistered,
    ProviderRegisterRequested,
)
from kernel.domain.provider_health import (
    ProviderDegraded,
    ProviderHealth,
    ProviderHealthEvent,
    ProviderHealthObserved,
    ProviderRecovered,
)
from kernel.domain.registry_request import REMEMBERED_MS, RegistryRequestForgotten, RegistryRequestRemembered
from kernel.domain.workflow import (
    Workflow,
    WorkflowArchived,
    WorkflowChanged,
    WorkflowChangeRequested,
    WorkflowCreated,
    WorkflowCreateRequested,
    WorkflowDeleteRequested,
    WorkflowEvent,
)

Request = (
    WorkflowCreateRequested
    | WorkflowChangeRequested
    | WorkflowDeleteRequested
    | JobCreateRequested
    | JobChangeRequested
    | JobDeleteRequested
    | ProviderRegisterRequested
    | ProviderDeleteRequested
)
EntityFact = WorkflowEvent | JobEvent | ProviderEvent | ProviderHealthEvent | ConnectionEvent
Fact = EntityFact | RegistryRequestRejected
DECISIONS_PER_WAKE_MAX = 500


# ---------------------------------------------------------------- keys


def workflow_key(workflow_id: str) -> str:
    return f"workflow/{workflow_id}"


def job_key(job_id: str) -> str:
    return f"job/{job_id}"


def provider_key(organization: OrganizationId, slug: ProviderSlug) -> str:
    return f"provider/{organization}/{slug}"


def health_key(organization: OrganizationId, slug: ProviderSlug) -> str:
    return f"health/{organization}/{slug}"


def connection_key(connection_id: str) -> str:
    return f"connection/{connection_id}"


def request_key(request_id: str) -> str:
    return f"request/{request_id}"


def state_key(event: Fact | RegistryRequestRemembered | RegistryRequestForgotten) -> str | None:
    """The one key that a decision changes; None when it changes none."""
    match event:
        case WorkflowCreated() | WorkflowChanged() | WorkflowArchived():
            return workflow_key(event.workflow_id)
        case JobCreated() | JobChanged() | JobDeleted():
            return job_key(event.job_id)
        case ProviderRegistered() | ProviderDeleted():
            return provider_key(event.organization_id, event.slug)
        case ProviderDegraded() | ProviderRecovered():
            return health_key(event.organization_id, event.slug)
        case ConnectionCreated() | ConnectionLoginRecorded():
            return connection_key(event.connection_id)
        case RegistryRequestRemembered() | RegistryRequestForgotten():
            return request_key(event.request_id)
        case RegistryRequestRejected():
            return None
        case _:
            assert_never(event)


def public_key(event: Fact) -> str:
    """Key of the public record: the entity's id; a provider's is organization and slug.

    A provider's health is a stream of its own, so that it moves no version that people edit against.
    """
    match event:
        case WorkflowCreated() | WorkflowChanged() | WorkflowArchived():
            return event.workflow_id
        case JobCreated() | JobChanged() | JobDeleted():
            return event.job_id
        case ProviderRegistered() | ProviderDeleted():
            return f"{event.organization_id}/{event.slug}"
        case ProviderDegraded() | ProviderRecovered():
            return f"{event.organization_id}/{event.slug}/health"
        case ConnectionCreated() | ConnectionLoginRecorded():
            return event.connection_id
        case RegistryRequestRejected():
            return event.request_id
        case _:
            assert_never(event)


# ---------------------------------------------------------------- decider


class RegistryDecider:
    """`kernel.domain.decider.Decider` of definitions, keyed by organization."""

    name = "registry"
    ledger = "registry_ledger"
    told = "definitions"
    inputs: tuple[str, ...] = ("registry_requests",)
    value_types: tuple[type, ...] = (Workflow, Job, Provider, ProviderHealth, Connection, RememberedRequest)

    def empty(self) -> RegistryState:
        return RegistryState()

    def decide(self, state: State, cause: Input | Wake | TakenOver, context: Context) -> Sequence[Decision]:
        match cause:
            case Input(event=LoginObserved() as observed):
                known = state.get(connection_key(observed.connection_id))
                facts: Iterable[Fact] = connections.decide(known, observed)
                return _decisions(state, facts, observed.organization_id, cause.correlation_id)
            case Input(event=ProviderHealthObserved() as seen):
                health = state.get(health_key(seen.organization_id, seen.slug))
                return _decisions(state, healths.decide(health, seen), seen.organization_id, cause.correlation_id)
            case Input():
                return _decide_request(state, cause, context)
            case Wake():
                return _forget(state, context)
            case TakenOver():
                return ()
            case _:
                assert_never(cause)

    def touches(self, decision: Decision) -> Sequence[str]:
        key = state_key(decision.event)
        return () if key is None else (key,)

    def evolve(self, key: str, old: Any | None, decision: Decision) -> Any | None:
        del key
        event: Fact | RegistryRequestRemembered | RegistryRequestForgotten = decision.event
        match event:
            case RegistryRequestRemembered():
                return RememberedRequest(event.request_id, event.organization_id, event.expires_ms)
            case RegistryRequestForgotten():
                return None
            case RegistryRequestRejected():
                return old
            case _:
                return replace(_evolve_entity(old, event), sequence=decision.sequence)

    def derive(self, decision: Decision) -> Sequence[Derived]:
        if isinstance(decision.event, RegistryRequestRemembered | RegistryRequestForgotten):
            return ()
        return (Derived("definitions", public_key(decision.event), decision.event),)


def _evolve_entity(old: Any | None, event: EntityFact) -> Workflow | Job | Provider | ProviderHealth | Connection:
    match event:
        case WorkflowCreated() | WorkflowChanged() | WorkflowArchived():
            return workflow_facts.evolve(old or Workflow(), event)
        case JobCreated() | JobChanged() | JobDeleted():
            return job_facts.evolve(old or Job(), event)
        case ProviderRegistered() | ProviderDeleted():
            return provider_facts.evolve(old or Provider(), event)
        case ProviderDegraded() | ProviderRecovered():
            return healths.evolve(old or ProviderHealth(), event)
        case ConnectionCreated() | ConnectionLoginRecorded():
            return connections.evolve(old or Connection(), event)
        case _:
            assert_never(event)


# ---------------------------------------------------------------- decide


def _decide_request(state: State, cause: Input, context: Context) -> Sequence[Decision]:
    request: Request = cause.event
    if state.get(request_key(request.request_id)) is not None:
        return ()
    outcome = _expired(request, context.now_ms) or _outcome(state, request)
    if isinstance(outcome, Refusal):
        outcome = RegistryRequestRejected(
            request.request_id,
            request.organization_id,
            outcome.code,
            outcome.message,
            outcome.path,
            outcome.in_use_by,
        )
    expires_ms = max(context.now_ms, request.valid_until_ms) + REMEMBERED_MS
    remembered = RegistryRequestRemembered(request.request_id, request.organization_id, expires_ms)
    return (
        *_decisions(state, (outcome,), request.organization_id, cause.correlation_id),
        Decision(
            remembered,
            key=request.organization_id,
            subject=request.request_id,
            organization_id=request.organization_id,
            correlation_id=cause.correlation_id,
        ),
    )


def _expired(request: Request, now_ms: int) -> Refusal | None:
    if now_ms <= request.valid_until_ms:
        return None
    return Refusal("request_expired", "the request was read too late; send it again")


def _outcome(state: State, request: Request) -> Fact | Refusal:
    assert isinstance(state, RegistryState)
    match request:
        case WorkflowCreateRequested():
            return workflows.create(state.get(workflow_key(request.workflow_id)), request)
        case WorkflowChangeRequested():
            return workflows.change(state.get(workflow_key(request.workflow_id)), request)
        case WorkflowDeleteRequested():
            known, used_by = state.get(workflow_key(request.workflow_id)), state.jobs_of(request.workflow_id)
            return workflows.delete(known, request, used_by)
        case JobCreateRequested():
            return jobs.create(state.get(job_key(request.job_id)), request, lambda id_: state.get(workflow_key(id_)))
        case JobChangeRequested():
            return jobs.change(state.get(job_key(request.job_id)), request, lambda id_: state.get(workflow_key(id_)))
        case JobDeleteRequested():
            return jobs.delete(state.get(job_key(request.job_id)), request)
        case ProviderRegisterRequested():
            provider = state.get(provider_key(request.organization_id, request.slug))
            return providers.register(provider, request, lambda id_: state.get(job_key(id_)))
        case ProviderDeleteRequested():
            return providers.delete(state.get(provider_key(request.organization_id, request.slug)), request)
        case _:
            assert_never(request)


def _decisions(
    state: State, facts: Iterable[Fact], organization: OrganizationId, correlation_id: str
) -> list[Decision]:
    """Facts with the next sequence numbers of their entities."""
    last: dict[str, int] = {}
    decisions = []
    for fact in facts:
        subject, key = public_key(fact), state_key(fact)
        if subject not in last:
            known = state.get(key) if key else None
            last[subject] = known.sequence if known else 0
        last[subject] += 1
        decisions.append(Decision(fact, organization, last[subject], subject, organization, correlation_id))
    return decisions


def _forget(state: State, context: Context) -> list[Decision]:
    assert isinstance(state, RegistryState)
    return [
        Decision(
            RegistryRequestForgotten(due.request_id, due.organization_id),
            key=due.organization_id,
            subject=due.request_id,
            organization_id=due.organization_id,
        )
        for due in state.due_requests(context.now_ms, DECISIONS_PER_WAKE_MAX)
    ]
