"""What every log promises. An implementation joins by its name in `tests.support.logs.IMPLEMENTATIONS`.

The log in memory keeps the same promises: else what the simulator proves would not be about the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.log.limits import BATCH_BYTES_MAX, RECORD_BYTES_MAX
from kernel.log.port import EventLog, Position, Record
from tests.support.doubles.log_under_test import memory
from tests.support.logs import IMPLEMENTATIONS, TOPICS, LogUnderTest, keys, record

LOGS = {**IMPLEMENTATIONS, "memory": memory}


@pytest.fixture(params=sorted(LOGS))
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogUnderTest]:
    async with LOGS[request.param](tmp_path) as under_test:
        yield under_test


@pytest.fixture
async def log(cluster: LogUnderTest) -> EventLog:
    return await cluster.open()


async def test_a_record_is_read_as_it_was_appended(log: EventLog) -> None:
    written = record("run-1", bytes(range(256)), partition=3)
    assert await log.append([written]) == [Position("facts", 3, 0)]
    (stored,) = await log.read("facts", 3, 0)
    assert stored.record == written
    assert stored.offset == 0
    assert stored.appended_ms > 0


async def test_appends_of_one_task_are_read_in_their_order(log: EventLog) -> None:
    await asyncio.gather(*(log.append([record(f"{n}a"), record(f"{n}b")]) for n in range(200)))
    assert await keys(log) == [f"{n}{part}" for n in range(200) for part in "ab"]


async def test_positions_come_in_the_order_of_the_call_and_count_up_per_partition(log: EventLog) -> None:
    await log.append([record("before", partition=1)])
    mixed = [record("a"), record("b", partition=1), record("c"), record("d", topic="ledger"), record("e", partition=1)]
    assert await log.append(mixed) == [
        Position("facts", 0, 0),
        Position("facts", 1, 1),
        Position("facts", 0, 1),
        Position("ledger", 0, 0),
        Position("facts", 1, 2),
    ]


async def test_an_empty_append_writes_nothing(log: EventLog) -> None:
    assert await log.append([]) == []
    assert await log.end_offset("facts", 0) == 0


async def test_a_batch_is_never_seen_in_part(log: EventLog) -> None:
    async def follow() -> None:
        seen = 0
        while seen < 500:
            found = await log.read("facts", 0, seen, max_records=1000, wait_seconds=60)
            seen += len(found)
            assert seen % 5 == 0

    reader = asyncio.create_task(follow())
    await asyncio.gather(*(log.append([record(f"{n}.{part}") for part in range(5)]) for n in range(100)))
    await reader


async def test_batches_of_concurrent_appenders_do_not_mingle(log: EventLog) -> None:
    async def appender(name: str) -> None:
        for turn in range(20):
            await log.append([record(f"{name} {turn} {part}") for part in range(3)])

    await asyncio.gather(*(appender(f"w{n}") for n in range(10)))
    found = await keys(log)
    assert len(found) == 600
    batches = [found[place : place + 3] for place in range(0, 600, 3)]
    assert all(batch == [f"{batch[0][:-2]} {part}" for part in range(3)] for batch in batches)
    for n in range(10):
        turns = [int(batch[0].split()[1]) for batch in batches if batch[0].startswith(f"w{n} ")]
        assert turns == list(range(20))


async def test_what_was_appended_stands_after_a_restart(cluster: LogUnderTest) -> None:
    log = await cluster.open()
    await log.append([record(f"k{n}", partition=n % 4) for n in range(40)])
    again = await cluster.open()
    assert await keys(again, partition=2) == [f"k{n}" for n in range(2, 40, 4)]
    assert await again.end_offset("facts", 2) == 10
    assert await again.append([record("next", partition=2)]) == [Position("facts", 2, 10)]
    assert await keys(again, partition=2, offset=9) == ["k38", "next"]


async def test_a_read_begins_at_its_offset_and_keeps_to_its_limit(log: EventLog) -> None:
    await log.append([record(f"k{n}") for n in range(10)])
    found = await log.read("facts", 0, 3, max_records=4)
    assert [(stored.offset, stored.record.key) for stored in found] == [(n, f"k{n}") for n in range(3, 7)]
    assert await log.read("facts", 0, 10) == []
    assert await log.read("facts", 0, 99) == []


async def test_a_long_history_is_read_from_its_first_record(log: EventLog) -> None:
    for begin in range(0, 3000, 300):
        await log.append([record(f"k{n}") for n in range(begin, begin + 300)])
    assert await keys(log) == [f"k{n}" for n in range(3000)]


async def test_a_waiting_reader_is_woken_by_an_append(log: EventLog) -> None:
    readers = [asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60)) for _ in range(3)]
    other = asyncio.create_task(log.read("facts", 1, 0, wait_seconds=60))
    await asyncio.sleep(0)
    await log.append([record("news")])
    for found in await asyncio.gather(*readers):
        assert [stored.record.key for stored in found] == ["news"]
    assert not other.done()
    other.cancel()


async def test_a_reader_ahead_of_the_end_waits_for_its_own_offset(log: EventLog) -> None:
    reader = asyncio.create_task(log.read("facts", 0, 1, wait_seconds=60))
    await asyncio.sleep(0)
    await log.append([record("first")])
    assert not reader.done()
    await log.append([record("second")])
    assert [stored.record.key for stored in await reader] == ["second"]


async def test_a_waiting_reader_goes_home_empty_when_its_time_is_over(log: EventLog, cluster: LogUnderTest) -> None:
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await cluster.clock.pass_time(60_000)
    assert await reader == []


async def test_a_cancelled_reader_leaves_the_log_unharmed(log: EventLog) -> None:
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await log.append([record("news")])
    assert await keys(log) == ["news"]


async def test_the_end_moves_with_each_append_and_each_partition_has_its_own(log: EventLog) -> None:
    assert await log.end_offset("facts", 0) == 0
    await log.append([record("a"), record("b"), record("c", partition=1)])
    assert [await log.end_offset("facts", partition) for partition in range(4)] == [2, 1, 0, 0]
    assert await log.start_offset("facts", 0) == 0


async def test_deleted_records_are_gone_and_the_rest_keep_their_offsets(cluster: LogUnderTest) -> None:
    log = await cluster.open()
    for n in range(20):
        await log.append([record(f"k{n}"), record(f"k{n}", partition=1)])
    await log.delete_before("facts", 0, 15)
    await log.delete_before("facts", 0, 15)
    await log.delete_before("facts", 0, 3)
    for _ in ("before and", "after a restart"):
        assert await log.start_offset("facts", 0) == 15
        assert [await log.next_offset("facts", 0, at) for at in (0, 14, 15, 20)] == [15, 15, 15, 20]
        assert await log.end_offset("facts", 0) == 20
        found = await log.read("facts", 0, 2)
        assert [(stored.offset, stored.record.key) for stored in found] == [(n, f"k{n}") for n in range(15, 20)]
        assert len(await keys(log, partition=1)) == 20
        log = await cluster.open()


async def test_a_partition_that_was_emptied_goes_on_counting(cluster: LogUnderTest) -> None:
    log = await cluster.open()
    await log.append([record("a"), record("b")])
    await log.delete_before("facts", 0, 99)
    again = await cluster.open()
    assert await again.start_offset("facts", 0) == 2
    assert await again.end_offset("facts", 0) == 2
    assert await again.read("facts", 0, 0) == []
    assert await again.append([record("c")]) == [Position("facts", 0, 2)]
    assert await keys(again) == ["c"]


async def test_a_topic_keeps_its_id_until_it_is_recreated(cluster: LogUnderTest) -> None:
    log = await cluster.open()
    first = await log.topic_id("facts")
    assert first != await log.topic_id("ledger")
    log = await cluster.open()
    assert await log.topic_id("facts") == first
    await log.append([record("old"), record("kept", topic="ledger")])
    await cluster.recreate("facts")
    for _ in ("before and", "after a restart"):
        assert await log.topic_id("facts") != first
        assert await log.end_offset("facts", 0) == 0
        assert await keys(log) == []
        assert await keys(log, topic="ledger") == ["kept"]
        log = await cluster.open()


async def test_the_confirmed_end_has_everything_below_it_that_was_acknowledged_before(log: EventLog) -> None:
    assert await log.confirmed_end("facts", 0) == 0
    await log.append([record("a"), record("b"), record("c", partition=1)])
    assert [await log.confirmed_end("facts", partition) for partition in range(3)] == [2, 1, 0]


async def test_an_unknown_topic_or_partition_is_a_key_error(log: EventLog) -> None:
    assert {topic: log.partitions(topic) for topic in TOPICS} == dict(TOPICS)
    with pytest.raises(KeyError):
        log.partitions("nowhere")
    for stray in (record("a", topic="nowhere"), record("a", partition=4), record("a", partition=-1)):
        with pytest.raises(KeyError):
            await log.append([record("good"), stray])
        with pytest.raises(KeyError):
            await log.read(stray.topic, stray.partition, 0)
    assert await log.end_offset("facts", 0) == 0


@pytest.mark.parametrize(
    "records",
    [
        [record("a", b"x" * RECORD_BYTES_MAX)],
        [record(f"k{n}", b"x" * 60_000) for n in range(BATCH_BYTES_MAX // 60_000 + 1)],
        [Record("facts", 0, "\ud800", (), b"")],
    ],
    ids=["a record over 64 KiB", "a batch over 1 MiB", "text that is no UTF-8"],
)
async def test_what_is_too_big_or_unwritable_is_refused_whole(log: EventLog, records: list[Record]) -> None:
    with pytest.raises(ValueError, match=r"over|surrogates"):
        await log.append([record("good"), *records])
    assert await log.end_offset("facts", 0) == 0


async def test_the_biggest_append_allowed_is_taken(log: EventLog) -> None:
    batch = [record(f"k{n}", b"x" * 65_000, partition=n % 2) for n in range(32)]
    await log.append(batch)
    found = [stored.record for stored in await log.read("facts", 1, 0)]
    assert found == batch[1::2]


async def test_closing_lets_waiting_readers_go_and_may_be_done_twice(log: EventLog) -> None:
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    await asyncio.sleep(0)
    await log.close()
    await log.close()
    await asyncio.wait([reader])
    assert reader.exception() is not None or reader.result() == []
