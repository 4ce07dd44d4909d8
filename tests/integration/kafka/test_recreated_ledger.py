"""A ledger is deleted and made anew while nobody runs: who begins in it refuses in one line and repeats nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from api_gateway.registry.decider import RegistryDecider
from kernel.clock import SystemClock
from kernel.domain.decider import Decider, Event
from kernel.domain.values import Pool
from kernel.errors import LogRefused
from kernel.ids import SystemEntropy
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.kafka.log import KafkaLog
from kernel.log.topics import Topic
from kernel.processor import Action, Owner
from kernel.processor.ports import Ports
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from tests.support.components import needs_kafka
from tests.support.kafka_topics import KafkaTopics, topics_of_a_test
from tests.support.processing import run_to_idle
from tests.support.registry import register_provider
from tests.support.runs import heartbeat, workflow_run_requested

pytestmark = needs_kafka

CLOCK = SystemClock()
TOPICS = dict.fromkeys((topic.value for topic in Topic), 1)
DECIDERS: tuple[Decider, ...] = (RegistryDecider(), Advance(), Dispatch())


@pytest.fixture
async def topics() -> AsyncIterator[KafkaTopics]:
    async with topics_of_a_test(TOPICS) as made:
        yield made


@asynccontextmanager
async def opened(topics: KafkaTopics) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.open(topics.settings, CLOCK, topics=tuple(TOPICS))
    try:
        yield log
    finally:
        await log.close()


async def ask(log: KafkaLog, topic: Topic, key: str, event: Event) -> None:
    envelope = Envelope(id=f"of {key}", time_ms=CLOCK.now_ms(), organization_id="org-1")
    await log.append([codec.encode(event, topic=topic, key=key, envelope=envelope, partition=0)])


async def ask_for_a_run(log: KafkaLog) -> None:
    request = replace(workflow_run_requested(), valid_until_ms=CLOCK.now_ms() + 600_000)
    await ask(log, Topic.RUN_REQUESTS, request.workflow.workflow_run_id, request)


async def decide(log: KafkaLog, decider: Decider) -> None:
    await run_to_idle(Owner(decider, 0, Ports(log, codec, CLOCK, SystemEntropy(), owner="test")))


async def drain(log: KafkaLog, decider: Decider) -> None:
    """As `decide`, to the checkpoint that an owner writes when it is told to end, or has rested for a while."""
    owner = Owner(decider, 0, Ports(log, codec, CLOCK, SystemEntropy(), owner="test"))
    await run_to_idle(owner)
    owner.drain()
    while await owner.step() is not Action.DRAINED:
        pass
    await owner.close()


async def ends(log: KafkaLog) -> dict[str, int]:
    return {topic: await log.end_offset(topic, 0) for topic in TOPICS}


@pytest.mark.parametrize("decider", DECIDERS, ids=lambda decider: decider.name)
async def test_nobody_begins_in_a_ledger_that_was_made_anew(topics: KafkaTopics, decider: Decider) -> None:
    async with opened(topics) as log:
        await ask(log, Topic.REGISTRY_REQUESTS, "org-1", register_provider())
        await ask_for_a_run(log)
        await ask(log, Topic.DISPATCH, "light/0", heartbeat(pool=Pool.LIGHT))
        for each in DECIDERS:
            await decide(log, each)
        before = await ends(log)
        assert before[decider.ledger] > 1
        assert before[decider.told] > 0
    await topics.recreate({decider.ledger: 1})
    async with opened(topics) as log:
        for _ in range(2):
            with pytest.raises(LogRefused, match=f"{decider.ledger} was recreated"):
                await decide(log, decider)
        after = await ends(log)
    assert {**after, decider.ledger: 0} == {**before, decider.ledger: 0}, "nothing was told again"


async def test_a_ledger_that_was_made_anew_is_noticed_though_what_it_told_is_kept_no_longer(
    topics: KafkaTopics,
) -> None:
    """`dispatch` tells nobody for ever: after a week its only trace is what `advance` has accepted from it."""
    async with opened(topics) as log:
        await ask_for_a_run(log)
        await ask(log, Topic.DISPATCH, "light/0", heartbeat(pool=Pool.LIGHT))
        for decider in (Advance(), Dispatch(), Advance()):
            await drain(log, decider)
        assert (await ends(log))[Topic.TASK_REPORTS] > 0
        for topic in (Topic.TASK_REPORTS, Topic.DISPATCH):
            await log.delete_before(topic, 0, await log.end_offset(topic, 0))
    await topics.recreate({Topic.DISPATCH_LEDGER: 1})
    async with opened(topics) as log:
        with pytest.raises(LogRefused, match="dispatch_ledger was recreated: it is empty, and run_ledger/0 holds"):
            await decide(log, Dispatch())
        await decide(log, Advance())
        await decide(log, RegistryDecider())


async def test_a_cluster_that_nobody_has_used_is_begun_in(topics: KafkaTopics) -> None:
    async with opened(topics) as log:
        await ask_for_a_run(log)
        await decide(log, Advance())
        assert (await ends(log))[Topic.JOB_RUNS] > 0
