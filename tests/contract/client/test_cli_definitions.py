"""`towpath workflow`, `job` and `provider`: deletes, revisions, and setting up providers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.support.fake_api import KEY, URL, FakeApi, Naps, an_id, problem
from towpath.cli import cli
from towpath.commands.shared import App

W, J = an_id("workflow", 1), an_id("job", 1)
GUSTO: dict[str, Any] = {
    "slug": "gusto",
    "displayName": "Gusto",
    "logoUrl": None,
    "loginUrl": "https://login.gusto.test/",
    "allowedDomains": [".gusto.test", "files.example"],
    "defaultJobId": None,
    "concurrency": 3,
    "createdAt": "2026-11-22T10:15:00.000Z",
    "updatedAt": "2026-11-22T10:15:00.000Z",
    "health": {
        "status": "degraded",
        "since": "2026-11-22T10:12:00.000Z",
        "windows": [
            {"minutes": 1, "succeeded": 0, "failed": 0, "other": 0, "successRate": None, "steps": 0, "stepP95Ms": None},
            {
                "minutes": 15,
                "succeeded": 3,
                "failed": 9,
                "other": 2,
                "successRate": 0.25,
                "logins": {"succeeded": 1, "rejected": 1, "failed": 4},
                "steps": 60,
                "stepP95Ms": 1200,
            },
        ],
    },
}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.chdir(tmp_path)
    return FakeApi()


def run(api: FakeApi, *arguments: str) -> Result:
    environment = {"TOWPATH_URL": URL, "TOWPATH_API_KEY": KEY}
    app = App(environment=environment, network=api.as_transport(), surroundings=Naps().surroundings())
    return CliRunner().invoke(cli, arguments, obj=app)


def sent(api: FakeApi) -> list[str]:
    """Each request as method and path, query included."""
    return [f"{request.method} {request.url.raw_path.decode().removeprefix('/api/v2')}" for request in api.requests]


def page(*items: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"data": items, "page": 1, "page_size": 20, "total": len(items), "has_more": False})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("workflow", "delete", W), f"DELETE /workflows/{W}"),
        (("workflow", "delete", W, "--force"), f"DELETE /workflows/{W}?force=true"),
        (("job", "delete", J), f"DELETE /jobs/{J}"),
        (("job", "delete", J, "--force"), f"DELETE /jobs/{J}?force=true"),
        (("provider", "delete", "gusto"), "DELETE /providers/gusto"),
    ],
)
def test_a_delete_is_sent_and_said(api: FakeApi, arguments: tuple[str, ...], line: str) -> None:
    api.answers = [httpx.Response(204)]
    result = run(api, *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Deleted.\n")
    assert sent(api) == [line]


def test_a_workflow_in_use_is_told_with_its_jobs(api: FakeApi) -> None:
    detail = {"path": f"/jobs/{J}", "code": "workflow_in_use", "message": "names it in its order"}
    error = {
        "code": "workflow_in_use",
        "message": "jobs that name the workflow: 1",
        "details": [detail],
        "request_id": "r",
    }
    api.answers = [httpx.Response(409, json={"error": error})]
    result = run(api, "workflow", "delete", W)
    assert result.exit_code == 1
    assert J in result.stderr


def test_revisions_are_listed_and_one_is_printed_as_it_was(api: FakeApi) -> None:
    old = {"workflowId": W, "revision": 1, "stepsJson": None, "createdAt": "2026-11-22T10:15:00.000Z"}
    api.answers = [page(old | {"revision": 2}, old)]
    lines = run(api, "workflow", "revisions", W).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["revision", "2", "1"]
    steps = {"version": 1, "steps": [{"id": "done", "type": "finish", "params": {}}]}
    api.answers = [httpx.Response(200, json=old | {"stepsJson": steps})]
    assert json.loads(run(api, "workflow", "revisions", W, "1").stdout) == steps
    assert sent(api) == [f"GET /workflows/{W}/revisions?page=1&page_size=20", f"GET /workflows/{W}/revisions/1"]


def test_providers_are_listed(api: FakeApi) -> None:
    api.answers = [page(GUSTO)]
    lines = run(api, "provider", "list").stdout.splitlines()
    assert lines == [
        "slug\tname\tdomains\tconcurrency\thealth",
        "gusto\tGusto\t.gusto.test files.example\t3\tdegraded",
    ]


def test_a_provider_is_shown_with_how_runs_fare_there(api: FakeApi) -> None:
    api.answers = [httpx.Response(200, json=GUSTO)]
    lines = run(api, "provider", "get", "gusto").stdout.splitlines()
    assert lines[-3:-1] == ["health       degraded since 2026-11-22 10:12 UTC", "1 min        no runs"]
    assert lines[-1] == (
        "15 min       3 of 12 runs succeeded (25 %); 2 ended for other reasons; 1 of 6 logins;"
        " 95 % of 60 steps within 1.2 s"
    )
    assert sent(api) == ["GET /providers/gusto"]


def test_a_known_provider_is_changed_by_what_is_given(api: FakeApi) -> None:
    api.answers = [httpx.Response(200, json=GUSTO)]
    result = run(
        api, "provider", "set", "gusto", "--name", "Gusto", "--domain", ".gusto.test", "--domain", "files.example",
        "--concurrency", "3", "--clear", "logo-url", "--clear", "default-job",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "login.gusto.test" in result.stdout
    assert api.bodies("PATCH", "/providers/gusto") == [
        {
            "displayName": "Gusto",
            "allowedDomains": [".gusto.test", "files.example"],
            "concurrency": 3,
            "logoUrl": None,
            "defaultJobId": None,
        }
    ]


def test_an_unknown_provider_is_registered(api: FakeApi) -> None:
    api.answers = [problem(404, "not_found", "no such provider"), httpx.Response(201, json=GUSTO)]
    result = run(api, "provider", "set", "gusto", "--login-url", "https://login.gusto.test/", "--json")
    assert json.loads(result.stdout)["slug"] == "gusto"
    assert sent(api) == ["PATCH /providers/gusto", "POST /providers"]
    assert api.bodies("POST", "/providers") == [{"slug": "gusto", "loginUrl": "https://login.gusto.test/"}]


def test_another_refusal_registers_nothing(api: FakeApi) -> None:
    api.answers = [problem(403, "forbidden", "this needs a key of level admin")]
    assert run(api, "provider", "set", "gusto", "--concurrency", "2").exit_code == 1
    assert sent(api) == ["PATCH /providers/gusto"]
