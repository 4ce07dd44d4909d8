"""What outsiders follow: a gateway over Kafka, schedulers that can be killed, and a runner in the test's hand.

Everything that outsiders read is written by the real deciders; the test says only what runners report.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from kernel.domain.owner import OwnerClaimed
from kernel.domain.values import Failure
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.log.codec import decode
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from tests.support.gateways import RunningGateway, a_job, a_workflow, gateway_in, seen
from tests.support.hand_runner import HandRunner
from tests.support.patient_calls import asked, made

COMPLETED, FAILED = WorkflowRunStatus.COMPLETED, WorkflowRunStatus.FAILED
MEMBER = "scheduler-"
API_WORDS = {"completed": "COMPLETED", "failed": "FAILED", "cancelled": "FAILED", "left": "IN_PROGRESS"}


@dataclass
class Schedulers:
    """`python -m scheduler`, each with its own group membership."""

    kafka: KafkaSettings
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        """One more; it joins by itself."""
        number = len(self.processes) + 1
        environ = {
            **os.environ,
            "TOWPATH_KAFKA": self.kafka.bootstrap,
            "TOWPATH_TOPIC_PREFIX": self.kafka.prefix,
            "TOWPATH_MEMBER": f"{MEMBER}{number}",
            "TOWPATH_PROBES": "",
        }
        with (self.folder / f"scheduler-{number}.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "scheduler"], env=environ, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Kill what lives."""
        for process in self.processes:
            process.kill()
            process.wait()


@dataclass
class OutsideStory:
    """Runs that go on, and how the API must tell each at the end."""

    gateway: RunningGateway
    runner: HandRunner
    schedulers: Schedulers
    kafka: KafkaSettings
    job: str
    expected: dict[str, str] = field(default_factory=dict)
    """Job run to its fate, a key of `API_WORDS`."""

    async def run(self, fate: str) -> str:
        """A job run of two workflows, brought to its fate."""
        run = await self.start(fate)
        await self.go_on(run)
        return run

    async def start(self, fate: str) -> str:
        """A job run that has begun; asked for again as long as nobody decides, as clients do."""
        body = {"jobId": self.job, "externalId": f"customer {fate}"}
        run = await made(self.gateway.api, "/api/v2/job-runs", body)
        self.expected[run] = fate
        return run

    async def go_on(self, run: str) -> None:
        """Report what makes the run end as it shall."""
        fate = self.expected[run]
        if fate == "left":
            await self.runner.takes(await self._part(run, 0))
            return
        if fate == "cancelled":
            answer = await asked(self.gateway.api, "POST", f"/api/v2/job-runs/{run}/cancel")
            assert answer.status_code == 202, answer.text
            return
        await self.runner.ends(await self._part(run, 0), COMPLETED)
        attempt = await self.runner.takes(await self._part(run, 1))
        step, ended = attempt.step("look"), attempt.ended(COMPLETED)
        if fate == "failed":
            failure = Failure(code="target_missing", step_id="open", step_name="Open the orders")
            ended = replace(ended, status=FAILED, failure=failure)
        await self.runner.says(attempt, step, ended)

    async def _part(self, run: str, place: int) -> str:
        async with asyncio.timeout(30):
            while True:
                parts: list[str] = (await self._read(run))["workflowRunIds"]
                if len(parts) > place:
                    return parts[place]
                await asyncio.sleep(0.01)

    async def _read(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.gateway.api.get(f"/api/v2/job-runs/{run}")).json()
        return found

    async def owner_of(self, run: str) -> subprocess.Popen[bytes]:
        """The scheduler that owns the run's partition, by the last claim in its ledger."""
        log = self.gateway.services.log
        owner = await last_owner(log, partition_of(run, log.partitions(Topic.RUN_LEDGER)))
        return self.schedulers.processes[int(owner.removeprefix(MEMBER)) - 1]

    async def settled(self) -> dict[str, dict[str, Any]]:
        """What the API answers of every job run, once all are as they shall be."""
        for run, fate in self.expected.items():
            await seen(self.gateway, f"/job-runs/{run}", status=API_WORDS[fate])
        return {run: await self._read(run) for run in self.expected}


async def last_owner(log: EventLog, partition: int) -> str:
    """Who made the last claim in a partition of the runs' ledger; empty when nobody has."""
    stored = await log.read(Topic.RUN_LEDGER, partition, 0, max_records=10_000)
    claims = [event for event in (decode(one).event for one in stored) if isinstance(event, OwnerClaimed)]
    return claims[-1].owner if claims else ""


async def _all_owned(log: EventLog) -> None:
    async with asyncio.timeout(60):
        for partition in range(log.partitions(Topic.RUN_LEDGER)):
            while True:
                if (await last_owner(log, partition)).startswith(MEMBER):
                    break
                await asyncio.sleep(0.05)


@asynccontextmanager
async def outside_story(folder: Path) -> AsyncIterator[OutsideStory]:
    """Needs `TOWPATH_TEST_LOG=kafka`. Two schedulers are up; the gateway's own decider of runs is not."""
    async with gateway_in(folder, real_scheduler=True) as gateway:
        gateway.tasks[1].cancel()
        kafka = cast("KafkaLog", gateway.services.log)._settings
        schedulers = Schedulers(kafka, folder)
        try:
            schedulers.start()
            schedulers.start()
            await _all_owned(gateway.services.log)
            job = await a_job(gateway.api, await a_workflow(gateway.api), await a_workflow(gateway.api, name="Second"))
            runner = HandRunner(gateway.services.log, gateway.clock)
            yield OutsideStory(gateway, runner, schedulers, kafka, job)
        finally:
            schedulers.stop()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait until it is over."""
    process.send_signal(signal.SIGKILL)
    process.wait()
