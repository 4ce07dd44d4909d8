"""Two gateways over one Kafka and one PostgreSQL: who asks one of them need not know that there is another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_gateway import announcing, auth
from kernel.clock import SystemClock
from kernel.domain.ids import WorkflowRunId
from kernel.domain.values import SealedBody
from kernel.domain.workflow_run import WorkflowRunCompleted, WorkflowRunStarted, WorkflowRunStatus
from kernel.log.kafka.log import KafkaLog
from kernel.log.topics import TOPICS
from tests.support.asgi import live_get
from tests.support.components import needs_kafka, needs_postgres
from tests.support.eventually import PATIENCE_SECONDS, until
from tests.support.gateways import a_job, a_run, a_workflow
from tests.support.kafka_topics import topics_of_a_test
from tests.support.replicas import Cluster, Replica, cluster_over

pytestmark = [needs_kafka, needs_postgres]
PARTITIONS = 4
TOPIC_PARTITIONS = {topic.value: PARTITIONS for topic in TOPICS}
EVERYTHING = range(PARTITIONS)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Topics on a broker; each process has a client of its own."""
    async with topics_of_a_test(TOPIC_PARTITIONS) as topics:

        async def open_log() -> KafkaLog:
            return await KafkaLog.open(topics.settings, SystemClock(), topics=TOPIC_PARTITIONS)

        async with cluster_over(open_log, tmp_path) as one:
            yield one


@pytest.fixture
async def idle_and_busy(cluster: Cluster) -> tuple[Replica, Replica]:
    """One gateway that projects nothing, and one that projects everything."""
    return await cluster.replica(()), await cluster.replica(EVERYTHING)


def started(run: str) -> WorkflowRunStarted:
    return WorkflowRunStarted(WorkflowRunId(run), 1)


def completed(run: str) -> WorkflowRunCompleted:
    return WorkflowRunCompleted(WorkflowRunId(run), WorkflowRunStatus.COMPLETED, SealedBody())


async def test_a_post_at_one_gateway_is_answered_though_another_one_projects(
    idle_and_busy: tuple[Replica, Replica],
) -> None:
    idle, busy = idle_and_busy
    run = await a_run(idle.api)
    for replica in (idle, busy):
        assert (await replica.api.get(f"/api/v2/workflow-runs/{run}")).json()["id"] == run


async def test_what_was_posted_is_read_at_every_other_gateway_at_once(cluster: Cluster) -> None:
    replicas = [await cluster.replica((0, 1)), await cluster.replica((2, 3)), await cluster.replica(())]

    async def one(number: int) -> None:
        asked, other = replicas[number % 3], replicas[(number + 1) % 3]
        run = await a_run(asked.api)
        assert (await other.api.get(f"/api/v2/workflow-runs/{run}")).status_code == 200
        answer = await asked.api.post(f"/api/v2/workflow-runs/{run}/cancel")
        assert answer.status_code == 202, answer.text
        assert (await other.api.get(f"/api/v2/workflow-runs/{run}")).json()["status"] in ("CANCELLED", "FAILED")

    await asyncio.gather(*(one(number) for number in range(12)))


async def test_nothing_is_read_from_the_log_where_nobody_waits(idle_and_busy: tuple[Replica, Replica]) -> None:
    idle, busy = idle_and_busy
    await until(lambda: idle.announcements.is_listening)
    read: list[Any] = []
    log = idle.services.log
    real = log.read

    async def counted(*place: Any, **more: Any) -> Any:
        read.append(place)
        return await real(*place, **more)

    idle.announcements._log = type("Counted", (), {"read": staticmethod(counted)})()
    await a_run(busy.api)
    await until(lambda: idle.announcements._told)
    assert read == []
    await a_run(idle.api)
    assert read != []
    await until(lambda: not idle.services.waiters.is_anyone)


async def test_two_projectors_of_the_same_partitions_do_no_harm(cluster: Cluster) -> None:
    one, other = await cluster.replica(EVERYTHING), await cluster.replica(EVERYTHING)
    runs = await asyncio.gather(*(a_run(replica.api) for replica in (one, other) * 10))
    for run in runs:
        await cluster.scheduler.say(run, started(run), completed(run))
    await asyncio.gather(*(ended(one.api, run) for run in runs))
    rows = await one.db.fetch_all("SELECT status, count(*) FROM workflow_runs GROUP BY status")
    assert rows == [("completed", 20)]
    facts = await one.db.fetch_all("SELECT root_run_id, count(*), max(sequence) FROM run_events GROUP BY root_run_id")
    assert sorted(facts) == sorted((run, 3, 3) for run in runs)
    found = (await other.api.get("/api/v2/workflow-runs", params={"status": "COMPLETED"})).json()
    assert found["total"] == 20, found
    assert await one.projector.lag() == 0


async def ended(api: httpx.AsyncClient, run: str) -> None:
    """Wait until the run has ended, as a caller would."""
    after, types = 0, set[str]()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "workflow_run.completed" not in types:
            path = f"/api/v2/workflow-runs/{run}/events"
            for event in (await api.get(path, params={"after": after, "wait": 10})).json()["data"]:
                after = event["data"]["sequence"]
                types.add(event["type"])


async def test_partitions_move_from_one_projector_to_another_under_load(cluster: Cluster) -> None:
    one, other = await cluster.replica(EVERYTHING), await cluster.replica(())

    async def keep_moving() -> None:
        for number in range(40):
            mine = frozenset(part for part in EVERYTHING if (part + number) % 3)
            one.proposals.propose(mine)
            other.proposals.propose(frozenset(EVERYTHING) - mine)
            await asyncio.sleep(0.005)

    moving = asyncio.create_task(keep_moving())
    runs = [await a_run(replica.api) for replica in (one, other) * 15]
    await moving
    one.proposals.propose(EVERYTHING)
    rows = await one.db.fetch_all("SELECT id FROM workflow_runs")
    assert sorted(row[0] for row in rows) == sorted(runs)
    await until(lambda: one.projector.is_caught_up and other.projector.is_caught_up)


async def test_a_gateway_is_ready_once_it_hears_the_others_and_has_caught_up(cluster: Cluster) -> None:
    busy = await cluster.replica(EVERYTHING)
    for _ in range(5):
        await a_run(busy.api)
    late = await cluster.replica(())
    await until(lambda: late.announcements.is_listening)
    late.announcements._is_listening = False
    assert (await late.api.get("/health/ready")).status_code == 503
    late.announcements._heard("")
    assert (await late.api.get("/health/ready")).status_code == 200
    late.proposals.propose(EVERYTHING)
    await until(lambda: late.projector._behind)
    far = next(iter(late.projector._behind))
    late.projector._behind[far] = 1_000_000  # it may be there before anybody can ask
    assert (await late.api.get("/health/ready")).status_code == 503
    late.projector._behind.pop(far)
    await until(lambda: late.projector.is_caught_up)
    assert (await late.api.get("/health/ready")).status_code == 200


async def test_a_stream_of_a_gateway_that_is_killed_goes_on_at_another_without_a_gap(cluster: Cluster) -> None:
    doomed, other = await cluster.replica(EVERYTHING), await cluster.replica(())
    run = await a_run(doomed.api)
    path = f"/api/v2/workflow-runs/{run}/events"
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {cluster.write_key}"}
    async with live_get(doomed.app, path, headers) as call:
        await call.until("id: 1")
        await doomed.crash()
    await cluster.scheduler.say(run, started(run))
    async with live_get(other.app, path, {**headers, "Last-Event-ID": "1"}) as call:
        await until(lambda: run in other.services.waiters._streams)
        other.proposals.propose(EVERYTHING)
        await call.until("id: 2")
        await cluster.scheduler.say(run, completed(run))
        text = await call.end()
    assert [line for line in text.splitlines() if line.startswith("id: ")] == ["id: 2", "id: 3"]


async def test_a_long_poll_is_woken_by_what_another_gateway_projects(
    cluster: Cluster, idle_and_busy: tuple[Replica, Replica]
) -> None:
    idle, busy = idle_and_busy
    run = await a_run(busy.api)
    path = f"/api/v2/workflow-runs/{run}/events"
    waiting = asyncio.create_task(idle.api.get(path, params={"after": 1, "wait": 30}))
    await until(lambda: run in idle.services.waiters._streams)
    await cluster.scheduler.say(run, started(run))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [event["type"] for event in (await waiting).json()["data"]] == ["workflow_run.started"]


async def test_announcements_that_were_lost_are_made_up_for_by_looking(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "LOOK_SECONDS", 600.0)  # not because somebody has waited for a while
    idle, _ = await cluster.replica(()), await cluster.replica(EVERYTHING)
    await until(lambda: idle.announcements.is_listening)
    deaf = idle.announcements
    hears, deaf._reached = deaf._reached, lambda *_: None  # type: ignore[method-assign]  # as when each is lost
    asking = asyncio.create_task(a_run(idle.api))
    await until(lambda: idle.services.waiters.is_anyone)
    await asyncio.sleep(0.1)
    assert not asking.done()
    deaf._reached = hears  # type: ignore[method-assign]  # the connection is back
    deaf._heard("")
    await asyncio.wait_for(asking, PATIENCE_SECONDS)


async def test_a_gateway_hears_again_after_its_listener_was_cut(
    cluster: Cluster, idle_and_busy: tuple[Replica, Replica]
) -> None:
    idle, busy = idle_and_busy
    await until(lambda: idle.announcements.is_listening and busy.announcements.is_listening)
    cut = await busy.db.fetch_all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE ?", (f'LISTEN "{cluster.schema}%',)
    )
    assert cut
    runs = await asyncio.gather(*(a_run(idle.api) for _ in range(5)))
    assert len(set(runs)) == 5


async def test_a_repeated_post_at_the_other_gateway_is_done_once(
    cluster: Cluster, idle_and_busy: tuple[Replica, Replica]
) -> None:
    idle, busy = idle_and_busy
    workflow = await a_workflow(idle.api)
    cluster.scheduler.is_silent = True
    headers, body = {"Idempotency-Key": "once-only-1"}, {"workflowId": workflow}
    first = asyncio.create_task(idle.api.post("/api/v2/workflow-runs", json=body, headers=headers))
    await until(lambda: idle.services.waiters.is_anyone)
    second = await busy.api.post("/api/v2/workflow-runs", json=body, headers=headers)
    assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_in_progress")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_revoked_key_is_refused_by_the_other_gateway_within_two_seconds(
    cluster: Cluster, idle_and_busy: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle, busy = idle_and_busy
    key = (await idle.admin.post("/api/v2/api-keys", json={"name": "k", "level": "read"})).json()
    headers = {"Authorization": f"Bearer {key['key']}"}
    assert (await busy.api.get("/api/v2/jobs", headers=headers)).status_code == 200
    assert (await idle.admin.delete(f"/api/v2/api-keys/{key['id']}")).status_code in (200, 204)
    assert (await idle.api.get("/api/v2/jobs", headers=headers)).status_code == 401
    assert auth.KEEP_MS == 2_000
    later_ms = cluster.clock.boot_ms() + auth.KEEP_MS
    monkeypatch.setattr(cluster.clock, "boot_ms", lambda: later_ms)
    assert (await busy.api.get("/api/v2/jobs", headers=headers)).status_code == 401


async def test_the_limit_of_a_key_holds_over_all_gateways(cluster: Cluster) -> None:
    limits = {"rate_per_minute": 60, "rate_burst": 20}
    one, other = await cluster.replica(EVERYTHING, **limits), await cluster.replica((), **limits)
    cluster.clock.stand_still()  # no permit comes back while they ask
    answers = [await replica.api.get("/api/v2/jobs") for replica in (one, other) * 20]
    admitted = sum(answer.status_code == 200 for answer in answers)
    assert 1 <= admitted <= 20
    assert {answer.status_code for answer in answers} == {200, 429}


async def test_definitions_are_made_at_any_gateway(idle_and_busy: tuple[Replica, Replica]) -> None:
    idle, busy = idle_and_busy
    workflow = await a_workflow(idle.api)
    job = await a_job(busy.api, workflow)
    answer = await idle.api.post(f"/api/v2/jobs/{job}/run")
    assert answer.status_code == 201, answer.text
    renamed = await idle.api.patch(f"/api/v2/jobs/{job}", json={"name": "other"})
    assert renamed.status_code == 200, renamed.text
    assert (await busy.api.get(f"/api/v2/jobs/{job}")).json()["name"] == "other"
