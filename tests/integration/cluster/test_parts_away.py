"""A broker that hangs: the processes say so, end in time when they are told to, and go on when it comes back."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.components.kafka import LocalKafka
from tests.support.components import needs_kafka, needs_postgres
from tests.support.proof_jobs import make_job, run_job
from tests.support.service_processes import Running, ServiceProcesses, service_processes

pytestmark = [needs_kafka, needs_postgres, pytest.mark.timeout(240)]

END_SECONDS = 30.0


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    kafka = LocalKafka(tmp_path / "kafka")
    await asyncio.to_thread(kafka.start)
    try:
        yield kafka
    finally:
        await asyncio.to_thread(kafka.kill)


@pytest.fixture
async def processes(tmp_path: Path, broker: LocalKafka) -> AsyncIterator[ServiceProcesses]:
    async with service_processes(tmp_path / "services", broker.bootstrap) as made:
        try:
            await made.start_all()
            yield made
        finally:
            broker.resume()


async def says_unready(one: Running) -> None:
    deadline = time.monotonic() + 60
    while (await asyncio.to_thread(one.ask, "/health/ready"))[0] == 200:
        assert time.monotonic() < deadline, f"{one.name} is ready without a broker"
        await asyncio.sleep(0.1)
    assert one.ask("/health/live")[0] == 200


async def test_all_say_that_the_broker_hangs_and_go_on_when_it_is_back(
    processes: ServiceProcesses, broker: LocalKafka
) -> None:
    broker.pause()
    for one in processes.running:
        await says_unready(one)
    broker.resume()
    for one in processes.running:
        await one.ready()

    def use() -> None:
        with processes.client() as client:
            run_job(client, make_job(client))

    await asyncio.to_thread(use)
    assert [one.process.poll() for one in processes.running] == [None] * 4


async def test_all_end_in_time_though_the_broker_hangs(processes: ServiceProcesses, broker: LocalKafka) -> None:
    broker.pause()
    began = time.monotonic()
    for one in processes.running:
        one.send(signal.SIGTERM)
    for one in processes.running:
        assert await one.ended(END_SECONDS) == 0, one.said[-3000:]
    assert time.monotonic() - began < END_SECONDS
