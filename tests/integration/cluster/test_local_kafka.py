"""The local broker: what was acknowledged survives kills, and a cluster of three goes on without one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from cluster.components.kafka import LocalKafka
from tests.support.components import needs_kafka

pytestmark = needs_kafka
START_SECONDS = 60.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    with LocalKafka(tmp_path) as started:
        yield started
        started.kill()


async def create(kafka: LocalKafka, topic: str, replicas: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, replicas)])
    finally:
        await admin.close()


async def send(kafka: LocalKafka, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def read(kafka: LocalKafka, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [bytes((await consumer.getone()).value or b"") for _ in range(count)]


async def test_what_was_acknowledged_is_there_after_a_kill_and_a_start(broker: LocalKafka) -> None:
    await create(broker, "orders")
    await send(broker, "orders", b"1", b"2")
    bootstrap = broker.bootstrap

    broker.kill()
    broker.start()

    assert broker.bootstrap == bootstrap
    await send(broker, "orders", b"3")
    assert await read(broker, "orders", 3) == [b"1", b"2", b"3"]


async def test_a_folder_is_kept_from_one_cluster_to_the_next(tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as first:
        await create(first, "orders")
        await send(first, "orders", b"1")

    with LocalKafka(tmp_path) as second:
        assert second.bootstrap == first.bootstrap
        assert await read(second, "orders", 1) == [b"1"]


async def test_topics_are_not_created_by_asking_for_them(broker: LocalKafka) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=5000) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("never_made", b"1")


async def test_a_paused_broker_answers_nobody_until_it_is_resumed(broker: LocalKafka) -> None:
    await create(broker, "orders")
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
        await producer.send_and_wait("orders", b"1", partition=0)
        broker.pause()
        waiting = asyncio.ensure_future(producer.send_and_wait("orders", b"2", partition=0))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        broker.resume()
        await waiting


async def test_three_nodes_go_on_when_one_is_killed_and_take_it_back(tmp_path: Path) -> None:
    with LocalKafka(tmp_path, nodes=3) as kafka:
        try:
            await create(kafka, "orders", replicas=3)
            await send(kafka, "orders", b"1")
            kafka.kill(2)
            assert set(kafka.pids) == {1, 3}
            await send(kafka, "orders", b"2")
            kafka.start(2)
            assert set(kafka.pids) == {1, 2, 3}
            assert await read(kafka, "orders", 2) == [b"1", b"2"]
        finally:
            kafka.kill()


def test_an_ended_broker_leaves_no_process_behind(tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as kafka:
        [pid] = kafka.pids.values()

    assert kafka.pids == {}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_node_that_cannot_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    kafka = LocalKafka(tmp_path)
    (tmp_path / "node-1").mkdir()
    (tmp_path / "node-1" / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=7\n")
    began = time.monotonic()

    with pytest.raises(Exception, match=r"(?s)Kafka node 1 ended by itself.*node-1\.log"):
        kafka.start()

    assert time.monotonic() - began < START_SECONDS, "it is not waited for"
