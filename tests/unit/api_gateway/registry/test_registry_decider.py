from __future__ import annotations

import pytest

from api_gateway.registry.state import RegistryState, RememberedRequest
from kernel.domain.connection import (
    ConnectionCreated,
    ConnectionHealth,
    ConnectionLoginRecorded,
    LoginObserved,
    LoginOutcome,
)
from kernel.domain.decider import Wake
from kernel.domain.ids import ConnectionId, OrganizationId, RequestId, SubjectId
from kernel.domain.job import JobChanged, JobCreated, RegistryRequestRejected
from kernel.domain.provider import ProviderRegistered, ProviderRegisterRequested
from kernel.domain.registry_request import REMEMBERED_MS, RegistryRequestForgotten
from kernel.domain.values import Sealed
from kernel.domain.workflow import WorkflowChanged, WorkflowCreated
from tests.support.registry import (
    ACME,
    ALICE,
    GUSTO,
    LATE,
    RIVAL,
    TOAST,
    Registry,
    change_job,
    change_workflow,
    create_job,
    create_workflow,
    fold,
)


def rejected(registry: Registry, request: object) -> tuple[str, str]:
    (fact,) = registry.facts(request)  # type: ignore[arg-type]  # each case is one of the requests
    assert isinstance(fact, RegistryRequestRejected)
    return fact.code, fact.path


def test_a_new_workflow_stands_at_revision_one() -> None:
    (fact,) = Registry().facts(create_workflow("Payroll"))
    assert isinstance(fact, WorkflowCreated)
    assert (fact.name, fact.revision) == ("Payroll", 1)


def test_a_new_name_leaves_the_revision() -> None:
    registry = Registry()
    registry.when(create_workflow())
    (fact,) = registry.facts(change_workflow("renamed"))
    assert isinstance(fact, WorkflowChanged)
    assert (fact.name, fact.revision, fact.document.inline) == ("renamed", 1, '{"steps":[]}')


def test_new_steps_make_a_new_revision_and_the_same_steps_do_not() -> None:
    registry = Registry()
    registry.when(create_workflow())
    revisions = [
        fact.revision
        for number, steps in enumerate(['{"steps":[1]}', '{"steps":[1]}', '{"steps":[2]}'])
        for fact in registry.facts(change_workflow(steps=steps, request=f"r{number}"))
    ]
    assert revisions == [2, 2, 3]


def test_a_repeated_request_changes_nothing() -> None:
    registry = Registry()
    registry.when(create_workflow())
    assert registry.when(create_workflow()) == ()
    assert len(registry.ledger) == 2


def test_a_refused_request_stays_refused_when_it_is_repeated() -> None:
    registry = Registry()
    assert rejected(registry, create_job("w1")) == ("not_found", "/jobConfigJson/workflowExecutionOrder/0")
    registry.when(create_workflow())
    assert registry.when(create_job("w1")) == ()


def test_a_request_is_forgotten_a_day_after_it_was_valid() -> None:
    registry = Registry()
    registry.when(create_workflow())
    assert registry.state.due_ms() == LATE + REMEMBERED_MS
    assert registry.when(Wake()) == []
    registry.now_ms = LATE + REMEMBERED_MS
    (forgotten,) = registry.when(Wake())
    assert forgotten.event == RegistryRequestForgotten(RequestId("create-w1"), ACME)
    assert registry.state.due_ms() is None


def test_a_request_read_too_late_is_refused() -> None:
    registry = Registry()
    assert rejected(registry, create_workflow(valid_until_ms=999)) == ("request_expired", "")


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (create_workflow("", workflow="w9"), ("validation_failed", "/name")),
        (create_workflow("x" * 201, workflow="w9"), ("validation_failed", "/name")),
        (create_workflow("x", workflow="w9", steps=""), ("validation_failed", "/stepsJson")),
        (create_workflow("x", request="again"), ("already_exists", "")),
        (change_workflow("x", workflow="absent"), ("not_found", "")),
        (change_workflow("x", organization=RIVAL), ("not_found", "")),
        (change_workflow("x" * 201), ("validation_failed", "/name")),
        (change_workflow("x", expected_revision=7), ("precondition_failed", "")),
        (create_job("w1", "absent", job="j9"), ("not_found", "/jobConfigJson/workflowExecutionOrder/1")),
        (create_job("w1", "toast", job="j9"), ("provider_mismatch", "/jobConfigJson/workflowExecutionOrder/1")),
        (create_job("w1", job="j9", organization=RIVAL), ("not_found", "/jobConfigJson/workflowExecutionOrder/0")),
        (create_job(name="", job="j9"), ("validation_failed", "/name")),
        (create_job(request="again"), ("already_exists", "")),
        (change_job(["absent"]), ("not_found", "/jobConfigJson/workflowExecutionOrder/0")),
        (change_job([], job="absent"), ("not_found", "")),
        (change_job([], organization=RIVAL), ("not_found", "")),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_with_its_spot(request_: object, refusal: tuple[str, str]) -> None:
    registry = Registry()
    for given in (create_workflow(), create_workflow(workflow="toast", provider=TOAST), create_job("w1")):
        registry.when(given)
    before = dict(registry.state.items())
    assert rejected(registry, request_) == refusal
    entities = {key: value for key, value in registry.state.items() if not isinstance(value, RememberedRequest)}
    assert entities.items() <= before.items()


def test_a_job_may_name_a_workflow_twice_and_may_be_empty() -> None:
    registry = Registry()
    registry.when(create_workflow())
    (twice,) = registry.facts(create_job("w1", "w1"))
    (empty,) = registry.facts(create_job(job="j2"))
    assert isinstance(twice, JobCreated)
    assert (twice.workflow_ids, empty.workflow_ids) == (("w1", "w1"), ())


def test_a_job_keeps_what_a_change_leaves_out() -> None:
    registry = Registry()
    registry.when(create_workflow())
    registry.when(create_job("w1"))
    (renamed,) = registry.facts(change_job(name="n", request="a"))
    (emptied,) = registry.facts(change_job([], request="b"))
    assert isinstance(renamed, JobChanged)
    assert (renamed.name, renamed.workflow_ids) == ("n", ("w1",))
    assert (emptied.name, emptied.workflow_ids) == ("n", ())


def test_the_sequence_of_each_entity_is_gapless() -> None:
    registry = Registry()
    registry.when(create_workflow())
    registry.when(change_workflow("a", request="1"))
    registry.when(create_workflow(workflow="w2"))
    registry.when(change_workflow("b", request="2"))
    public = [(d.subject, d.sequence) for d in registry.ledger if registry.decider.derive(d)]
    assert public == [("w1", 1), ("w1", 2), ("w2", 1), ("w1", 3)]


def test_a_provider_is_registered_under_its_organization() -> None:
    registry = Registry()
    request = ProviderRegisterRequested(
        RequestId("p"), ACME, GUSTO, "", "https://gusto.test", ("gusto.test",), ALICE, LATE
    )
    decisions = registry.when(request)
    (derived,) = registry.decider.derive(decisions[0])
    assert derived.key == f"{ACME}/gusto"
    assert isinstance(derived.event, ProviderRegistered)
    assert derived.event.display_name == "gusto"


def login(outcome: LoginOutcome) -> LoginObserved:
    return LoginObserved(ConnectionId("c"), ACME, SubjectId("s"), Sealed(), GUSTO, outcome, "run", 5)


def test_three_wrong_credentials_lock_a_connection_until_a_login_succeeds() -> None:
    registry = Registry()
    first = registry.facts(login(LoginOutcome.REJECTED))
    assert [type(fact) for fact in first] == [ConnectionCreated, ConnectionLoginRecorded]
    healths = [
        registry.facts(login(outcome))[-1].health
        for outcome in (LoginOutcome.REJECTED, LoginOutcome.REJECTED, LoginOutcome.FAILED, LoginOutcome.SUCCEEDED)
    ]
    assert healths == [
        ConnectionHealth.NEEDS_USER,
        ConnectionHealth.LOCKED,
        ConnectionHealth.LOCKED,
        ConnectionHealth.HEALTHY,
    ]
    assert [d.sequence for d in registry.ledger] == [1, 2, 3, 4, 5, 6]


def test_a_restored_state_equals_the_folded_one() -> None:
    registry = Registry()
    for request in (create_workflow(), create_job("w1"), change_workflow("n"), change_job([])):
        registry.when(request)
    restored: RegistryState = registry.decider.empty()
    for decision in registry.ledger:
        fold(registry.decider, restored, decision)
    assert dict(restored.items()) == dict(registry.state.items())


def test_a_wake_forgets_at_most_five_hundred_requests() -> None:
    registry = Registry()
    for number in range(501):
        registry.state.put(f"request/{number}", RememberedRequest(RequestId(str(number)), OrganizationId(ACME), 10))
    assert len(registry.when(Wake())) == 500
    assert registry.state.due_ms() == 10
    assert len(registry.when(Wake())) == 1
