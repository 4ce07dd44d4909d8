"""The log on Kafka while connections and brokers fail: nothing is lost, doubled or late, and no call waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.components.kafka import LocalKafka
from kernel.clock import SystemClock
from kernel.errors import LogRefused, LogUnavailable, UnknownOutcome
from kernel.log.kafka.log import KafkaLog
from tests.support.components import needs_kafka
from tests.support.eventually import idle, until
from tests.support.kafka_load import append_batches, check_batches, follow
from tests.support.kafka_topics import KafkaTopics, topics_of_a_test
from tests.support.logs import TOPICS, keys, record
from tests.support.proxied_kafka import proxied_kafka, proxy
from tests.support.tcp_proxy import TcpProxy

pytestmark = needs_kafka
__all__ = ["proxied_kafka", "proxy"]


@pytest.fixture
async def topics(proxy: TcpProxy) -> AsyncIterator[KafkaTopics]:
    async with topics_of_a_test(TOPICS, f"127.0.0.1:{proxy.port}") as made:
        yield made


@pytest.fixture
async def log(topics: KafkaTopics) -> AsyncIterator[KafkaLog]:
    async with AsyncExitStack() as opened:
        hasty = replace(topics.settings, request_seconds=0.5, append_seconds=1.5)  # bounds that a test can wait for
        log = await KafkaLog.open(hasty, SystemClock(), topics=TOPICS)
        opened.push_async_callback(log.close)
        yield log


async def test_an_append_whose_answer_is_lost_is_recognized_when_it_is_sent_again(
    proxy: TcpProxy, log: KafkaLog
) -> None:
    await log.append([record("first")])
    proxy.deaf = True
    append = asyncio.create_task(log.append([record("a"), record("b")]))
    sent = proxy.bytes_up
    await until(lambda: proxy.bytes_up > sent + 100)
    await asyncio.sleep(0.1)
    proxy.deaf = False
    proxy.cut()
    assert [position.offset for position in await append] == [1, 2]
    assert await keys(log) == ["first", "a", "b"]


async def test_an_append_that_is_never_answered_has_an_unknown_outcome_in_time(
    proxy: TcpProxy, log: KafkaLog, topics: KafkaTopics
) -> None:
    await log.append([record("first")])
    proxy.deaf = True
    began = time.monotonic()
    with pytest.raises(UnknownOutcome):
        await log.append([record("a")])
    assert time.monotonic() - began < topics.settings.append_seconds, "it has not tried as long as others do"
    proxy.deaf = False
    proxy.cut()
    assert (await log.append([record("b")]))[0].offset == 2
    assert await keys(log) == ["first", "a", "b"], "it had landed, once, however often it was sent"


async def test_an_append_that_is_held_up_does_not_land_behind_a_later_one(proxy: TcpProxy, log: KafkaLog) -> None:
    await log.append([record("first")])
    proxy.hold()
    proxy.refuse = True
    sent = proxy.bytes_up
    with pytest.raises(UnknownOutcome):
        await log.append([record("held up")])
    assert proxy.bytes_up > sent
    proxy.refuse = False
    await log.append([record("claim")])
    proxy.release()
    await asyncio.sleep(0.3)
    await log.append([record("decision")])
    assert await keys(log) == ["first", "claim", "decision"]


async def test_an_append_that_is_held_up_may_land_before_a_later_one_and_only_once(
    proxy: TcpProxy, log: KafkaLog
) -> None:
    await log.append([record("first")])
    proxy.hold()
    proxy.refuse = True
    with pytest.raises(UnknownOutcome):
        await log.append([record("held up")])
    proxy.refuse = False
    proxy.release()
    await asyncio.sleep(0.3)
    await log.append([record("claim")])
    assert await keys(log) == ["first", "held up", "claim"]


async def test_without_a_connection_nothing_is_written_and_the_next_try_is_told_when(
    proxy: TcpProxy, log: KafkaLog
) -> None:
    await log.append([record("first")])
    proxy.refuse = True
    proxy.cut()
    await until(lambda: not proxy.connections)
    await idle()
    with pytest.raises(LogUnavailable):
        await log.append([record("never")])
    for call in (log.read("facts", 0, 0), log.end_offset("facts", 0), log.topic_id("facts")):
        with pytest.raises(LogUnavailable):
            await call
    proxy.refuse = False
    await log.append([record("second")])
    assert await keys(log) == ["first", "second"]


async def test_a_reader_waits_through_cuts_and_silence(proxy: TcpProxy, log: KafkaLog, topics: KafkaTopics) -> None:
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await until(lambda: log._follower._followed)
    proxy.cut()
    await asyncio.sleep(0.05)
    proxy.pause()
    await asyncio.sleep(2)
    proxy.resume()
    await log.append([record("news")])
    assert [stored.record.key for stored in await reader] == ["news"]


async def test_cut_again_and_again_every_acknowledged_batch_stands_once_and_in_order(
    proxy: TcpProxy, topics: KafkaTopics
) -> None:
    log = await KafkaLog.open(topics.settings, SystemClock(), topics=TOPICS)
    load = asyncio.create_task(append_batches(log, 150, pause_seconds=0.005))
    cuts = 0
    while not load.done():
        await asyncio.sleep(0.05)
        proxy.cut()
        cuts += 1
    assert await load == []
    assert cuts > 3
    await check_batches(log, 150)
    await log.close()


async def test_a_broker_that_is_killed_under_load_loses_and_doubles_nothing(
    proxied_kafka: tuple[LocalKafka, int], topics: KafkaTopics
) -> None:
    kafka, _ = proxied_kafka
    log = await KafkaLog.open(replace(topics.settings, append_seconds=30), SystemClock(), topics=TOPICS)
    load = asyncio.create_task(append_batches(log, 300, pause_seconds=0.01))
    reader = asyncio.create_task(follow(log, 300 * 3))
    await until(lambda: log._sender._partitions and min(p.end for p in log._sender._partitions.values()) > 30)
    kafka.kill()
    await asyncio.to_thread(kafka.start)
    assert await load == []
    await check_batches(log, 300)
    assert await asyncio.wait_for(reader, 60) == [f"{number}.{part}" for number in range(300) for part in range(3)]
    await log.close()


async def test_another_cluster_at_the_same_address_is_refused(
    proxy: TcpProxy, log: KafkaLog, tmp_path: Path, topics: KafkaTopics
) -> None:
    await log.append([record("here")])
    first_id = await log.topic_id("facts")
    other = LocalKafka(tmp_path / "other", advertised={1: proxy.port})
    here = proxy.to
    try:
        await asyncio.to_thread(other.start)
        proxy.to = other.ports[1]
        proxy.cut()
        await topics.create(TOPICS)
        with pytest.raises(LogRefused, match="cluster"):
            await log.append([record("there")])
        elsewhere = await KafkaLog.open(topics.settings, SystemClock(), topics=TOPICS)
        assert await elsewhere.topic_id("facts") != first_id
        assert await elsewhere.end_offset("facts", 0) == 0
        await elsewhere.close()
    finally:
        other.kill()
        proxy.to = here
        proxy.cut()
