"""A cluster that is lost with everything in it goes on from its backup, on servers that never knew it.

The demo's cluster, as `make up` has it: another folder, another broker with another identity, another PostgreSQL, other
ports, another S3 server. Only the keys are carried over by hand, as the manual says.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedded.demo import shipped_workflows
from embedded.shop import PASSWORD, USERNAME
from tests.support.chromium import chromium_path, needs_chromium
from tests.support.cluster_process import ClusterProcess
from tests.support.components import needs_kafka, needs_postgres, needs_s3
from towpath.client import Client
from towpath.resources import JobRun, WorkflowType

pytestmark = [needs_chromium, needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(600)]

KEY = "asked-before-everything-was-lost"
ASK = {"id": "ask", "type": "ask_user", "params": {"fields": [{"name": "word"}], "answerSeconds": 3600}}


def command(cluster: ClusterProcess, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "cluster", name, str(folder)]
    return subprocess.run(line, env=cluster.environ, capture_output=True, text=True, timeout=180, check=False)


def logging_in_later(client: Client, shop: str) -> str:
    """A job that asks a person first, and then logs in with a secret that it was given at its start."""
    login, _ = shipped_workflows()
    document = login.steps_json | {"startOrigins": [shop], "steps": [ASK, *login.steps_json["steps"]]}
    del document["sessionCheck"]
    made = client.workflows.create(
        name="later", source_provider="demo_shop", type_=WorkflowType.USER_DEFINED, steps_json=document
    )
    return client.jobs.create(name="later", source_provider="demo_shop", workflow_ids=[made.id]).id


def run_of(client: Client, job: str, shop: str) -> JobRun:
    inputs = {"shop_url": shop, "username": USERNAME, "password": PASSWORD}
    return client.jobs.run(job, external_id="customer", inputs=inputs, idempotency_key=KEY)


def question_of(client: Client, run: str, seconds: float = 60.0) -> str:
    deadline = time.monotonic() + seconds
    while not (asked := [one for one in client.input_requests.list(page_size=100).data if one.job_run_id == run]):
        assert time.monotonic() < deadline, client.job_runs.explain(run)
        time.sleep(0.1)
    return asked[0].id


def until_completed(client: Client, run: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not (found := client.job_runs.get(run)).ended:
        assert time.monotonic() < deadline, client.job_runs.explain(run)
        time.sleep(0.1)
    assert found.ended_well, f"{found.error_code}: {found.error_message}"


def contents(client: Client) -> dict[str, bytes]:
    """The bytes of every artifact."""
    return {one.id: client.artifacts.read(one.id) for one in client.artifacts.list(page_size=100).data}


def identity(cluster: ClusterProcess) -> set[str]:
    """What tells the servers of a cluster apart from all others."""
    told = cluster.endpoints()
    return {(cluster.data / "kafka" / "cluster-id").read_text(), *(told[name] for name in ("kafka", "postgres", "s3"))}


def test_a_lost_cluster_goes_on_from_its_backup_on_servers_that_never_knew_it(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with ClusterProcess(tmp_path / "first", browser=chromium_path()) as first:
        first.start()
        first.await_said("completed in")
        shop = (first.data / "demo-shop" / "url").read_text().strip()
        with first.client() as client:
            job = logging_in_later(client, shop)
            live = run_of(client, job, shop).id
            question_of(client, live)
            kept = contents(client)
            told = client.job_runs.get(live)
        assert kept
        done = command(first, "backup", folder)
        assert (done.returncode, done.stderr) == (0, "")
        before = identity(first)
    with ClusterProcess(tmp_path / "second", browser=chromium_path(), TOWPATH_PORT=str(first.port)) as second:
        refused = command(second, "restore", folder)
        assert refused.returncode == 1
        assert "is not there: copy `keys`" in refused.stderr
        second.data.mkdir(exist_ok=True)
        for name in ("keys", "api-key", "organization-id"):
            shutil.move(first.data / name, second.data / name)
        shutil.rmtree(first.data)
        done = command(second, "restore", folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert command(second, "restore", folder).stderr.startswith("towpath: not_empty"), "nothing is put on top"

        second.start()
        second.await_said("completed in")
        assert not before & identity(second)
        with second.client() as client:
            assert client.job_runs.get(live).external_id == told.external_id == "customer"
            assert run_of(client, job, shop).id == live, "the same request, still known"
            assert contents(client).items() >= kept.items()
            client.input_requests.answer(question_of(client, live), {"word": "hello"})
            until_completed(client, live)
            findings = client.doctor().findings
            assert [one for one in findings if one.verdict == "failed"] == []
        refused = command(second, "restore", folder)
        assert refused.returncode == 1
        assert "is in use by process" in refused.stderr
        assert json.loads((folder / "manifest.json").read_bytes())
