"""The key above the vault is exchanged while all stores are stopped, and the runs that wait for them go on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.components import needs_kafka, needs_postgres
from tests.support.proof_jobs import make_job, run_job
from tests.support.service_processes import ServiceProcesses, service_processes

pytestmark = [needs_kafka, needs_postgres, pytest.mark.timeout(240)]


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[ServiceProcesses]:
    async with service_processes(tmp_path) as opened:
        await opened.start_all()
        yield opened


async def test_a_customers_runs_go_on_under_the_fresh_key_and_beside_a_store_nothing_is_exchanged(
    processes: ServiceProcesses,
) -> None:
    keyring = processes.folder / "keys" / "keyring.json"
    with processes.client() as client:
        job = await asyncio.to_thread(make_job, client)
        await asyncio.to_thread(run_job, client, job, 60)
        before = keyring.read_text()
        refused = await asyncio.to_thread(processes.run, "artifact_store", "rotate-keyring")
        assert (refused.returncode, "stop all of them" in refused.stderr) == (78, True), refused.stderr
        assert keyring.read_text() == before
        for store in (one for one in processes.running if one.name == "artifact_store-1"):
            store.send(signal.SIGTERM)
            await store.ended()
        done = await asyncio.to_thread(processes.run, "artifact_store", "rotate-keyring")
        assert (done.returncode, "is the active key" in done.stdout) == (0, True), done.stderr
        assert keyring.read_text() != before
        asked = asyncio.create_task(asyncio.to_thread(run_job, client, job, 60))
        await processes.start("artifact_store", 2).ready()
        await asked
