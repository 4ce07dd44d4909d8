"""`towpath key`: what it sends and prints."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.support.fake_api import KEY, URL, FakeApi, Naps, an_id, problem
from towpath.cli import cli
from towpath.commands.shared import App

FIRST = an_id("api_key", 1)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.chdir(tmp_path)
    return FakeApi()


def run(api: FakeApi, *arguments: str) -> Result:
    environment = {"TOWPATH_URL": URL, "TOWPATH_API_KEY": KEY}
    app = App(environment=environment, network=api.as_transport(), surroundings=Naps().surroundings())
    return CliRunner().invoke(cli, ["key", *arguments], obj=app)


def test_a_key_is_made_and_shown_once(api: FakeApi) -> None:
    made = run(api, "create", "--level", "read", "--description", "nightly", "--expires", "2027-03-01")
    assert made.exit_code == 0
    assert f"towpath_live_{FIRST}" in made.stdout
    assert api.bodies("POST", "/api-keys") == [
        {"level": "read", "description": "nightly", "expiresAt": "2027-03-01T00:00:00Z"}
    ]
    assert "towpath_live_" not in run(api, "list").stdout


def test_a_key_whose_answer_was_lost_is_told_to_be_revoked(api: FakeApi) -> None:
    run(api, "create", "--level", "write", "--json")
    api.answers = [httpx.Response(201, json=api.api_keys[FIRST] | {"key": None})]
    assert "revoke it and make another one" in run(api, "create", "--level", "write").stdout


def test_keys_are_listed_with_their_public_part(api: FakeApi) -> None:
    run(api, "create", "--level", "admin")
    lines = run(api, "list").stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["id", "public id", "level"]
    assert lines[1].split("\t")[:3] == [FIRST, "Key00000", "admin"]
    (page,) = (json.loads(line) for line in run(api, "list", "--json").stdout.splitlines())
    assert page["total"] == 1


def test_a_key_is_revoked(api: FakeApi) -> None:
    run(api, "create", "--level", "write")
    revoked = run(api, "revoke", FIRST)
    assert (revoked.exit_code, revoked.stdout, revoked.stderr) == (0, "", "Revoked.\n")
    assert api.api_keys[FIRST]["revokedAt"]


def test_the_last_key_of_level_admin_comes_with_advice(api: FakeApi) -> None:
    run(api, "create", "--level", "admin")
    api.answers = [problem(409, "last_admin_key", "This is the last one.")]
    refused = run(api, "revoke", FIRST)
    assert refused.exit_code == 1
    assert "towpath key create --level admin" in refused.stderr
