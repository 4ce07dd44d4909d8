"""What may be deleted, who wins a race, and what stays of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_gateway.registry.decider import Request
from kernel.domain.job import Job, JobDeleted, RegistryRequestRejected
from kernel.domain.provider import ProviderDeleted, ProviderRegistered, RegisterMode
from kernel.domain.workflow import WorkflowArchived, WorkflowStatus
from tests.support.registry import (
    RIVAL,
    TOAST,
    Registry,
    change_job,
    change_workflow,
    create_job,
    create_workflow,
    delete_job,
    delete_provider,
    delete_workflow,
    fold,
    register_provider,
)


def registry_after(*past: Request) -> Registry:
    registry = Registry()
    for request in past:
        registry.when(request)
    return registry


def refusal(registry: Registry, request: Request) -> RegistryRequestRejected:
    (fact,) = registry.facts(request)
    assert isinstance(fact, RegistryRequestRejected)
    return fact


def code(registry: Registry, request: Request) -> str:
    return refusal(registry, request).code


# ---------------------------------------------------------------- workflows


def test_a_workflow_that_no_job_names_is_archived() -> None:
    registry = registry_after(create_workflow())
    (fact,) = registry.facts(delete_workflow())
    assert isinstance(fact, WorkflowArchived)
    known = registry.state.get("workflow/w1")
    assert known is not None
    assert known.status is WorkflowStatus.ARCHIVED


def test_a_workflow_in_use_is_kept_and_its_jobs_are_named() -> None:
    registry = registry_after(
        create_workflow(), create_workflow(workflow="w2"),
        create_job("w1", "w1", job="jb"), create_job("w2", "w1", job="ja"), create_job("w2", job="jc"),
    )  # fmt: skip
    refused = refusal(registry, delete_workflow())
    assert (refused.code, refused.in_use_by) == ("workflow_in_use", ("ja", "jb"))


def test_at_most_twenty_jobs_are_named() -> None:
    registry = registry_after(create_workflow(), *(create_job("w1", job=f"j{number:02}") for number in range(25)))
    refused = refusal(registry, delete_workflow())
    assert refused.in_use_by == tuple(f"j{number:02}" for number in range(20))


@pytest.mark.parametrize("release", [change_job([]), delete_job()])
def test_a_workflow_is_free_as_soon_as_no_job_names_it(release: Request) -> None:
    registry = registry_after(create_workflow(), create_job("w1"), release)
    (fact,) = registry.facts(delete_workflow())
    assert isinstance(fact, WorkflowArchived)


def test_by_force_a_workflow_in_use_is_archived() -> None:
    registry = registry_after(create_workflow(), create_job("w1"))
    (fact,) = registry.facts(delete_workflow(force=True))
    assert isinstance(fact, WorkflowArchived)


def test_an_archived_workflow_takes_no_change_no_delete_and_no_job() -> None:
    registry = registry_after(create_workflow(), create_job("w1"), delete_workflow(force=True))
    assert code(registry, change_workflow("n")) == "workflow_deleted"
    assert code(registry, delete_workflow(request="again")) == "workflow_deleted"
    assert code(registry, create_job("w1", job="j2")) == "not_found"
    assert code(registry, change_job(["w1"])) == "not_found"
    (renamed,) = registry.facts(change_job(name="n", request="rename"))
    assert renamed.workflow_ids == ("w1",)


def test_nobody_deletes_what_is_not_theirs() -> None:
    registry = registry_after(create_workflow(), create_job(), register_provider())
    assert code(registry, delete_workflow(organization=RIVAL)) == "not_found"
    assert code(registry, delete_job(organization=RIVAL)) == "not_found"
    assert code(registry, delete_provider(organization=RIVAL)) == "not_found"


# ---------------------------------------------------------------- jobs


def test_a_deleted_job_is_gone_for_good() -> None:
    registry = registry_after(create_job())
    (fact,) = registry.facts(delete_job())
    assert isinstance(fact, JobDeleted)
    assert code(registry, delete_job(request="again")) == "not_found"
    assert code(registry, change_job(name="n")) == "not_found"
    assert code(registry, create_job(request="anew")) == "already_exists"


# ---------------------------------------------------------------- providers


def test_a_provider_is_created_once() -> None:
    registry = registry_after(register_provider(display_name="Gusto"))
    assert code(registry, register_provider(request="again")) == "provider_exists"
    (fact,) = registry.facts(register_provider(request="set-up", mode=RegisterMode.PUT, display_name="G"))
    assert fact.display_name == "G"


def test_a_change_of_a_provider_keeps_what_it_does_not_give() -> None:
    registry = registry_after(register_provider(login_url="https://a.test", concurrency=3))
    change = register_provider(request="c", mode=RegisterMode.CHANGE, given=["login_url"], login_url="", concurrency=9)
    (fact,) = registry.facts(change)
    assert isinstance(fact, ProviderRegistered)
    assert (fact.display_name, fact.login_url, fact.concurrency) == ("gusto", "", 3)


def test_two_editors_of_different_fields_both_win() -> None:
    registry = registry_after(register_provider())
    change = RegisterMode.CHANGE
    registry.when(register_provider(request="a", mode=change, given=["login_url"], login_url="https://a.test"))
    (fact,) = registry.facts(register_provider(request="b", mode=change, given=["concurrency"], concurrency=7))
    assert (fact.login_url, fact.concurrency) == ("https://a.test", 7)


def test_a_deleted_provider_is_unknown_until_it_is_registered_again() -> None:
    registry = registry_after(register_provider())
    (fact,) = registry.facts(delete_provider())
    assert isinstance(fact, ProviderDeleted)
    assert code(registry, delete_provider(request="again")) == "not_found"
    assert code(registry, register_provider(request="c", mode=RegisterMode.CHANGE)) == "not_found"
    (anew,) = registry.when(register_provider(request="anew"))[:1]
    assert (type(anew.event), anew.sequence) == (ProviderRegistered, 3)


@pytest.mark.parametrize(
    ("default", "refused"),
    [("absent", "not_found"), ("toast-job", "provider_mismatch"), ("rival-job", "not_found"), ("gone", "not_found")],
)
def test_a_default_job_exists_and_is_for_this_provider(default: str, refused: str) -> None:
    registry = registry_after(
        create_job(job="good"), create_job(job="toast-job", provider=TOAST),
        create_job(job="rival-job", organization=RIVAL), create_job(job="gone"), delete_job("gone"),
    )  # fmt: skip
    told = refusal(registry, register_provider(default_job_id=default))
    assert (told.code, told.path) == (refused, "/defaultJobId")
    (fact,) = registry.facts(register_provider(request="right", default_job_id="good"))
    assert fact.default_job_id == "good"


def test_a_default_job_that_was_deleted_since_is_in_no_other_changes_way() -> None:
    registry = registry_after(create_job(), register_provider(default_job_id="j1"), delete_job())
    (fact,) = registry.facts(register_provider(request="c", mode=RegisterMode.CHANGE, given=["concurrency"]))
    assert fact.default_job_id == "j1"


# ---------------------------------------------------------------- races

Race = Callable[[str, int], Request]
RACES: list[tuple[Sequence[Request], Race, Race]] = [
    (
        [create_workflow()],
        lambda request, seen: change_workflow("a", request=request, expected_sequence=seen),
        lambda request, seen: delete_workflow(request=request, expected_sequence=seen),
    ),
    (
        [create_job()],
        lambda request, seen: change_job(name="a", request=request, expected_sequence=seen),
        lambda request, seen: delete_job(request=request, expected_sequence=seen),
    ),
    (
        [register_provider()],
        lambda request, seen: register_provider(
            request=request, mode=RegisterMode.CHANGE, given=["concurrency"], concurrency=2, expected_sequence=seen
        ),
        lambda request, seen: delete_provider(request=request, expected_sequence=seen),
    ),
]


@pytest.mark.parametrize(("past", "change", "delete"), RACES, ids=["workflow", "job", "provider"])
@pytest.mark.parametrize("deletes", [False, True])
def test_of_two_editors_of_one_version_exactly_one_wins(
    past: Sequence[Request], change: Race, delete: Race, *, deletes: bool
) -> None:
    registry = registry_after(*past)
    second = delete if deletes else change
    outcomes: list[Any] = [fact for request in (change("a", 1), second("b", 1)) for fact in registry.facts(request)]
    assert [getattr(fact, "code", "won") for fact in outcomes] == ["won", "precondition_failed"]
    (fact,) = registry.facts(second("c", 2))
    assert not isinstance(fact, RegistryRequestRejected)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_jobs_of_a_workflow_are_those_whose_order_names_it(data: st.DataObject) -> None:
    registry = registry_after(*(create_workflow(workflow=id_) for id_ in "abc"))
    orders = st.lists(st.sampled_from("abc"), max_size=3)
    for number in range(data.draw(st.integers(0, 12))):
        job, request = data.draw(st.sampled_from(["j1", "j2"])), f"r{number}"
        made = data.draw(st.sampled_from(["create", "change", "delete"]))
        if made == "create":
            registry.when(create_job(*data.draw(orders), job=job, request=request))
        elif made == "change":
            registry.when(change_job(data.draw(orders), job=job, request=request))
        else:
            registry.when(delete_job(job, request=request))
    restored = registry.decider.empty()
    for decision in registry.ledger:
        fold(registry.decider, restored, decision)
    jobs = [value for _, value in registry.state.items() if isinstance(value, Job) and not value.deleted]
    for workflow in "abc":
        named = {job.id for job in jobs if workflow in job.workflow_ids}
        assert set(registry.state.jobs_of(workflow)) == set(restored.jobs_of(workflow)) == named  # type: ignore[arg-type]  # a plain id
