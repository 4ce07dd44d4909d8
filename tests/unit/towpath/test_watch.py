"""Looks at a run, and what changed between two of them."""

from __future__ import annotations

import httpx
import pytest

from tests.support.fake_api import SETTINGS, FakeApi, Naps, a_demo_script, an_id, problem
from towpath import ApiError, Client, RunProgress, Unreachable, watch
from towpath.transport import TRIES_MAX
from towpath.watch import Change, RunChanged, StepEnded, WorkflowChanged, changes


@pytest.fixture
def api() -> FakeApi:
    api = FakeApi()
    job = api.add_job("Collect orders", [api.add_workflow("Log in", type_="LOGIN"), api.add_workflow("Collect")])
    api.script = a_demo_script(api, api.add_job_run(job))
    return api


@pytest.fixture
def client(api: FakeApi) -> Client:
    return Client(SETTINGS, surroundings=Naps().surroundings(), network=api.as_transport())


def _told(change: Change) -> str:
    match change:
        case RunChanged(progress=progress):
            return f"run {progress.run.status}"
        case WorkflowChanged(position=position, run=run, appeared=appeared):
            return f"workflow {position} {'appears' if appeared else run.status}"
        case StepEnded(step=step):
            return f"step {step.address}"


def _all_changes(looks: list[RunProgress]) -> list[str]:
    pairs = zip([None, *looks], looks, strict=False)
    return [_told(change) for before, after in pairs for change in changes(before, after)]


def test_a_run_is_told_in_the_order_in_which_it_happens(client: Client) -> None:
    told = _all_changes(list(watch(client, an_id("job_run", 1))))
    assert told == [
        "run PENDING", "run IN_PROGRESS", "workflow 0 appears", "step open_shop", "step fill_name", "step consent",
        "workflow 0 AWAITING_USER_INPUT", "workflow 0 IN_PROGRESS", "step submit", "workflow 0 COMPLETED",
        "workflow 1 appears", "step orders[0].open", "step orders[1].open", "step orders[2].open",
        "step orders[3].open", "step orders", "step download_csv", "workflow 1 COMPLETED", "run COMPLETED",
    ]  # fmt: skip


def test_one_late_look_tells_the_same_steps(api: FakeApi, client: Client) -> None:
    while api.script:
        api.script.pop(0)(api)
    told = _all_changes(list(watch(client, an_id("job_run", 1))))
    assert told[0] == "workflow 0 appears"
    assert told[-1] == "run COMPLETED"
    assert len([line for line in told if line.startswith("step")]) == 10


def test_a_workflow_run_can_be_watched_alone(api: FakeApi, client: Client) -> None:
    run = api.start_workflow("", an_id("workflow", 2), "open")
    api.script = [lambda api: api.end_step(run, "open"), lambda api: api.end_workflow(run)]
    looks = list(watch(client, run))
    assert looks[-1].run.ended_well
    assert looks[-1].name == "Collect"


def test_a_restart_of_the_server_is_waited_for(api: FakeApi, client: Client) -> None:
    looks = watch(client, an_id("job_run", 1))
    next(looks)
    api.answers += [httpx.ConnectError("refused")] * TRIES_MAX
    api.answers += [problem(503, "unavailable")] * TRIES_MAX
    assert [next(looks).fresh, next(looks).fresh, next(looks).fresh] == [False, False, True]


def test_a_server_that_stays_away_is_given_up(api: FakeApi, client: Client) -> None:
    looks = watch(client, an_id("job_run", 1), patience_seconds=10.0)
    next(looks)
    api.answers = [httpx.ConnectError("refused")] * 100
    with pytest.raises(Unreachable):
        list(looks)


def test_an_unknown_run_is_refused(client: Client) -> None:
    with pytest.raises(ApiError, match="not_found"):
        next(watch(client, an_id("job_run", 99)))


def test_the_name_of_a_deleted_workflow_is_the_head_of_its_id(api: FakeApi, client: Client) -> None:
    del api.workflows[an_id("workflow", 2)]
    assert next(watch(client, an_id("job_run", 1))).workflows[1].name == "a0000000"


def test_a_long_wait_is_looked_at_less_often(api: FakeApi) -> None:
    naps = Naps()
    client = Client(SETTINGS, surroundings=naps.surroundings(), network=api.as_transport())
    api.script = [lambda _api: None] * 60 + [lambda api: api.end_job_run(an_id("job_run", 1), "FAILED")]
    list(watch(client, an_id("job_run", 1)))
    assert (naps.slept[0], naps.slept[-1]) == (0.5, 3.0)
