"""A log that is slow to acknowledge: callers are told to come again, and what was accepted is there once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from api_gateway.commit_limits import CommitLimit
from kernel.clock import SystemClock
from kernel.log.kafka.log import KafkaLog
from kernel.log.topics import TOPICS, Topic
from tests.support.components import needs_kafka, needs_postgres
from tests.support.eventually import PATIENCE_SECONDS, until
from tests.support.gateways import a_workflow
from tests.support.kafka_topics import topics_of_a_test
from tests.support.proxied_kafka import proxied_kafka, proxy
from tests.support.replicas import Cluster, Replica, cluster_over
from tests.support.tcp_proxy import TcpProxy

pytestmark = [needs_kafka, needs_postgres]
__all__ = ["proxied_kafka", "proxy"]
ONE_EACH = {topic.value: 1 for topic in TOPICS}
CALLERS, ROOM = 60, 20
PAUSE_SECONDS = 2.5
"""Longer than an acknowledgement should take, shorter than what a client of the broker waits for an answer."""


@pytest.fixture
async def cluster(proxy: TcpProxy, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with topics_of_a_test(ONE_EACH, f"127.0.0.1:{proxy.port}") as topics:

        async def open_log() -> KafkaLog:
            return await KafkaLog.open(topics.settings, SystemClock(), topics=ONE_EACH)

        async with cluster_over(open_log, tmp_path) as one:
            yield one


class Caller:
    """Asks for one run under one key until it has it, as a careful client does."""

    def __init__(self, api: httpx.AsyncClient, workflow: str, number: int) -> None:
        self.answers: list[httpx.Response] = []
        self._api, self._workflow, self._key = api, workflow, f"caller-{number}"

    async def run(self) -> str:
        while True:
            answer = await self._api.post(
                "/api/v2/workflow-runs", json={"workflowId": self._workflow}, headers={"Idempotency-Key": self._key}
            )
            self.answers.append(answer)
            if answer.status_code == 201:
                run: str = answer.json()["id"]
                return run
            assert answer.status_code in {409, 429, 503}, answer.text
            await asyncio.sleep(float(answer.headers["retry-after"]))


def limit_of(replica: Replica) -> CommitLimit:
    limit: CommitLimit = replica.app.state.gateway.commands.asker.commits.limit(Topic.RUN_REQUESTS, 0)
    return limit


async def test_beyond_what_a_slow_log_takes_callers_come_again_and_each_gets_one_run(
    cluster: Cluster, proxy: TcpProxy
) -> None:
    replica = await cluster.replica((0,))
    workflow, limit = await a_workflow(replica.api), limit_of(replica)
    limit.most = ROOM  # as after some seconds of being slow
    callers = [Caller(replica.api, workflow, number) for number in range(CALLERS)]
    proxy.pause()
    asking = [asyncio.create_task(caller.run()) for caller in callers]
    await until(lambda: limit.in_flight == ROOM and sum(bool(caller.answers) for caller in callers) == CALLERS - ROOM)
    refused = [answer for caller in callers for answer in caller.answers]
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(429, "1")}
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limited"}
    assert b'appends_refused_total{topic="run_requests"}' in replica.services.metrics.text()
    await asyncio.sleep(PAUSE_SECONDS)
    assert limit.in_flight <= ROOM
    assert limit.most < ROOM, "silence alone has made it less"
    proxy.resume()
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        runs = await asyncio.gather(*asking)
    assert len(set(runs)) == CALLERS
    log = replica.services.log
    assert await log.end_offset(Topic.RUN_REQUESTS, 0) == CALLERS, "each was accepted once, and a refused one never"
    for run in runs:
        assert (await replica.api.get(f"/api/v2/workflow-runs/{run}")).status_code == 200
    async with asyncio.timeout(PATIENCE_SECONDS):
        for number in count(CALLERS):  # it recovers by itself, by what is acknowledged in time
            await Caller(replica.api, workflow, number).run()
            if limit.most > ROOM:
                break
    assert limit.in_flight == 0
