"""Who takes over when a process is told to end, is killed, or stops, and how soon. Real processes, real broker.

The bars are generous, for a machine that does much else at the time; the bench measures. They lie well below what
would make the same happen by itself: the end of a long session, the end of a lease.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.clock import SystemClock
from kernel.domain.owner import OwnerClaimed
from kernel.domain.task import RunnerDied
from kernel.errors import UnknownType
from kernel.log.codec import decode
from kernel.log.kafka.log import KafkaLog
from kernel.log.topics import Topic
from tests.support.components import needs_kafka, needs_postgres
from tests.support.proof_jobs import make_job, run_job
from tests.support.service_processes import PARTITIONS, Running, ServiceProcesses, service_processes
from towpath.client import Client
from towpath.resources import WorkflowType

pytestmark = [needs_kafka, needs_postgres, pytest.mark.timeout(240)]

LONG_SESSION = {"SCHEDULER_SESSION_MS": "60000"}
TAKEN_SECONDS = 15.0
DIED_SECONDS = 15.0
"""A lease is 20 s."""


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[ServiceProcesses]:
    async with service_processes(tmp_path) as made:
        yield made


async def records(log: KafkaLog, topic: Topic, kind: type) -> list[tuple[int, int, Any]]:
    """Partition, time of append and event of every record of one type."""
    found = []
    for partition in range(PARTITIONS):
        offset = await log.start_offset(topic, partition)
        while batch := await log.read(topic, partition, offset):
            offset = batch[-1].offset + 1
            for stored in batch:
                try:
                    event = decode(stored).event
                except UnknownType:
                    continue
                if isinstance(event, kind):
                    found.append((partition, stored.appended_ms, event))
    return found


async def newest_owners(log: KafkaLog, topic: Topic = Topic.RUN_LEDGER) -> dict[int, str]:
    """Partition to the process whose claim is the newest."""
    return {partition: claim.owner for partition, _, claim in await records(log, topic, OwnerClaimed)}


async def eventually(ask: Callable[[], Awaitable[Any]], seconds: float = 60.0) -> None:
    """Ask again and again until the answer is true."""
    began = time.monotonic()
    while not await ask():
        assert time.monotonic() - began < seconds, f"not in {seconds:.0f} s"
        await asyncio.sleep(0.02)


async def shared_by_both(log: KafkaLog) -> bool:
    """Whether each has its half: until then partitions are on their way."""
    owners = Counter((await newest_owners(log)).values())
    return sorted(owners.values()) == [PARTITIONS // 2] * 2


@pytest.mark.parametrize(
    ("number", "session"), [(signal.SIGTERM, LONG_SESSION), (signal.SIGKILL, {})], ids=["told", "killed"]
)
async def test_the_partitions_of_a_scheduler_go_to_the_other_one(
    processes: ServiceProcesses, number: signal.Signals, session: dict[str, str]
) -> None:
    first = await processes.start("scheduler", 1, **session).ready()
    second = await processes.start("scheduler", 2, **session).ready()
    log = await KafkaLog.open(processes.kafka, SystemClock())
    try:
        await eventually(lambda: shared_by_both(log))
        first.send(number)

        async def taken_over() -> bool:
            return set((await newest_owners(log)).values()) == {second.name}

        await eventually(taken_over, TAKEN_SECONDS)
    finally:
        await log.close()


async def test_a_scheduler_that_comes_back_within_its_session_finds_what_it_had(processes: ServiceProcesses) -> None:
    first = await processes.start("scheduler", 1, **LONG_SESSION).ready()
    await processes.start("scheduler", 2, **LONG_SESSION).ready()
    log = await KafkaLog.open(processes.kafka, SystemClock())
    try:
        await eventually(lambda: shared_by_both(log))
        had = {place for place, owner in (await newest_owners(log)).items() if owner == first.name}
        claims = len(await records(log, Topic.RUN_LEDGER, OwnerClaimed))
        first.send(signal.SIGKILL)
        await first.ended()
        await processes.start("scheduler", 1, **LONG_SESSION).ready()

        async def claimed_again() -> bool:
            return len(await records(log, Topic.RUN_LEDGER, OwnerClaimed)) >= claims + len(had)

        await eventually(claimed_again)
        assert {place for place, owner in (await newest_owners(log)).items() if owner == first.name} == had
    finally:
        await log.close()


async def test_a_runner_that_is_killed_is_told_dead_by_its_watchdog_and_lives_again(
    processes: ServiceProcesses,
) -> None:
    await processes.start_all()
    watchdog = processes.running[-1]
    log = await KafkaLog.open(processes.kafka, SystemClock())
    try:
        child = children_of(watchdog.pid)[0]
        killed_ms = SystemClock().now_ms()
        os.kill(child, signal.SIGKILL)
        await eventually(lambda: records(log, Topic.DISPATCH, RunnerDied))
        died = await records(log, Topic.DISPATCH, RunnerDied)
        assert min(at_ms for _, at_ms, _ in died) - killed_ms < DIED_SECONDS * 1000
        assert len({event.incarnation for _, _, event in died}) == 1
        await watchdog.ready()
        assert children_of(watchdog.pid)[0] != child

        def use() -> None:
            with processes.client() as client:
                run_job(client, make_job(client))

        await asyncio.to_thread(use)
    finally:
        await log.close()


ASKING: dict[str, Any] = {
    "version": 1,
    "steps": [
        {
            "id": "code",
            "type": "ask_user",
            "params": {
                "kind": "mfa_code",
                "prompt": "The code?",
                "fields": [{"name": "code", "label": "Code", "kind": "text"}],
            },
        }
    ],
}


async def test_a_run_that_a_killed_runner_held_goes_on_with_another_one(processes: ServiceProcesses) -> None:
    await processes.start_all()
    first = processes.running[-1]

    def begin(client: Client) -> tuple[str, str]:
        """A run that waits for a person, and its question."""
        workflow = client.workflows.create(
            name="Asks", source_provider="proofs", type_=WorkflowType.USER_DEFINED, steps_json=ASKING
        )
        run = client.workflow_runs.create(workflow_id=workflow.id, external_id="customer-1")
        deadline = time.monotonic() + 60
        while not (asked := client.input_requests.list(workflow_run_id=run.id).data):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return run.id, asked[0].id

    def end(client: Client, run_id: str, request_id: str) -> None:
        client.input_requests.answer(request_id, {"code": "1234"})
        deadline = time.monotonic() + 60
        while not (run := client.workflow_runs.get(run_id)).ended:
            assert time.monotonic() < deadline, run.status
            time.sleep(0.05)
        assert run.ended_well, run.error_code

    with processes.client() as client:
        run_id, request_id = await asyncio.to_thread(begin, client)
        second = await processes.start("browser_runner", 2).ready()
        os.kill(children_of(first.pid)[0], signal.SIGKILL)
        await asyncio.to_thread(end, client, run_id, request_id)
    assert second.process.poll() is None


async def test_a_runner_that_never_succeeds_ends_with_its_watchdog(processes: ServiceProcesses) -> None:
    runner: Running = processes.start("browser_runner", 1, TOWPATH_START_SECONDS="1")
    assert await runner.ended(60) == 69
    assert "the artifact store at" in runner.said


def children_of(pid: int) -> list[int]:
    """The direct children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
