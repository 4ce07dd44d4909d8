"""Three brokers, three replicas, two in sync: one of them is killed, or stops, under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from cluster.components.kafka import LocalKafka
from kernel.clock import SystemClock
from kernel.log.kafka.hint import KafkaHint
from kernel.log.kafka.log import KafkaLog
from tests.support.components import needs_kafka
from tests.support.eventually import until
from tests.support.kafka_load import append_batches, check_batches, follow
from tests.support.kafka_topics import topics_of_a_test
from tests.support.logs import TOPICS, record

pytestmark = needs_kafka

BATCHES = 250


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), nodes=3)
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.kill()


@pytest.fixture
async def log(cluster: LocalKafka) -> AsyncIterator[KafkaLog]:
    await asyncio.to_thread(cluster.start)
    async with topics_of_a_test(TOPICS, cluster.bootstrap, replication=3) as topics:
        opened = await KafkaLog.open(replace(topics.settings, append_seconds=30), SystemClock(), topics=TOPICS)
        yield opened
        await opened.close()


def leader(log: KafkaLog) -> int:
    node = log._brokers.leader((log._names["facts"], 0))
    assert node is not None
    return node


async def disturbed(log: KafkaLog) -> tuple[asyncio.Task[list[str]], asyncio.Task[list[str]]]:
    """Load and a reader, well on their way."""
    load = asyncio.create_task(append_batches(log, BATCHES, pause_seconds=0.01))
    reader = asyncio.create_task(follow(log, BATCHES * 3))
    await until(lambda: log._sender._partitions and min(p.end for p in log._sender._partitions.values()) > 30)
    return load, reader


async def finish(log: KafkaLog, load: asyncio.Task[list[str]], reader: asyncio.Task[list[str]]) -> None:
    assert await asyncio.wait_for(load, 60) == []
    await check_batches(log, BATCHES)
    assert await asyncio.wait_for(reader, 60) == [f"{number}.{part}" for number in range(BATCHES) for part in range(3)]


async def test_the_leader_is_killed_under_load(cluster: LocalKafka, log: KafkaLog) -> None:
    load, reader = await disturbed(log)
    killed = leader(log)
    await asyncio.to_thread(cluster.kill, killed)
    await finish(log, load, reader)
    assert leader(log) != killed


async def test_the_leader_stops_under_load_and_goes_on_later(cluster: LocalKafka, log: KafkaLog) -> None:
    load, reader = await disturbed(log)
    stopped = leader(log)
    cluster.pause(stopped)
    try:
        await until(lambda: leader(log) != stopped, 60)
    finally:
        cluster.resume(stopped)
    await finish(log, load, reader)


async def test_followers_stay_with_a_partition_whose_leader_moves_and_do_not_spin(
    cluster: LocalKafka, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is stopped in order hands its leadership on; its polls answer that it leads no more."""
    readers = [asyncio.create_task(log.read("facts", partition, 0, wait_seconds=60)) for partition in range(4)]
    await until(lambda: len(log._follower._followed) == 4)
    moved = leader(log)
    await asyncio.to_thread(cluster.stop, moved)
    await until(lambda: leader(log) != moved, 60)
    asked = 0

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await asking(*arguments)

    asking = log._brokers.ask
    monkeypatch.setattr(log._brokers, "ask", counted)
    await asyncio.sleep(2.5)
    assert asked < 60, "polls of a second each, by three lanes at most"
    await log.append([record("news", partition=partition) for partition in range(4)])
    for reader in readers:
        assert [stored.record.key for stored in await reader] == ["news"]


async def test_a_hint_is_found_again_when_another_broker_coordinates_its_group(
    cluster: LocalKafka, log: KafkaLog
) -> None:
    hint = log.snapshot_hint()
    await _keep(hint, 7)
    for start, node in enumerate(log._brokers.nodes(), 8):
        hint._coordinator = node  # what it knows is old: two of three do not coordinate
        await _find(hint, start - 1)
        hint._coordinator = node
        await _keep(hint, start)


async def _keep(hint: KafkaHint, start: int) -> None:
    async with asyncio.timeout(30):
        while await hint.get("facts", 1) != start:
            await hint.set("facts", 1, start)


async def _find(hint: KafkaHint, start: int) -> None:
    async with asyncio.timeout(10):
        while await hint.get("facts", 1) != start:
            pass
