"""The command line: what it prints, how it ends, what it says when something is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.support.fake_api import KEY, URL, FakeApi, Naps, a_demo_script, an_id, problem
from towpath.cli import cli
from towpath.commands.shared import App
from towpath.transport import TRIES_MAX

Run = Callable[..., Result]


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def run(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, typed: str = "", environment: dict[str, str] | None = None) -> Result:
        known = {"TOWPATH_URL": URL, "TOWPATH_API_KEY": KEY} if environment is None else environment
        app = App(environment=known, network=api.as_transport(), surroundings=Naps().surroundings())
        return CliRunner().invoke(cli, list(arguments), obj=app, input=typed)

    return call


@pytest.fixture
def a_job(api: FakeApi) -> str:
    return api.add_job("Collect orders", [api.add_workflow("Log in", type_="LOGIN"), api.add_workflow("Collect")])


def _lines(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---------------------------------------------------------------- workflows and jobs


def test_a_workflow_is_made_from_its_steps_alone(run: Run, api: FakeApi, tmp_path: Path) -> None:
    file = tmp_path / "collect.json"
    file.write_text('{"version": 1, "steps": []}')
    result = run(
        "workflow", "create", str(file), "--name", "Collect", "--provider", "shop", "--type", "login", "--json"
    )
    assert result.exit_code == 0
    assert _lines(result)[0]["id"] == an_id("workflow", 1)
    assert api.bodies("POST", "/workflows") == [
        {"name": "Collect", "sourceProvider": "shop", "type": "LOGIN", "stepsJson": {"version": 1, "steps": []}}
    ]


def test_a_workflow_is_made_from_a_whole_body(run: Run, api: FakeApi, tmp_path: Path) -> None:
    file = tmp_path / "collect.json"
    file.write_text('{"name": "A", "sourceProvider": "shop", "type": "LOGIN", "stepsJson": {"steps": []}}')
    assert run("workflow", "create", str(file), "--name", "B").exit_code == 0
    assert api.bodies("POST", "/workflows")[0]["name"] == "B"


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        ("{", (1, "is not valid JSON")),
        ("{}", (1, "has neither `steps`")),
        ('{"steps": []}', (2, "--provider")),
        ('{"stepsJson": {}, "type": "OTHER"}', (1, "must be one of LOGIN, USER_DEFINED")),
    ],
)
def test_a_file_that_is_no_workflow_is_refused_before_anything_is_sent(
    run: Run, api: FakeApi, tmp_path: Path, content: str, outcome: tuple[int, str]
) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content)
    result = run("workflow", "create", str(file))
    assert result.exit_code == outcome[0]
    assert outcome[1] in result.stderr
    assert api.requests == []


def test_lists_are_tab_separated_where_no_terminal_is(run: Run, a_job: str) -> None:
    assert run("job", "list").stdout.splitlines() == [
        "id\tname\tprovider\tworkflows", f"{a_job}\tCollect orders\tshop\t2",
    ]  # fmt: skip
    assert [w["name"] for w in _lines(run("workflow", "list", "--json"))[0]["data"]] == ["Collect", "Log in"]
    assert run("workflow", "list", "--type", "LOGIN").stdout.count("Log in") == 1
    assert "navigate\topening" in run("workflow", "show", an_id("workflow", 1)).stdout


def test_a_job_keeps_the_order_of_its_workflows(run: Run, api: FakeApi, a_job: str) -> None:
    second, first = an_id("workflow", 2), an_id("workflow", 1)
    assert run("job", "create", "--name", "x", "--provider", "shop", second, first).exit_code == 0
    assert api.bodies("POST", "/jobs")[0]["jobConfigJson"] == {"workflowExecutionOrder": [second, first]}
    assert second in run("job", "show", an_id("job", 2)).stdout


# ---------------------------------------------------------------- runs


def test_inputs_come_from_file_options_and_hidden_prompts(run: Run, api: FakeApi, a_job: str, tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text('{"year": 2026, "user": "bob"}')
    (tmp_path / "token").write_text("t0ken\n")
    result = run(
        "job", "run", a_job, "--inputs", "inputs.json", "--input", "user=ada=x", "--input", "token=@token",
        "--secret", "password", "--external-id", "c-1", "--test", typed="pa55\n",
    )  # fmt: skip
    assert result.exit_code == 0
    assert api.bodies("POST", f"/jobs/{a_job}/run") == [{
        "externalId": "c-1", "testMode": True,
        "inputs": {"year": 2026, "user": "ada=x", "token": "t0ken", "password": "pa55"},
    }]  # fmt: skip
    assert "pa55" not in result.output
    assert "towpath run watch" in result.stderr


def test_a_workflow_runs_alone(run: Run, api: FakeApi, a_job: str) -> None:
    del a_job
    workflow_id = an_id("workflow", 1)
    result = run("workflow", "run", workflow_id, "--input", "year=2026", "--external-id", "c-1")
    assert result.exit_code == 0
    wanted = {"workflowId": workflow_id, "externalId": "c-1", "inputs": {"year": "2026"}}
    assert api.bodies("POST", "/workflow-runs") == [wanted]


@pytest.mark.parametrize("bad", [["--input", "user"], ["--input", "=x"], ["--input", "a=@missing"], ["--inputs", "no"]])
def test_inputs_that_cannot_be_understood_are_wrong_usage(run: Run, api: FakeApi, a_job: str, bad: list[str]) -> None:
    assert run("job", "run", a_job, *bad).exit_code == 2
    assert api.requests == []


def _scripted(api: FakeApi, a_job: str, *, fails: bool = False) -> str:
    id_ = api.add_job_run(a_job)
    api.script = a_demo_script(api, id_, fails=fails)
    return id_


def test_watching_ends_with_zero_when_the_run_ends_well(run: Run, api: FakeApi, a_job: str) -> None:
    result = run("run", "watch", _scripted(api, a_job))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "✓ Collect orders: completed in 19.3 s"


def test_watching_ends_with_one_when_the_run_fails(run: Run, api: FakeApi, a_job: str) -> None:
    result = run("run", "watch", _scripted(api, a_job, fails=True), "--json")
    assert result.exit_code == 1
    assert [line["type"] for line in _lines(result)].count("step") == 11
    assert _lines(result)[-1]["object"]["errorCode"] == "step_failed"


def test_an_interrupt_leaves_the_run_alone_and_says_so(run: Run, api: FakeApi, a_job: str) -> None:
    def interrupt(_api: FakeApi) -> None:
        raise KeyboardInterrupt

    id_ = _scripted(api, a_job)
    api.script[3:] = [interrupt]
    result = run("run", "watch", id_)
    assert result.exit_code == 130
    assert "the run goes on" in result.stderr
    assert f"towpath run cancel {id_}" in result.stderr
    assert not [r for r in api.requests if r.method == "POST"]


def test_starting_and_watching_are_one_command(run: Run, api: FakeApi, a_job: str) -> None:
    api.script = [lambda api: api.end_job_run(an_id("job_run", 1))]
    assert run("job", "run", a_job, "--watch").exit_code == 0


def test_showing_a_failed_run_is_no_failure(run: Run, api: FakeApi, a_job: str) -> None:
    id_ = _scripted(api, a_job, fails=True)
    run("run", "watch", id_)
    shown = run("run", "show", id_)
    assert shown.exit_code == 0
    assert "at step pay_name: step_failed" in shown.stdout
    assert run("run", "show", an_id("workflow_run", 1)).stdout.startswith("workflow run")
    assert json.loads(run("run", "show", id_, "--json").stdout)["status"] == "FAILED"
    assert run("run", "list", "--job", a_job).stdout.count("failed") == 1


def test_a_run_is_asked_to_stop(run: Run, api: FakeApi, a_job: str) -> None:
    id_ = api.add_job_run(a_job)
    assert "stops within seconds" in run("run", "cancel", id_).stderr
    api.end_job_run(id_)
    refused = run("run", "cancel", id_)
    assert refused.exit_code == 1
    assert "(run_already_ended)" in refused.stderr


def test_the_events_of_a_job_run_are_those_of_its_workflow_runs_in_order(run: Run, api: FakeApi, a_job: str) -> None:
    id_ = api.add_job_run(a_job)
    for number in (1, 2):
        one = api.start_workflow(id_, an_id("workflow", number), "open")
        names = ("started", "completed")
        api.events[one] = [
            {
                "type": f"workflow_run.{name}",
                "created": api.now(),
                "data": {"sequence": n, "object": {"status": str(number)}},
            }
            for n, name in enumerate(names, 1)
        ]
        api.end_workflow(one)
    api.end_job_run(id_)
    plain = run("events", "tail", id_)
    assert [line.split()[1:] for line in plain.stdout.splitlines()] == [
        [f"workflow_run.{name}", number] for number in "12" for name in ("started", "completed")
    ]
    followed = _lines(run("events", "tail", id_, "--follow", "--json"))
    assert [event["data"]["sequence"] for event in followed] == [1, 2, 1, 2]


# ---------------------------------------------------------------- artifacts


@pytest.fixture
def an_artifact(api: FakeApi) -> str:
    return api.add_artifact(an_id("workflow_run", 1), "download", "../.orders.csv", "text/csv", b"a,b\n" * 1000)


def test_an_artifact_is_saved_here_under_its_bare_name(run: Run, an_artifact: str, tmp_path: Path) -> None:
    result = run("artifact", "get", an_artifact)
    assert result.exit_code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["orders.csv"]
    assert hashlib.sha256(b"a,b\n" * 1000).hexdigest() in result.stdout
    assert "already here" in run("artifact", "get", an_artifact).stdout


def test_a_different_file_is_replaced_only_by_force(run: Run, an_artifact: str, tmp_path: Path) -> None:
    target = tmp_path / "mine.csv"
    target.write_text("mine")
    assert run("artifact", "get", an_artifact, "-o", "mine.csv").exit_code == 2
    assert target.read_text() == "mine"
    forced = run("artifact", "get", an_artifact, "-o", "mine.csv", "--force", "--json")
    assert json.loads(forced.stdout)["path"] == "mine.csv"
    assert target.read_bytes() == b"a,b\n" * 1000


def test_artifacts_of_either_kind_of_run_are_listed(run: Run, api: FakeApi, a_job: str) -> None:
    id_ = api.add_job_run(a_job)
    one = api.start_workflow(id_, an_id("workflow", 1), "open")
    api.add_artifact(one, "screenshot", "page.png", "image/png", b"png")
    api.add_artifact(an_id("workflow_run", 9), "screenshot", "other.png", "image/png", b"png")
    for run_id in (id_, one):
        assert len(run("artifact", "list", "--run", run_id).stdout.splitlines()) == 2


# ---------------------------------------------------------------- questions


def test_what_is_not_given_is_asked_for(run: Run, api: FakeApi) -> None:
    fields = [
        {"name": "code", "label": "Code", "kind": "mfa_code", "secret": True},
        {"name": "way", "label": "Way", "kind": "choice", "secret": False, "options": ["sms", "mail"]},
        {"name": "remember", "label": "Remember", "kind": "confirm", "secret": False},
        {"name": "given", "label": "Given", "kind": "text", "secret": False},
    ]
    id_ = api.add_input_request(an_id("workflow_run", 1), fields)
    assert "The code from your phone" in run("input", "list").stdout
    result = run("input", "answer", id_, "--value", "given=x", typed="123456\nsms\ny\n")
    assert result.exit_code == 0
    assert api.bodies("POST", f"/input-requests/{id_}/answer") == [
        {"values": {"given": "x", "code": "123456", "way": "sms", "remember": True}}
    ]
    assert "123456" not in result.output
    assert run("input", "list").stdout.splitlines()[1:] == []


# ---------------------------------------------------------------- what goes wrong


def test_a_missing_key_says_where_keys_come_from(run: Run) -> None:
    result = run("job", "list", environment={})
    assert result.exit_code == 1
    assert "TOWPATH_API_KEY is not set" in result.stderr
    assert "TOWPATH_DATA" in result.stderr


def test_the_key_of_the_data_folder_is_used(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".towpath").mkdir()
    (tmp_path / ".towpath" / "api-key").write_text("")
    assert "is empty" in run("job", "list", environment={"TOWPATH_URL": URL}).stderr
    (tmp_path / ".towpath" / "api-key").write_text(f"{KEY}\n")
    assert run("job", "list", environment={"TOWPATH_URL": URL}).exit_code == 0


def test_a_wrong_key_is_told_and_not_shown(run: Run) -> None:
    result = run("job", "list", environment={"TOWPATH_URL": URL, "TOWPATH_API_KEY": "wrong-key"})
    assert result.exit_code == 1
    assert "Set TOWPATH_API_KEY" in result.stderr
    assert "wrong-key" not in result.output


def test_a_platform_that_is_away_is_named(run: Run, api: FakeApi) -> None:
    api.answers += [httpx.ConnectError("Connection refused")] * TRIES_MAX
    result = run("job", "list")
    assert result.exit_code == 1
    assert "http://towpath.test does not answer: Connection refused" in result.stderr
    assert "Is the platform running?" in result.stderr


def test_spots_of_a_refused_input_are_listed(run: Run, api: FakeApi, a_job: str) -> None:
    spots = [{"path": "/inputs/password", "code": "missing", "message": "is missing \x1b[2J"}]
    api.answers += [problem(422, "inputs_missing", "Inputs are missing.", spots)]
    result = run("job", "run", a_job)
    assert result.exit_code == 1
    assert "Inputs are missing. (inputs_missing)" in result.stderr
    assert "/inputs/password: is missing" in result.stderr
    assert "--secret name" in result.stderr
    assert "\x1b" not in result.stderr


def test_an_id_that_is_none_is_wrong_usage(run: Run, api: FakeApi) -> None:
    assert run("run", "show", "../jobs").exit_code == 2
    assert api.requests == []


def test_a_prompt_that_is_left_is_an_interrupt(run: Run, api: FakeApi, a_job: str) -> None:
    assert run("job", "run", a_job, "--secret", "password").exit_code == 130
    assert api.requests == []


def test_a_target_that_cannot_be_written_is_told(run: Run, an_artifact: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = run("artifact", "get", an_artifact, "-o", "file/below")
    assert result.exit_code == 1
    assert "file" in result.stderr
