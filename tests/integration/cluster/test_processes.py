"""The four services as processes over a real broker and a real PostgreSQL: start, work, drain, refuse."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.refusing import REFUSED_EXIT_CODE, UNREACHED_EXIT_CODE
from tests.support.components import needs_kafka, needs_postgres
from tests.support.platform_process import until
from tests.support.proof_jobs import make_job, run_job
from tests.support.service_processes import ServiceProcesses, service_processes
from towpath.client import Client
from towpath.resources import Finding

pytestmark = [needs_kafka, needs_postgres, pytest.mark.timeout(240)]

SERVICES = ("artifact_store", "scheduler", "browser_runner", "api_gateway")


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[ServiceProcesses]:
    async with service_processes(tmp_path) as made:
        yield made


def found_by_doctor(client: Client) -> dict[str, Finding]:
    return {finding.check: finding for finding in client.doctor().findings}


async def test_a_job_runs_through_all_four_processes_and_each_of_them_drains(processes: ServiceProcesses) -> None:
    await processes.start_all()

    def use() -> None:
        with processes.client() as client:
            job = make_job(client)
            for _ in range(3):
                run_job(client, job)
            # Whoever was held up for a second may seem to have another clock, until its next heartbeat.
            until(lambda: found_by_doctor(client)["clocks"].verdict == "ok", 60, "clocks that agree")
            found = found_by_doctor(client)
            assert not [finding for finding in found.values() if finding.verdict == "failed"]
            assert found["group sessions"].verdict == "ok"
            assert "1 copies on 1 brokers" in found["topics"].message
            assert found["access"].message == "not checked: the brokers have no authorizer"

    await asyncio.to_thread(use)
    for one in processes.running:
        assert one.ask("/health/live")[0] == 200
        assert "version" in json.loads(one.ask("/version")[1])
        assert one.ask("/metrics")[0] == 200
    for one in reversed(processes.running):
        one.send(signal.SIGTERM)
        assert await one.ended(20) == 0, one.said[-2000:]
        assert not [line for line in one.said.splitlines() if line.startswith("Traceback")], one.said[-3000:]


@pytest.mark.parametrize("module", SERVICES)
def test_a_service_without_its_settings_names_the_first_that_is_missing(module: str, tmp_path: Path) -> None:
    bare = ServiceProcesses(tmp_path, None, {})  # type: ignore[arg-type]  # nothing of it is used
    refused = bare.run(module, **dict.fromkeys(bare.environ(module), ""))
    assert refused.returncode == REFUSED_EXIT_CODE
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"towpath {module.replace('_', '-')}: ")


async def test_a_topic_that_is_missing_is_refused_by_name(processes: ServiceProcesses) -> None:
    refused = await asyncio.to_thread(processes.run, "scheduler", TOWPATH_TOPIC_PREFIX="nobody")
    assert refused.returncode == REFUSED_EXIT_CODE
    (line,) = refused.stderr.splitlines()
    assert "nobody.job_runs.g1" in line


async def test_a_broker_that_is_away_is_waited_for_and_then_named(processes: ServiceProcesses) -> None:
    away = {"TOWPATH_KAFKA": "127.0.0.1:9", "TOWPATH_START_SECONDS": "1"}
    refused = await asyncio.to_thread(processes.run, "scheduler", **away)
    assert refused.returncode == UNREACHED_EXIT_CODE
    (line,) = refused.stderr.splitlines()
    assert line.startswith("towpath scheduler: Kafka at 127.0.0.1:9 is not there after ")


async def test_a_wrong_password_of_the_database_is_refused_and_not_repeated(processes: ServiceProcesses) -> None:
    host = processes.common["TOWPATH_POSTGRES_URL"].rpartition("@")[2]
    url = f"postgresql://towpath:correct-horse@{host}"
    refused = await asyncio.to_thread(processes.run, "artifact_store", TOWPATH_POSTGRES_URL=url)
    assert refused.returncode == REFUSED_EXIT_CODE
    (line,) = refused.stderr.splitlines()
    assert "correct-horse" not in refused.stderr + refused.stdout
    assert "PostgreSQL" in line


async def test_a_key_file_that_is_missing_is_refused_by_name(processes: ServiceProcesses) -> None:
    refused = await asyncio.to_thread(processes.run, "artifact_store", ARTIFACT_STORE_RUNNER_KEY_PATH="/no/such/key")
    assert refused.returncode == REFUSED_EXIT_CODE
    assert refused.stderr == "towpath artifact-store: /no/such/key cannot be read: No such file or directory\n"


async def test_a_runner_that_is_told_of_no_store_is_refused(processes: ServiceProcesses) -> None:
    refused = await asyncio.to_thread(processes.run, "browser_runner", BROWSER_RUNNER_STORE="")
    assert refused.returncode == REFUSED_EXIT_CODE
    said = "set BROWSER_RUNNER_STORE and BROWSER_RUNNER_STORE_KEY_FILE"
    assert refused.stderr == f"towpath browser-runner: {said}\n"


async def test_a_runner_with_a_foreign_service_key_is_refused(processes: ServiceProcesses) -> None:
    await processes.start("artifact_store").ready()
    wrong = {"BROWSER_RUNNER_STORE_KEY_FILE": str(processes.folder / "keys" / "pepper")}
    refused = await asyncio.to_thread(processes.run, "browser_runner", **wrong)
    assert refused.returncode == REFUSED_EXIT_CODE
    assert refused.stderr == "towpath browser-runner: the artifact store does not know the key of this service\n"


if os.geteuid() == 0:  # an ordinary user's browsers have their sandbox: there is nothing to refuse, and nothing absent

    async def test_a_runner_whose_browsers_would_have_no_sandbox_is_refused(processes: ServiceProcesses) -> None:
        await processes.start("artifact_store").ready()
        refused = await asyncio.to_thread(processes.run, "browser_runner", BROWSER_RUNNER_BROWSER_SLOTS="1")
        assert refused.returncode == REFUSED_EXIT_CODE
        (line,) = refused.stderr.splitlines()
        assert "set BROWSER_RUNNER_SANDBOX" in line


async def test_a_runner_whose_browser_does_not_start_ends_with_one_line(processes: ServiceProcesses) -> None:
    await processes.start("artifact_store").ready()
    broken = {
        "BROWSER_RUNNER_BROWSER_SLOTS": "1",
        "BROWSER_RUNNER_SANDBOX": "false",
        "BROWSER_RUNNER_BROWSER_PATH": "/bin/false",
    }
    refused = await asyncio.to_thread(processes.run, "browser_runner", **broken)
    assert refused.returncode == UNREACHED_EXIT_CODE
    (line,) = refused.stderr.splitlines()
    assert line.startswith("towpath browser-runner: no browser starts: ")


async def test_tables_and_topics_are_made_by_commands_that_may_be_repeated(processes: ServiceProcesses) -> None:
    def run(module: str, *arguments: str) -> tuple[int, str]:
        done = processes.run(module, *arguments)
        return done.returncode, done.stdout

    for module in ("api_gateway", "artifact_store"):
        code, said = await asyncio.to_thread(run, module, "migrate", "--check")
        assert (code, said.partition(":")[0]) == (1, "missing")
        assert (await asyncio.to_thread(run, module, "migrate"))[0] == 0
        assert await asyncio.to_thread(run, module, "migrate", "--check") == (
            0,
            "the tables are those of this version\n",
        )
    code, _ = await asyncio.to_thread(run, "kernel.log.kafka", "create-topics", "--partitions", "4")
    assert code == 0
    code, _ = await asyncio.to_thread(run, "kernel.log.kafka", "create-topics", "--partitions", "5")
    assert code == REFUSED_EXIT_CODE
