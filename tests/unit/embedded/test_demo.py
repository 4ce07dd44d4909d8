"""The demo makes what is missing, finds again what is there, goes on after a crash, and shows what came of it."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from rich.console import Console

from embedded.demo import DemoResult, run_demo
from tests.support.fake_api import SETTINGS, FakeApi, Naps, a_demo_script, an_id
from towpath import Client
from towpath.definition import Definition
from towpath.resources import WorkflowType

_STEPS: dict[str, Any] = {"version": 1, "steps": [{"id": "open", "type": "navigate", "name": "opening"}]}
_INPUTS = {"properties": {"username": {}, "password": {"secret": True}}}
WORKFLOWS = (
    Definition(_STEPS | {"inputSchema": _INPUTS}, "Log in", "demo_shop", WorkflowType.LOGIN),
    Definition(_STEPS, "Collect", "demo_shop", WorkflowType.USER_DEFINED),
)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def _demo(api: FakeApi, *, fails: bool = False, width: int = 80) -> tuple[DemoResult, str]:
    stream = io.StringIO()
    handle = api.handle

    def handled(request: httpx.Request) -> httpx.Response:
        answer = handle(request)
        if request.url.path.endswith("/run"):
            api.script = a_demo_script(api, answer.json()["id"], fails=fails)
        return answer

    client = Client(SETTINGS, surroundings=Naps().surroundings(), network=httpx.MockTransport(handled))
    result = run_demo(
        client, shop_url="http://127.0.0.1:8711/", username="ada", password="s3cr3t-Passw0rd",
        console=Console(file=stream, width=width), workflows=WORKFLOWS,
    )  # fmt: skip
    return result, stream.getvalue()


def test_the_orders_and_the_files_are_shown(api: FakeApi) -> None:
    result, text = _demo(api)
    assert result.ok
    assert len(result.orders) == 12
    assert [file.display_name for file in result.files] == ["orders.json", "orders.csv"]
    assert "12 orders extracted" in text
    assert "... and 4 more" in text
    for file in result.files:
        assert f"sha256 {file.file_hash}" in text
        assert f"curl -o {file.display_name} 'http://towpath.test/signed/{file.id}?sig=s3cr3t'" in text


def test_the_run_gets_what_its_workflows_ask_for_and_nothing_else(api: FakeApi) -> None:
    _demo(api)
    assert api.bodies("POST", f"/jobs/{an_id('job', 1)}/run") == [
        {"externalId": "demo", "inputs": {"username": "ada", "password": "s3cr3t-Passw0rd"}}
    ]


def test_the_password_is_not_shown(api: FakeApi) -> None:
    assert "s3cr3t-Passw0rd" not in _demo(api)[1]


def test_the_workflows_may_go_to_the_shop_and_nowhere_else(api: FakeApi) -> None:
    _demo(api)
    assert {w["stepsJson"]["startOrigins"][0] for w in api.workflows.values()} == {"http://127.0.0.1:8711"}


def test_a_second_demo_makes_no_second_definition(api: FakeApi) -> None:
    _demo(api)
    api.workflow_runs.clear()
    _demo(api)
    assert (len(api.workflows), len(api.jobs), len(api.job_runs)) == (2, 1, 2)
    assert not [r for r in api.requests if r.method == "PATCH"]


def test_changed_steps_change_the_workflow(api: FakeApi) -> None:
    api.add_workflow("Log in", "demo_shop", "LOGIN", steps={"steps": []})
    _demo(api)
    assert len(api.workflows) == 2
    assert api.workflows[an_id("workflow", 1)]["stepsJson"]["inputSchema"] == _INPUTS


def test_a_run_that_a_crash_left_unfinished_is_watched_on(api: FakeApi) -> None:
    _demo(api)
    api.workflow_runs.clear()
    run = api.add_job_run(an_id("job", 1), "demo")
    api.script = a_demo_script(api, run)
    result, text = _demo(api)
    assert (result.ok, result.resumed, result.job_run_id) == (True, True, run)
    assert "here is how it goes on" in text
    assert len(api.job_runs) == 2


def test_a_failed_run_is_no_success_and_says_why(api: FakeApi) -> None:
    result, text = _demo(api, fails=True)
    assert not result.ok
    assert "did not appear within 5 s." in text
    assert f"towpath run show {result.job_run_id}" in text


@pytest.mark.parametrize("width", [80, 120])
def test_only_addresses_and_hashes_are_wider_than_the_screen(api: FakeApi, width: int) -> None:
    text = _demo(api, width=width)[1]
    wide = [line for line in text.splitlines() if len(line) > width]
    assert all("curl" in line for line in wide)
