"""An upgrade with live runs, and the way back: two builds of every service at once, on one log, database and bucket.

The builds are made from this tree (`tests.support.builds`). They change places as an orchestrator changes them, the
new process first, then the end of the old one; and then everything goes back. All the while runs are asked for, carried
out, and wait for people or for a time. In between even the release after next decides. Judged by an outsider's fold of
the public topics, by the ledger's own records, and by what the API tells.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from artifact_store.blobs.bucket import BucketSettings
from kernel.clock import SystemClock
from kernel.log.kafka.log import KafkaLog
from kernel.log.topics import Topic
from kernel.refusing import REFUSED_EXIT_CODE
from kernel.sql.postgres import PostgresDatabase
from tests.support.buckets import make_bucket, s3_environ
from tests.support.builds import NOTE, Build, make_builds
from tests.support.cluster_load import ClusterLoad
from tests.support.components import needs_kafka, needs_postgres, needs_s3
from tests.support.handovers import Handovers
from tests.support.outside_fold import OutsideFold
from tests.support.platform_process import free_ports
from tests.support.public_watch import PublicWatch
from tests.support.service_processes import Running, ServiceProcesses, service_processes
from towpath.client import Client
from towpath.resources import WorkflowType
from towpath.settings import Settings

pytestmark = [needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(600)]

SERVICES = ("artifact_store", "browser_runner", "scheduler", "api_gateway")
CALLERS = 2
STAGE_SECONDS = 120.0
EXPIRES_SECONDS = 15
PROOF = {"id": "before", "type": "assert", "effect": "once", "params": {"that": ["1 < 2"]}}
AFTER = {"id": "after", "type": "assert", "effect": "once", "params": {"that": ["1 < 2"]}}


def ask(seconds: int) -> dict[str, Any]:
    return {"id": "ask", "type": "ask_user", "params": {"fields": [{"name": "word"}], "answerSeconds": seconds}}


class Fleet:
    """The processes of all builds, over the same topics, schema and bucket; two addresses for store and gateway."""

    def __init__(self, processes: ServiceProcesses, bucket: BucketSettings) -> None:
        self.processes = processes
        port = free_ports(4)
        self.stores = [f"127.0.0.1:{port + number}" for number in range(2)]
        self.gateways = [f"http://127.0.0.1:{port + 2 + number}" for number in range(2)]
        self._s3 = s3_environ(bucket, processes.folder / "keys")
        self._running: dict[tuple[str, str], Running] = {}

    def environ(self, build: Build, service: str) -> dict[str, str]:
        """What a process of `build` is told beyond what all are told."""
        own, stores = {"PYTHONPATH": build.path}, ",".join(self.stores)
        place = (build.number - 1) % 2
        match service:
            case "artifact_store":
                return {**own, **self._s3, "ARTIFACT_STORE_ADDRESS": self.stores[place]}
            case "browser_runner":
                return {**own, "BROWSER_RUNNER_STORE": stores, "BROWSER_RUNNER_HOST_ID": build.name}
            case "api_gateway":
                address = self.gateways[place].removeprefix("http://")
                return {**own, "API_GATEWAY_STORE": stores, "API_GATEWAY_ADDRESS": address}
        return own

    async def start(self, build: Build, *services: str) -> None:
        """Start them, one after the other, each when the one before it is ready."""
        for service in services:
            more = self.environ(build, service)
            running = self.processes.start(service, build.number, **more)
            self._running[build.name, service] = await running.ready()

    async def end(self, build: Build, *services: str) -> None:
        """SIGTERM, one after the other; each must end well."""
        for service in services:
            running = self._running.pop((build.name, service))
            running.send(signal.SIGTERM)
            assert await running.ended(30) == 0, running.said[-2000:]

    def of(self, build: Build, service: str) -> Running:
        return self._running[build.name, service]

    async def command(self, build: Build, *arguments: str) -> str:
        """A command of that build's gateway; what it says."""
        done = await asyncio.to_thread(
            self.processes.run, "api_gateway", *arguments, **self.environ(build, "api_gateway")
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, build: Build) -> Client:
        return Client(Settings(self.gateways[(build.number - 1) % 2], self.processes.api_key))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with service_processes(tmp_path) as processes:
        yield Fleet(processes, await make_bucket())


class Waiting:
    """Runs that wait while builds come and go: for answers, and for the end of the time to answer."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.asking: list[str] = []
        self.expiring = ""
        self._keys: dict[str, str] = {}
        self._jobs: dict[str, str] = {}

    def begin(self, build: Build, runs: int) -> None:
        with self._fleet.client(build) as client:
            for name, seconds in (("asking", 3600), ("expiring", EXPIRES_SECONDS)):
                document = {"version": 1, "steps": [PROOF, ask(seconds), AFTER]}
                made = client.workflows.create(
                    name=name, source_provider="proofs", type_=WorkflowType.USER_DEFINED, steps_json=document
                )
                self._jobs[name] = client.jobs.create(name=name, source_provider="proofs", workflow_ids=[made.id]).id
            for number in range(runs):
                key = f"asking-{number}"
                run = client.jobs.run(self._jobs["asking"], external_id="customer", idempotency_key=key).id
                self._keys[run] = key
                self.asking.append(run)
            self.expiring = client.jobs.run(self._jobs["expiring"], external_id="customer").id

    def repeat(self, build: Build) -> None:
        """The same requests again, by way of another build: the same runs."""
        with self._fleet.client(build) as client:
            for run, key in self._keys.items():
                again = client.jobs.run(self._jobs["asking"], external_id="customer", idempotency_key=key)
                assert again.id == run

    def answer(self, build: Build, run: str) -> None:
        with self._fleet.client(build) as client:
            asked = next(one for one in client.input_requests.list(page_size=100).data if one.job_run_id == run)
            client.input_requests.answer(asked.id, {"word": "hello"})


async def until(ask: Callable[[], Awaitable[bool]], what: str, seconds: float = STAGE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not await ask():
        assert time.monotonic() < deadline, f"in {seconds:.0f} s not: {what}"
        await asyncio.sleep(0.1)


class Story:
    """What one test looks at all the while."""

    def __init__(self, fleet: Fleet, watch: PublicWatch, load: ClusterLoad, ledger: Handovers) -> None:
        self.fleet, self.watch, self.load, self.ledger = fleet, watch, load, ledger

    async def decided_by(self, *builds: Build) -> None:
        """Wait until exactly these own partitions, and until each has left snapshots behind since now."""
        names = {f"scheduler-{build.number}" for build in builds}
        await self.ledger.look()
        before = {number: len(self.ledger.snapshots[number]) for number in range(len(self.ledger.owners))}

        async def is_so() -> bool:
            await self.ledger.look()
            fresh = {name for number, seen in before.items() for name in self.ledger.snapshots[number][seen:]}
            return set(self.ledger.owners) == names and fresh >= names

        await until(is_so, f"snapshots of {names}")
        await asyncio.to_thread(self.watch.until, self.load.unfinished, 30, "live work")

    async def ended(self, *runs: str) -> None:
        def have(fold: OutsideFold) -> bool:
            return all(run in fold.runs and fold.runs[run].ended for run in runs)

        await asyncio.to_thread(self.watch.until, have, STAGE_SECONDS, f"the ends of {runs}")


async def test_builds_change_places_there_and_back_while_runs_go_on(fleet: Fleet, tmp_path: Path) -> None:
    this, following, last = await asyncio.to_thread(make_builds, tmp_path / "builds")
    created = await fleet.command(this, "create-organization")
    fleet.processes.api_key = created.splitlines()[1].split()[2]
    await fleet.start(this, *SERVICES)
    waiting = Waiting(fleet)
    await asyncio.to_thread(waiting.begin, this, 3)
    async with AsyncExitStack() as stack:
        kafka = fleet.processes.kafka
        log = await KafkaLog.open(kafka, SystemClock())
        stack.push_async_callback(log.close)
        topics = [kafka.broker_topic(topic) for topic in (Topic.JOB_RUNS, Topic.DEFINITIONS)]
        watch = stack.enter_context(PublicWatch(kafka.bootstrap, topics))
        load = await asyncio.to_thread(
            ClusterLoad,
            fleet.gateways,
            fleet.processes.api_key,
            watch,
            "https://orders.example",
            light=CALLERS,
            ordering=0,
        )
        story = Story(fleet, watch, load, Handovers(log, Topic.RUN_LEDGER))
        with load:
            await there_and_back(story, waiting, this, following, last)
        await asyncio.to_thread(
            watch.until, lambda fold: not load.unfinished(fold), STAGE_SECONDS, "the ends of all runs"
        )
        await asyncio.to_thread(watch.read_to_end)
        await judge(story, waiting, this, following)


async def there_and_back(story: Story, waiting: Waiting, this: Build, following: Build, last: Build) -> None:
    fleet = story.fleet
    await story.decided_by(this)
    # The upgrade: both builds at once, then the new one alone.
    await fleet.start(following, *SERVICES)
    await story.decided_by(this, following)
    await asyncio.to_thread(waiting.repeat, following)
    set_aside = [line["record"] for line in fleet.of(this, "scheduler").lines("input.parked")]
    assert all("UnknownType" in record for record in set_aside)
    assert set_aside, "nothing was set aside of what newer runners describe"
    await fleet.end(this, *SERVICES)
    await story.decided_by(following)
    await asyncio.to_thread(waiting.answer, following, waiting.asking[0])
    await story.ended(waiting.asking[0], waiting.expiring)
    # The next upgrade writes what only its predecessor reads.
    await fleet.start(last, "scheduler")
    await fleet.end(following, "scheduler")
    await story.decided_by(last)
    await refuse_what_it_cannot_read(fleet, this)
    await story.decided_by(last)
    # And back, one release after the other.
    await fleet.start(following, "scheduler")
    await fleet.end(last, "scheduler")
    await story.decided_by(following)
    await fleet.start(this, *SERVICES)
    await story.decided_by(this, following)
    await asyncio.to_thread(waiting.answer, this, waiting.asking[1])
    await fleet.end(following, *SERVICES)
    await story.decided_by(this)
    await asyncio.to_thread(waiting.repeat, this)
    await asyncio.to_thread(waiting.answer, this, waiting.asking[2])
    await story.ended(*waiting.asking)


async def refuse_what_it_cannot_read(fleet: Fleet, build: Build) -> None:
    """A scheduler two releases back ends with one line, and others decide on."""
    refusing = fleet.processes.start("scheduler", build.number, **fleet.environ(build, "scheduler"))
    assert await refusing.ended(60) == REFUSED_EXIT_CODE, refusing.said[-2000:]
    last_word = refusing.said.strip().rpartition("\n")[2]
    assert "holds a Tombstone of shape 1, and this build knows them up to 0" in last_word, last_word
    assert "Traceback" not in refusing.said


async def judge(story: Story, waiting: Waiting, this: Build, following: Build) -> None:
    fold, ledger, book = story.watch.fold, story.ledger, story.load.book
    assert book.problems == []
    assert fold.problems == []
    assert fold.open_once == set()
    promised = [*book.accepted, *waiting.asking]
    assert {fold.runs[run].status for run in promised} == {"COMPLETED"}
    assert fold.runs[waiting.expiring].status == "FAILED"
    assert len(fold.runs) == len(promised) + 1, "a run that nobody was promised"
    for run in waiting.asking:
        (told,) = fold.runs[run].workflow_runs.values()
        assert sorted(path for _, path, _ in told.steps if path != "ask") == ["after", "before"]

    await ledger.look()
    here, there, then = "scheduler-1", "scheduler-2", "scheduler-3"
    assert ledger.taken >= {(here, there), (there, then), (then, there), (there, here)}
    shapes = {owner: {one.shape for one in found if one.kind == "Tombstone"} for owner, found in ledger.entries.items()}
    assert shapes == {here: {0}, there: {0}, then: {1}}
    counting = {owner for owner, found in ledger.entries.items() if any("heard" in one.names for one in found)}
    assert counting == {there, then}

    await same_as_told(story, this)
    common = story.fleet.processes.common
    db = await PostgresDatabase.open(common["TOWPATH_POSTGRES_URL"], schema=common["TOWPATH_POSTGRES_SCHEMA"])
    try:
        notes = "SELECT count(*) FROM job_runs WHERE note = ?"
        before = await db.fetch_one(notes, (NOTE,))
        # The older build's rebuild keeps the newer one's column; the newer one's fills it.
        await story.fleet.command(this, "rebuild")
        assert await db.fetch_one(notes, (NOTE,)) == (0,)
        await same_as_told(story, this)
        await story.fleet.command(following, "rebuild")
        after = await db.fetch_one(notes, (NOTE,))
    finally:
        await db.close()
    assert before is not None
    assert after is not None
    assert after[0] >= before[0] > 0
    await same_as_told(story, this)


async def same_as_told(story: Story, build: Build) -> None:
    """The API tells of each run what the public facts told."""

    def told() -> dict[str, str]:
        with story.fleet.client(build) as client:
            return {run: client.job_runs.get(run).status for run in story.watch.fold.runs}

    assert await asyncio.to_thread(told) == {run: seen.status for run, seen in story.watch.fold.runs.items()}
