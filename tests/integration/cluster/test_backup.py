"""A backup is made while runs go on; everything is destroyed; the backup is put into new places, and all goes on.

Real processes on a real broker, PostgreSQL and S3 server. The second life has other topics, another schema and another
bucket, and the keys of the first one. Runs are cut in their `once` steps: one whose step was started and not finished
below the cut ends as unknown, as nobody may do it again; all others end well.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifact_store.blobs.bucket import BucketSettings
from cluster.backup.files import Manifest, partition_file, read_manifest, read_records
from cluster.backup.places import Places
from cluster.backup.restoring import restore
from cluster.backup.saving import save
from kernel.clock import SystemClock
from kernel.domain.task import StepFinished, StepStarted
from kernel.domain.workflow_run import WorkflowRunStepFinished, WorkflowRunStepStarted
from kernel.errors import LogRefused, Permanent
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.topics import Topic
from kernel.settings import SecretText
from kernel.sql.postgres.settings import PostgresSettings
from tests.support.buckets import make_bucket, s3_blobs, s3_environ
from tests.support.components import needs_kafka, needs_postgres, needs_s3, unique_name
from tests.support.databases import schema_of_its_own
from tests.support.eventually import until
from tests.support.kafka_topics import KafkaTopics
from tests.support.service_processes import ServiceProcesses, service_processes
from towpath.client import Client
from towpath.resources import WorkflowType

pytestmark = [needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(300)]

ONCE = [
    {"id": f"once_{number}", "type": "assert", "effect": "once", "params": {"that": ["1 < 2"]}} for number in range(20)
]
"""So many that a cut goes through runs which are in the middle of one."""
LONG = [
    {"id": f"long_{number}", "type": "assert", "params": {"that": [f"'{'x' * 900}' != ''"]}} for number in range(80)
]
"""So much that it is kept as a blob."""
ASK = {"id": "ask", "type": "ask_user", "params": {"fields": [{"name": "word"}], "answerSeconds": 3600}}
AFTER = {"id": "after", "type": "assert", "params": {"that": ["1 < 2"]}}


class Life:
    """One cluster: its places, and its processes."""

    def __init__(self, processes: ServiceProcesses, bucket: BucketSettings) -> None:
        self.processes = processes
        self.bucket = bucket

    async def start(self) -> None:
        processes = self.processes
        keys = s3_environ(self.bucket, processes.folder / "keys")
        store = await processes.start("artifact_store", 1, **keys).ready()
        assert store.pid
        others = [processes.start(name) for name in ("scheduler", "api_gateway", "browser_runner")]
        for one in others:
            await one.ready()

    def command(self, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """`python -m cluster backup` or `restore`, as an operator calls it. Blocks."""
        environ = {**os.environ, **self.processes.common, **s3_environ(self.bucket, self.processes.folder / "keys")}
        command = [sys.executable, "-m", "cluster", name, str(folder)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)

    async def kill(self) -> None:
        """Everything at once."""
        for one in self.processes.running:
            if one.process.poll() is None:
                one.send(signal.SIGKILL)
        for one in self.processes.running:
            await one.ended()

    @asynccontextmanager
    async def places(self) -> AsyncIterator[Places]:
        common = self.processes.common
        url, schema = SecretText(common["TOWPATH_POSTGRES_URL"]), common["TOWPATH_POSTGRES_SCHEMA"]
        postgres = PostgresSettings(url, schema=schema)
        async with s3_blobs(self.bucket) as blobs:
            yield Places(self.processes.kafka, postgres, blobs, SystemClock(), SystemEntropy())


@pytest.fixture
async def first(tmp_path: Path) -> AsyncIterator[Life]:
    async with service_processes(tmp_path) as processes:
        yield Life(processes, await make_bucket())


@pytest.fixture
async def second(first: Life) -> AsyncIterator[Life]:
    """New places, with nothing in them."""
    old = first.processes
    topics = KafkaTopics(KafkaSettings(old.kafka.bootstrap, unique_name()))
    async with AsyncExitStack() as stack:
        url, schema = await stack.enter_async_context(schema_of_its_own())
        common = {
            **old.common,
            "TOWPATH_TOPIC_PREFIX": topics.settings.prefix,
            "TOWPATH_POSTGRES_URL": url,
            "TOWPATH_POSTGRES_SCHEMA": schema,
        }
        stack.push_async_callback(topics.delete, tuple(Topic))
        processes = replace(old, kafka=topics.settings, common=common, running=[])
        try:
            yield Life(processes, await make_bucket())
        finally:
            await asyncio.to_thread(processes.stop_all)


async def migrate(life: Life, module: str) -> None:
    done = await asyncio.to_thread(life.processes.run, module, "migrate")
    assert (done.returncode, done.stderr) == (0, "")


def make_jobs(client: Client) -> dict[str, str]:
    """A job that ends by itself, and one that asks; the workflow of that one is kept as a blob."""
    jobs = {}
    for name, steps in (("quick", ONCE), ("asking", [*LONG, ASK, AFTER])):
        document: dict[str, Any] = {"version": 1, "steps": steps}
        workflow = client.workflows.create(
            name=name, source_provider="proofs", type_=WorkflowType.USER_DEFINED, steps_json=document
        )
        jobs[name] = client.jobs.create(name=name, source_provider="proofs", workflow_ids=[workflow.id]).id
    return jobs


def until_ended(client: Client, run_id: str, error_code: str | None = None, seconds: float = 60.0) -> None:
    """Wait for the end, which is a good one when there is no `error_code`. Blocks."""
    deadline = time.monotonic() + seconds
    while not (run := client.job_runs.get(run_id)).ended:
        assert time.monotonic() < deadline, f"run {run_id} is {run.status}: {client.job_runs.explain(run_id)}"
        time.sleep(0.05)
    assert (run.ended_well, run.error_code) == (error_code is None, error_code), run.error_message


def question_of(client: Client, run_id: str, seconds: float = 60.0) -> str:
    """The open question of a run."""
    deadline = time.monotonic() + seconds
    while True:
        for asked in client.input_requests.list(page_size=100).data:
            if asked.job_run_id == run_id:
                return asked.id
        assert time.monotonic() < deadline, f"run {run_id} asks nothing: {client.job_runs.explain(run_id)}"
        time.sleep(0.05)


async def keep_running(life: Life, job: str, accepted: dict[str, float], stop: asyncio.Event) -> None:
    """One run after the other; when each was accepted."""
    clock = SystemClock()

    def run_one() -> None:
        with life.processes.client() as client:
            run = client.jobs.run(job, external_id="customer")
            accepted[run.id] = clock.now_ms()

    while not stop.is_set():
        await asyncio.to_thread(run_one)


def open_in(folder: Path, manifest: Manifest) -> set[str]:
    """Root runs with a `once` step that was started and not finished, as the reports in the backup tell."""
    topic = Topic.TASK_REPORTS
    steps: dict[tuple[str, str, str], int] = {}
    for partition in range(len(manifest.topics[topic].partitions)):
        for batch in read_records(partition_file(folder, topic, partition), topic, partition):
            for event in (decode(stored).event for stored in batch):
                if isinstance(event, StepStarted | StepFinished):
                    step = (event.root_run_id, event.workflow_run_id, event.path)
                    steps[step] = steps.get(step, 0) + (1 if isinstance(event, StepStarted) else -1)
    return {root_run_id for (root_run_id, *_), count in steps.items() if count > 0}


async def steps_told(kafka: KafkaSettings) -> Mapping[tuple[str, str, str], int]:
    """How often each step of each workflow run was begun and finished, as the public facts tell."""
    log = await KafkaLog.open(kafka, SystemClock())
    counts: dict[tuple[str, str, str], int] = {}
    seen: set[tuple[str, int]] = set()
    for partition in range(log.partitions(Topic.JOB_RUNS)):
        offset = 0
        while batch := await log.read(Topic.JOB_RUNS, partition, offset):
            offset = batch[-1].offset + 1
            for message in map(decode, batch):
                fact = (message.key, message.envelope.sequence)
                event = message.event
                if isinstance(event, WorkflowRunStepStarted | WorkflowRunStepFinished) and fact not in seen:
                    step = (event.workflow_run_id, event.step_id, type(event).__name__)
                    counts[step] = counts.get(step, 0) + 1
                seen.add(fact)
    await log.close()
    return counts


async def test_what_was_accepted_before_the_cut_is_there_and_goes_on_after_everything_was_destroyed(
    first: Life, second: Life, tmp_path: Path
) -> None:
    folder, accepted, stop = tmp_path / "backup", dict[str, float](), asyncio.Event()
    await migrate(first, "artifact_store")
    created = await asyncio.to_thread(first.processes.run, "api_gateway", "create-organization")
    assert created.returncode == 0, created.stderr
    first.processes.api_key = second.processes.api_key = created.stdout.splitlines()[1].split()[2]
    await first.start()

    def begin() -> tuple[dict[str, str], list[str], str]:
        with first.processes.client() as client:
            jobs = make_jobs(client)
            ended = [client.jobs.run(jobs["quick"], external_id="customer").id for _ in range(3)]
            for run_id in ended:
                until_ended(client, run_id)
            live = client.jobs.run(jobs["asking"], external_id="customer").id
            question_of(client, live)
            return jobs, ended, live

    jobs, ended, live = await asyncio.to_thread(begin)
    busy = [asyncio.create_task(keep_running(first, jobs["quick"], accepted, stop)) for _ in range(3)]
    await until(lambda: len(accepted) >= 20, 60)
    said: list[str] = []
    async with first.places() as places:
        manifest = await save(places, folder, said.append)
    during = len(accepted)
    await until(lambda: len(accepted) >= during + 5, 60)
    stop.set()
    await asyncio.gather(*busy)
    await first.kill()
    await KafkaTopics(first.processes.kafka).delete(tuple(Topic))
    unknown = open_in(folder, manifest)
    promised = [run_id for run_id, at_ms in accepted.items() if at_ms < manifest.made_ms]
    assert promised
    assert said

    async with second.places() as places:
        await restore(places, folder, said.append)
    await second.start()

    def go_on() -> None:
        with second.processes.client() as client:
            for run_id in (*ended, *promised):
                until_ended(client, run_id, "step_outcome_unknown" if run_id in unknown else None)
            known = [run.id for run in client.job_runs.list(page_size=100).data]
            assert len(known) == len(set(known))
            asking = next(found for found in client.workflows.list().data if found.name == "asking")
            assert len((client.workflows.get(asking.id).steps_json or {})["steps"]) == len(LONG) + 2
            asked = question_of(client, live)
            client.input_requests.answer(asked, {"word": "hello"})
            until_ended(client, live)
            for job in jobs.values():
                fresh = client.jobs.run(job, external_id="customer").id
                if job == jobs["asking"]:
                    client.input_requests.answer(question_of(client, fresh), {"word": "again"})
                until_ended(client, fresh)

    await asyncio.to_thread(go_on)
    told = await steps_told(second.processes.kafka)
    assert len(told) > len(promised)
    assert {step: count for step, count in told.items() if count > 1} == {}
    for one in second.processes.running:
        assert one.process.poll() is None, one.said[-2000:]


async def test_a_backup_goes_into_empty_places_only_and_must_be_whole(
    first: Life, second: Life, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    for module in ("artifact_store", "api_gateway"):
        await migrate(first, module)
    done = await asyncio.to_thread(first.command, "backup", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Keys are not in it" in done.stdout
    assert (await asyncio.to_thread(first.command, "backup", folder)).returncode == 1
    refused = await asyncio.to_thread(first.command, "restore", folder)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    async with first.places() as places:
        with pytest.raises(Permanent, match="folder_not_empty"):
            await save(places, folder, lambda _: None)
        with pytest.raises(Permanent, match="not_empty"):
            await restore(places, folder, lambda _: None)
    assert read_manifest(folder).tables
    async with second.places() as places:
        with pytest.raises(LogRefused, match="exist"):
            await restore(replace(places, kafka=first.processes.kafka), folder, lambda _: None)
        table = next(path for path in (folder / "postgres").iterdir() if path.name == "secrets")
        table.write_text("1\n")
        with pytest.raises(Permanent, match="backup_damaged"):
            await restore(places, folder, lambda _: None)
        with pytest.raises(Permanent, match="no_backup"):
            await restore(places, tmp_path / "nothing", lambda _: None)
        table.write_text("")
    done = await asyncio.to_thread(second.command, "restore", folder)
    assert (done.returncode, done.stderr) == (0, "")
