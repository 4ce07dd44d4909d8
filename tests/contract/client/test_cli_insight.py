"""The command line for people who ask why: retry, explain, steps, logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.fake_api import KEY, URL, FakeApi, Naps, a_demo_script, an_id
from towpath.cli import cli
from towpath.commands.shared import App

Run = Callable[..., Result]
PART = an_id("workflow_run", 2)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def run(api: FakeApi) -> Run:
    def call(*arguments: str) -> Result:
        environment = {"TOWPATH_URL": URL, "TOWPATH_API_KEY": KEY}
        app = App(environment=environment, network=api.as_transport(), surroundings=Naps().surroundings())
        return CliRunner().invoke(cli, list(arguments), obj=app)

    return call


@pytest.fixture
def failed(api: FakeApi, run: Run) -> str:
    """A job run that has failed in its second workflow."""
    job = api.add_job("Collect orders", [api.add_workflow("Log in", type_="LOGIN"), api.add_workflow("Collect")])
    id_ = api.add_job_run(job)
    api.script = a_demo_script(api, id_, fails=True)
    run("run", "watch", id_)
    return id_


def test_a_failed_run_is_repeated(run: Run, failed: str) -> None:
    made = json.loads(run("run", "retry", failed, "--json").stdout)
    assert (made["retryOf"], made["status"]) == (failed, "PENDING")
    refused = run("run", "retry", made["id"])
    assert refused.exit_code == 1
    assert "towpath run cancel" in refused.stderr


def test_a_retry_of_a_workflow_run_says_how_to_watch_the_new_one(run: Run, failed: str) -> None:
    result = run("run", "retry", PART, "--from", "start")
    assert result.exit_code == 0
    assert result.stdout.startswith("workflow run")
    assert "Watch it: towpath run watch" in result.stderr


def test_why_is_told_in_words_or_as_json(run: Run, api: FakeApi, failed: str) -> None:
    told: dict[str, Any] = {
        "workflowRunId": PART, "state": "PENDING", "summary": "No free slot in the pool browser: 2 of 2 are busy.",
        "waitingFor": {"kind": "slot", "pool": "browser", "slots": 2, "busy": 2},
        "history": [{"time": "2026-11-22T10:00:00.000Z", "text": "The run was created."}],
        "next": "It begins when a slot becomes free.", "hints": ["More slots make the wait shorter."],
    }  # fmt: skip
    api.explanations = {failed: told, PART: told}
    result = run("run", "explain", failed)
    assert result.exit_code == 0
    for words in ("2 of 2 are busy", "slot", "More slots", "10:00:00Z\tThe run was created."):
        assert words in result.stdout
    assert json.loads(run("run", "explain", PART, "--json").stdout)["waitingFor"] == told["waitingFor"]


def test_steps_are_listed_with_their_errors(run: Run, failed: str) -> None:
    lines = run("run", "steps", PART).stdout.splitlines()
    assert lines[0].split("\t") == ["attempt", "step", "kind", "status", "tries", "took", "error"]
    assert "target_missing: The button [Pay] did not appear" in lines[-1]
    assert json.loads(run("run", "steps", PART, "--json").stdout.splitlines()[-1])["error"]["retryable"] is True


def test_the_log_is_printed_to_its_end(run: Run, api: FakeApi, failed: str) -> None:
    api.logs[PART] = [
        {
            "time": f"2026-11-22T10:00:0{n}.000Z",
            "kind": kind,
            "attempt": 1,
            "level": "info",
            "message": f"m{n}",
        }
        for n, kind in enumerate(("step", "console", "network", "console", "step"))
    ]
    lines = run("run", "logs", PART).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["m0", "m1", "m2", "m3", "m4"]
    assert lines[0].startswith("10:00:00.000  1  step")
    only = run("run", "logs", PART, "--kind", "console", "--json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in only] == ["m1", "m3"]
