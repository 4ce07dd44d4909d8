"""What the log on Kafka does beyond the port: hints, refusals, and partitions that come and go from its polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from kernel.clock import SystemClock
from kernel.errors import LogRefused, UnknownOutcome
from kernel.log.kafka import following
from kernel.log.kafka import log as kafka_log
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.topics import admin, in_sync_min
from tests.support.components import kafka_nodes, needs_kafka
from tests.support.eventually import until
from tests.support.kafka_topics import KafkaTopics, topics_of_a_test
from tests.support.logs import TOPICS, keys, record

pytestmark = needs_kafka


@pytest.fixture
async def topics() -> AsyncIterator[KafkaTopics]:
    async with topics_of_a_test(TOPICS) as made:
        yield made


@pytest.fixture
async def log(topics: KafkaTopics) -> AsyncIterator[KafkaLog]:
    opened = await KafkaLog.open(topics.settings, SystemClock(), topics=TOPICS)
    yield opened
    await opened.close()


async def test_a_hint_is_found_by_another_process_and_there_is_none_before(topics: KafkaTopics, log: KafkaLog) -> None:
    hint = log.snapshot_hint()
    assert await hint.get("ledger", 1) is None
    async with asyncio.timeout(60):  # a broker takes its time to coordinate its first group
        while await hint.get("ledger", 1) != 7:
            await hint.set("ledger", 1, 7)
    await hint.set("ledger", 1, 42)
    other = await KafkaLog.open(topics.settings, SystemClock(), topics=TOPICS)
    assert await other.snapshot_hint().get("ledger", 1) == 42
    assert await other.snapshot_hint().get("ledger", 0) is None
    await other.close()
    assert await other.snapshot_hint().get("ledger", 1) is None, "nobody tells after the end"


async def test_a_reader_without_haste_gets_everything_once_enough_has_come_or_a_second_is_over(
    topics: KafkaTopics, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_MS", 30_000)
    patient = await KafkaLog.open(replace(topics.settings, poll_bytes=40_000), SystemClock(), topics=TOPICS)
    waiting = asyncio.create_task(patient.read("facts", 0, 0, wait_seconds=60))
    await until(lambda: bool(patient._follower._followed))
    small = [record("a"), record("b")]
    for one in small:
        await log.append([one])
    assert await log.read("facts", 0, 0, wait_seconds=20), "whoever is in a hurry has it"
    assert not waiting.done()
    await log.append([record("c", value=b"c" * 50_000)])
    assert [stored.record.key for stored in await waiting] == ["a", "b", "c"]
    await patient.close()


async def test_records_have_as_many_copies_as_the_nodes_can_keep(topics: KafkaTopics) -> None:
    """What the suites stand on, where they are told to run on three nodes."""
    name = topics.settings.broker_topic("facts")
    async with admin(topics.settings) as connection:
        (described,) = await connection.describe_topics([name])
        (answer,) = await connection.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((*_, configuration),) = answer.resources
    copies = min(3, kafka_nodes())
    assert [len(partition["replicas"]) for partition in described["partitions"]] == [copies] * TOPICS["facts"]
    assert ("min.insync.replicas", str(in_sync_min(copies))) in [entry[:2] for entry in configuration]


async def test_a_log_without_its_topics_is_refused(topics: KafkaTopics) -> None:
    with pytest.raises(LogRefused, match=r"missing; create them first: t\w+\.elsewhere\.g1"):
        await KafkaLog.open(topics.settings, SystemClock(), topics=[*TOPICS, "elsewhere"])


async def test_a_recreated_topic_is_noticed_though_nobody_uses_it(
    topics: KafkaTopics, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_log, "_LOOK_SECONDS", 0.05)
    watching = asyncio.create_task(log.watch_topics())
    await log.append([record("a")])
    assert not watching.done()
    await topics.recreate({"ledger": TOPICS["ledger"]})
    with pytest.raises(LogRefused, match=r"ledger.* was recreated"):
        await asyncio.wait_for(watching, 20)


async def test_nothing_is_appended_to_a_recreated_topic_nor_read_on_in_it(topics: KafkaTopics, log: KafkaLog) -> None:
    await log.append([record("old"), record("kept", topic="ledger")])
    waiting = asyncio.create_task(log.read("facts", 0, 1, wait_seconds=60))
    await until(lambda: log._follower._followed)
    await topics.recreate({"facts": TOPICS["facts"]})
    with pytest.raises(LogRefused, match="recreated"):
        await log.append([record("new")])
    with pytest.raises(LogRefused):
        await waiting
    with pytest.raises(LogRefused, match="recreated"):
        await log.read("facts", 0, 1)
    assert await log.end_offset("facts", 0) == 0
    await log.append([record("more", topic="ledger")])


async def test_what_a_topic_was_made_to_compress_is_refused_with_its_place(topics: KafkaTopics, log: KafkaLog) -> None:
    await log.append([record("plain")])
    name = topics.settings.broker_topic("facts")
    async with admin(topics.settings) as connection:
        compressed = ConfigResource(ConfigResourceType.TOPIC, name, configs={"compression.type": "lz4"})
        await connection.alter_configs([compressed])
    with pytest.raises(LogRefused, match=r"facts/0 at offset \d+ cannot be read"):
        await _append_and_read(log)


async def _append_and_read(log: KafkaLog) -> None:
    """Over and over: the broker takes its time to follow its configuration."""
    async with asyncio.timeout(20):
        while True:
            (position,) = await log.append([record("compressed")])
            await log.read("facts", 0, position.offset)


async def test_a_poll_that_breaks_is_told_and_its_readers_are_served_by_the_next(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await until(lambda: log._follower._followed)
    broke = 0

    def breaks(*arguments: Any) -> Any:
        nonlocal broke
        broke += 1
        monkeypatch.undo()
        raise RuntimeError("by a fault of ours")

    monkeypatch.setattr(following, "stored_records", breaks)
    await log.append([record("a")])
    assert [stored.record.key for stored in await asyncio.wait_for(reader, 20)] == ["a"]
    assert broke == 1


async def test_an_append_whose_sending_breaks_has_an_unknown_outcome_and_the_next_one_lands(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: Any) -> Any:
        monkeypatch.undo()
        raise RuntimeError("by a fault of ours")

    monkeypatch.setattr(log._sender, "_landed", breaks)
    with pytest.raises(UnknownOutcome):
        await asyncio.wait_for(log.append([record("a")]), 20)
    await log.append([record("b")])
    assert [stored.record.key for stored in await log.read("facts", 0, 0)] == ["a", "b"]


async def test_many_partitions_are_followed_by_one_poll_of_each_broker(topics: KafkaTopics, log: KafkaLog) -> None:
    places = [("facts", partition) for partition in range(4)] + [("ledger", 0), ("ledger", 1)]

    def polled() -> list[list[int]]:
        """How many partitions each poll covers, broker by broker."""
        lanes = log._follower._lanes.values()
        return [[len(lane.streams) for lane in brokers if lane.streams] for brokers in lanes]

    readers = [asyncio.create_task(log.read(*place, 0, wait_seconds=60)) for place in places]
    await until(lambda: len(log._follower._followed) == len(places))
    await log.append([record("a", partition=2)])
    assert [stored.record.key for stored in await readers[2]] == ["a"]
    await until(lambda: all(len(polls) == 1 for polls in polled()) and sum(map(sum, polled())) == len(places))
    await log.append([record("b", topic=topic, partition=partition) for topic, partition in places])
    for place, reader in zip(places, readers, strict=True):
        assert [stored.record.key for stored in await reader][:1] == ["a" if place == ("facts", 2) else "b"]
    assert [stored.record.key for stored in await log.read("facts", 2, 1, wait_seconds=60)] == ["b"]


async def test_a_partition_that_nobody_reads_is_let_go(
    topics: KafkaTopics, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(following, "_SWEEP_SECONDS", 0.01)
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    waiting = asyncio.create_task(log.read("facts", 1, 0, wait_seconds=60))
    await until(lambda: len(log._follower._followed) == 2)
    await log.append([record("a")])
    await reader
    await until(lambda: len(log._follower._followed) == 1)
    await log.append([record("b"), record("c", partition=1)])
    assert [stored.record.key for stored in await waiting] == ["c"]
    assert await keys(log) == ["a", "b"]


async def test_what_is_not_read_is_not_fetched_without_end(
    topics: KafkaTopics, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ROOM_BYTES", 20_000)
    monkeypatch.setattr(following, "KEPT_BYTES", 10_000)
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await until(lambda: log._follower._followed)
    await log.append([record("0", b"x" * 1000)])
    assert len(await reader) == 1
    (followed,) = log._follower._followed.values()
    for number in range(1, 100):
        await log.append([record(str(number), b"x" * 1000)])
    await until(lambda: followed.lane is None)
    assert followed.bytes_kept < 60_000
    found = ["0"]
    while len(found) < 100:
        found += [stored.record.key for stored in await log.read("facts", 0, len(found), wait_seconds=60)]
        assert followed.bytes_kept < 60_000
    assert found == [str(number) for number in range(100)]
    slow = [stored.record.key for stored in await log.read("facts", 0, 10, max_records=5, wait_seconds=60)]
    assert slow == ["10", "11", "12", "13", "14"]


async def test_a_reader_that_is_past_what_nobody_read_is_served_as_records_come(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ROOM_BYTES", 5_000)
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await until(lambda: log._follower._followed)
    (followed,) = log._follower._followed.values()
    for number in range(20):
        await log.append([record(str(number), b"x" * 1000)])
    assert (await reader)[0].record.key == "0"
    await until(lambda: followed.lane is None)
    assert followed.next < 20
    slow = asyncio.create_task(log.read("facts", 0, 19, wait_seconds=60))
    ahead = asyncio.create_task(log.read("facts", 0, 20, wait_seconds=60))
    assert [stored.record.key for stored in await asyncio.wait_for(slow, 20)] == ["19"]
    await log.append([record("new")])
    assert [stored.record.key for stored in await asyncio.wait_for(ahead, 20)] == ["new"]


async def test_a_reader_before_the_first_record_of_an_empty_partition_waits_for_the_next(log: KafkaLog) -> None:
    await log.append([record("deleted")])
    await log.delete_before("facts", 0, 1)
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await until(lambda: reader.done() or any(followed.waiting for followed in log._follower._followed.values()))
    await log.append([record("next")])
    assert [stored.record.key for stored in await asyncio.wait_for(reader, 20)] == ["next"]


async def test_what_others_write_in_transactions_is_read_when_it_is_committed_and_leaves_gaps(
    topics: KafkaTopics, log: KafkaLog
) -> None:
    name = topics.settings.broker_topic("facts")
    reader = asyncio.create_task(_follow_to(log, "last"))
    await until(lambda: log._follower._followed)
    foreign = AIOKafkaProducer(bootstrap_servers=topics.settings.bootstrap, transactional_id=topics.settings.prefix)
    await foreign.start()
    for key, commits in (("committed", True), ("aborted", False), ("committed too", True)):
        await foreign.begin_transaction()
        await foreign.send_and_wait(name, b"\xff", key.encode(), partition=0, headers=[("h", b"\xff"), ("n", None)])
        await (foreign.commit_transaction() if commits else foreign.abort_transaction())
    await foreign.stop()
    async with asyncio.timeout(20):
        while await log.end_offset("facts", 0) != 6:  # noqa: ASYNC110 (a commit is confirmed before its mark stands)
            await asyncio.sleep(0.01)
    assert [await log.next_offset("facts", 0, at) for at in (0, 1, 4, 5, 6)] == [0, 4, 4, 6, 6]
    await log.append([record("last")])
    assert await reader == [(0, "committed"), (4, "committed too"), (6, "last")]
    log._follower._followed.clear()
    fetched = await log.read("facts", 0, 1)
    assert [(stored.offset, stored.record.key) for stored in fetched] == [(4, "committed too"), (6, "last")]
    assert fetched[0].record.headers == (("h", "\N{REPLACEMENT CHARACTER}"), ("n", ""))


async def _follow_to(log: KafkaLog, key: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    while not found or found[-1][1] != key:
        offset = found[-1][0] + 1 if found else 0
        found += [(stored.offset, stored.record.key) for stored in await log.read("facts", 0, offset, wait_seconds=60)]
    return found
