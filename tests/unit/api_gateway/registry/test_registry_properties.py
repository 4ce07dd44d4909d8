from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from api_gateway.registry.decider import Request
from kernel.domain.decider import Wake
from kernel.domain.workflow import Workflow
from tests.support.registry import (
    ACME,
    GUSTO,
    RIVAL,
    TOAST,
    Registry,
    change_job,
    change_workflow,
    create_job,
    create_workflow,
    delete_job,
    delete_workflow,
    fold,
)

ids = st.sampled_from(["a", "b", "c"])
job_ids = st.sampled_from(["j1", "j2"])
organizations = st.sampled_from([ACME, RIVAL])
request_ids = st.integers(0, 30).map(lambda number: f"r{number}")
orders = st.lists(ids, max_size=3)
requests: st.SearchStrategy[Request | Wake] = st.one_of(
    st.builds(
        lambda workflow, request, organization, provider: create_workflow(
            workflow=workflow, request=request, organization=organization, provider=provider
        ),
        ids,
        request_ids,
        organizations,
        st.sampled_from([GUSTO, TOAST]),
    ),
    st.builds(
        lambda workflow, request, organization, steps: change_workflow(
            "n", workflow=workflow, request=request, organization=organization, steps=steps
        ),
        ids,
        request_ids,
        organizations,
        st.sampled_from(["", "1", "2"]),
    ),
    st.builds(
        lambda job, request, order, organization: create_job(
            *order, job=job, request=request, organization=organization
        ),
        job_ids,
        request_ids,
        orders,
        organizations,
    ),
    st.builds(lambda job, request, order: change_job(order, job=job, request=request), job_ids, request_ids, orders),
    st.builds(
        lambda workflow, request, force: delete_workflow(workflow, request=request, force=force),
        ids,
        request_ids,
        st.booleans(),
    ),
    st.builds(lambda job, request: delete_job(job, request=request), job_ids, request_ids),
    st.just(Wake()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(requests, max_size=40))
def test_any_history_keeps_references_true_and_sequences_gapless(history: list[Request | Wake]) -> None:
    registry = Registry()
    for cause in history:
        registry.when(cause)
    seen: dict[str, int] = defaultdict(int)
    for decision in registry.ledger:
        for derived in registry.decider.derive(decision):
            seen[derived.key] += 1
            assert decision.sequence == seen[derived.key]
    for key, value in registry.state.items():
        if key.startswith("job/"):
            for workflow_id in value.workflow_ids:
                workflow = registry.state.get(f"workflow/{workflow_id}")
                assert isinstance(workflow, Workflow)
                assert (workflow.organization_id, workflow.provider) == (value.organization_id, value.provider)


@settings(max_examples=60, deadline=None)
@given(st.lists(requests, max_size=25), st.data())
def test_redelivered_requests_change_nothing(history: list[Request | Wake], data: st.DataObject) -> None:
    registry = Registry()
    for cause in history:
        registry.when(cause)
    before = dict(registry.state.items())
    for cause in data.draw(st.lists(st.sampled_from(history), max_size=10)) if history else []:
        assert not registry.when(cause)
    assert dict(registry.state.items()) == before


@settings(max_examples=40, deadline=None)
@given(st.lists(requests, max_size=30))
def test_each_key_folds_alone(history: list[Request | Wake]) -> None:
    registry = Registry()
    for cause in history:
        registry.when(cause)
    keys = {key for decision in registry.ledger for key in registry.decider.touches(decision)}
    for key in keys:
        alone = registry.decider.empty()
        for decision in registry.ledger:
            if key in registry.decider.touches(decision):
                fold(registry.decider, alone, decision)
        assert alone.get(key) == registry.state.get(key)
