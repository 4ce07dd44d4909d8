"""Records are put back at the offsets and with the times that they had; what stood before them is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from kernel.clock import SystemClock
from kernel.errors import LogRefused
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.refilling import refilling
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import admin
from kernel.log.port import Record, Stored
from kernel.log.topics import Topic
from tests.support.components import kafka_bootstrap, needs_kafka, unique_name
from tests.support.kafka_topics import KafkaTopics

pytestmark = needs_kafka
TOPICS = {Topic.JOB_RUNS.value: 2}
YESTERDAY_MS = 1_700_000_000_000


@pytest.fixture
async def settings() -> AsyncIterator[KafkaSettings]:
    topics = KafkaTopics(KafkaSettings(kafka_bootstrap(), unique_name()))
    yield topics.settings
    await topics.delete(TOPICS)


def kept(offset: int, size: int = 10) -> Stored:
    """One record as a backup holds it."""
    record = Record(Topic.JOB_RUNS, 1, f"run-{offset}", (("ce_id", f"id-{offset}"),), b"v" * size)
    return Stored(record, offset, YESTERDAY_MS + offset)


async def batches_of(*batches: Sequence[Stored]) -> AsyncIterator[Sequence[Stored]]:
    for batch in batches:
        yield batch


async def test_records_stand_where_they_stood_and_the_topic_is_as_any_other_afterwards(
    settings: KafkaSettings,
) -> None:
    start = 25_003
    records = [kept(start + number, 60_000 if number % 7 == 0 else 10) for number in range(300)]
    async with refilling(settings, SystemClock(), TOPICS) as refiller:
        assert await refiller.fill(Topic.JOB_RUNS, 1, start, batches_of(records[:200], records[200:])) == start + 300
        assert await refiller.fill(Topic.JOB_RUNS, 0, 0, batches_of()) == 0
    log = await KafkaLog.open(settings, SystemClock(), topics=tuple(TOPICS))
    try:
        assert await log.start_offset(Topic.JOB_RUNS, 1) == start
        assert await log.end_offset(Topic.JOB_RUNS, 1) == start + 300
        found: list[Stored] = []
        while batch := await log.read(Topic.JOB_RUNS, 1, start + len(found)):
            found += batch
        assert found == records
        (position,) = await log.append([Record(Topic.JOB_RUNS, 1, "new", (), b"new")])
        assert position.offset == start + 300
        (fresh,) = await log.read(Topic.JOB_RUNS, 1, position.offset)
        assert fresh.appended_ms > YESTERDAY_MS + 10**9, "the broker's clock counts again"
    finally:
        await log.close()


async def test_a_partition_that_ended_empty_is_empty_again_at_its_end(settings: KafkaSettings) -> None:
    async with refilling(settings, SystemClock(), TOPICS) as refiller:
        assert await refiller.fill(Topic.JOB_RUNS, 0, 12, batches_of()) == 12
        assert await refiller.log.read(Topic.JOB_RUNS, 0, 0) == []
        assert await refiller.log.end_offset(Topic.JOB_RUNS, 0) == 12


async def test_a_gap_between_records_is_refused(settings: KafkaSettings) -> None:
    async with refilling(settings, SystemClock(), TOPICS) as refiller:
        with pytest.raises(LogRefused, match="offset 3 is missing"):
            await refiller.fill(Topic.JOB_RUNS, 1, 2, batches_of([kept(2), kept(4)]))


async def test_topics_that_exist_are_left_alone(settings: KafkaSettings) -> None:
    async with refilling(settings, SystemClock(), TOPICS):
        pass
    with pytest.raises(LogRefused, match="exist"):
        async with refilling(settings, SystemClock(), TOPICS):
            pass
    async with admin(settings) as connection:
        assert settings.broker_topic(Topic.JOB_RUNS) in await connection.list_topics()
