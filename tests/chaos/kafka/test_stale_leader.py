"""The leader of a partition of `task_reports` is cut off from the other brokers, and not from the runner.

It hears of no election and goes on answering the runner with the end that it knows, while a lapse is acknowledged
under its successor. The fence must be shut F after that at the latest, whoever else the runner still reaches. Whoever
waits for records there must hear of the successor, though nothing fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from kernel.clock import SystemClock
from kernel.domain.decider import Event
from kernel.errors import LogUnavailable
from kernel.fence import Fence
from kernel.log.codec import decode, encode
from kernel.log.envelope import Envelope
from kernel.log.kafka.brokers import Unreached
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.wire import Code, EndRequest, end_of
from kernel.log.port import Position
from kernel.log.topics import Topic
from tests.support.components import needs_kafka
from tests.support.eventually import idle, until
from tests.support.kafka_topics import KafkaTopics, topics_of_a_test
from tests.support.reports import FIRST, ROOT, RUN, SECOND, assigned, lapsed
from tests.support.split_kafka import SplitKafka

pytestmark = needs_kafka

WINDOW_SECONDS = 2.0
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitKafka]:
    with SplitKafka(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture
async def topics(split: SplitKafka) -> AsyncIterator[KafkaTopics]:
    async with topics_of_a_test({Topic.TASK_REPORTS: 1}, split.kafka.bootstrap, replication=3) as made:
        yield made
        split.heal()
        await asyncio.to_thread(split.kafka.start)  # waits until whoever was cut off is among the others again


@pytest.fixture
async def logs(topics: KafkaTopics) -> AsyncIterator[tuple[KafkaLog, KafkaLog]]:
    """As the runner reaches it, and as the deciders do."""
    settings = replace(topics.settings, append_seconds=30)
    opened = [await KafkaLog.open(settings, CLOCK, topics=(Topic.TASK_REPORTS,)) for _ in range(2)]
    yield opened[0], opened[1]
    for log in opened:
        await log.close()


def stream(topics: KafkaTopics) -> tuple[str, int]:
    return topics.settings.broker_topic(Topic.TASK_REPORTS), 0


async def tell(log: KafkaLog, event: Event) -> Position:
    envelope = Envelope(id=f"e{CLOCK.now_ms()}", time_ms=CLOCK.now_ms())
    (position,) = await log.append([encode(event, topic=Topic.TASK_REPORTS, key=ROOT, envelope=envelope, partition=0)])
    return position


def reach_only(log: KafkaLog, node: int, patch: pytest.MonkeyPatch) -> None:
    asking = log._brokers.ask

    async def ask(to: int, *rest: Any) -> Any:
        if to != node:
            raise Unreached(f"node {to}")
        return await asking(to, *rest)

    patch.setattr(log._brokers, "ask", ask)


@pytest.mark.parametrize("reaches_others", [True, False])
async def test_a_fence_is_shut_in_time_though_a_leader_that_is_cut_off_still_answers(
    split: SplitKafka,
    topics: KafkaTopics,
    logs: tuple[KafkaLog, KafkaLog],
    monkeypatch: pytest.MonkeyPatch,
    reaches_others: bool,
) -> None:
    runner, others = logs
    fence = Fence(runner, decode, CLOCK, window_seconds=WINDOW_SECONDS)
    await tell(others, assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    lead = runner._brokers.lead(stream(topics))
    assert lead is not None
    split.cut(lead.node)
    if not reaches_others:
        reach_only(runner, lead.node, monkeypatch)
    await until_led_by_another(others, topics, lead.node)
    lapse = await tell(others, lapsed(FIRST))
    lapsed_ms = CLOCK.boot_ms()
    while CLOCK.boot_ms() < lapsed_ms + WINDOW_SECONDS * 1000:
        await fence.ensure_open(ROOT, RUN, FIRST)
        await asyncio.sleep(0.05)
    assert not fence.is_open(ROOT, RUN, FIRST)
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    code, end = end_of(await runner._brokers.ask(lead.node, EndRequest(*stream(topics), lead.epoch)))
    assert (code, end) == (Code.NONE, lapse.offset), "the fault: it believes that it leads, and shows no lapse"
    if reaches_others:
        await tell(others, assigned(SECOND))
        assert await fence.ensure_open(ROOT, RUN, SECOND), "what goes on elsewhere is seen there"
    else:
        with pytest.raises(LogUnavailable):
            await runner.confirmed_end(Topic.TASK_REPORTS, 0)
    await fence.close()


async def test_a_reader_leaves_a_leader_that_is_cut_off_and_answers_polls_with_nothing(
    split: SplitKafka, topics: KafkaTopics, logs: tuple[KafkaLog, KafkaLog]
) -> None:
    reader, others = logs
    last = await tell(others, assigned(FIRST))
    assert await reader.read(Topic.TASK_REPORTS, 0, last.offset, wait_seconds=5)
    waiting = asyncio.create_task(reader.read(Topic.TASK_REPORTS, 0, last.offset + 1, wait_seconds=60))
    watching = asyncio.create_task(reader.watch_topics())
    await until(lambda: any(followed.waiting for followed in reader._follower._followed.values()))
    await idle()  # its poll is under way
    lead = reader._brokers.lead(stream(topics))
    assert lead is not None
    split.cut(lead.node)
    await until_led_by_another(others, topics, lead.node)
    async with asyncio.timeout(30):
        told = await tell(others, lapsed(FIRST))
        assert [stored.offset for stored in await waiting] == [told.offset]
    watching.cancel()


async def until_led_by_another(log: KafkaLog, topics: KafkaTopics, node: int) -> None:
    async with asyncio.timeout(30):
        while (lead := log._brokers.lead(stream(topics))) is None or lead.node == node:
            await log._brokers.refresh()
            await asyncio.sleep(0.1)
