"""The consumer group that proposes owners, on a real broker: joining, leaving, silence, and what brokers refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from kernel.clock import SystemClock
from kernel.errors import LogUnavailable
from kernel.log.kafka import membership as rooms
from kernel.log.kafka.membership import Membership
from kernel.log.kafka.settings import KafkaSettings
from tests.support.components import needs_kafka
from tests.support.eventually import until
from tests.support.kafka_topics import topics_of_a_test

pytestmark = needs_kafka

TOPICS = {"runs": 6, "facts": 4}
BOUND_SECONDS = 20.0
"""Less than the long session."""


@pytest.fixture
async def kafka() -> AsyncIterator[KafkaSettings]:
    async with topics_of_a_test(TOPICS) as topics:
        yield topics.settings


@asynccontextmanager
async def members(kafka: KafkaSettings, *names: str, **more: Any) -> AsyncIterator[list[Membership]]:
    """Members of one group, which leave at the end."""
    async with AsyncExitStack() as stack:
        joined = []
        for name in names:
            member = await Membership.join(kafka, "toys", tuple(TOPICS), SystemClock(), member=name, **more)
            stack.push_async_callback(member.leave)
            joined.append(member)
        yield joined


async def settled(joined: list[Membership]) -> list[frozenset[int]]:
    """Wait until each partition of each topic is proposed to exactly one member; the shares of `runs`."""

    def is_shared(topic: str) -> bool:
        proposed = [partition for member in joined for partition in member.proposals(topic).now]
        return sorted(proposed) == list(range(TOPICS[topic]))

    await until(lambda: all(is_shared(topic) for topic in TOPICS))
    return [member.proposals("runs").now for member in joined]


async def test_one_member_is_proposed_everything(kafka: KafkaSettings) -> None:
    async with members(kafka, "one") as (one,):
        assert one.proposals("runs").now == frozenset(range(6))
        assert one.proposals("facts").now == frozenset(range(4))
        assert one.is_member


async def test_a_second_member_gets_its_half_and_nothing_else_moves(kafka: KafkaSettings) -> None:
    async with members(kafka, "one", "two") as joined:
        one, two = await settled(joined)
        assert (len(one), len(two)) == (3, 3)


@pytest.mark.parametrize("name", ["two", ""], ids=["with a name", "without a name"])
async def test_what_a_member_had_goes_to_the_others_at_once_when_it_leaves(kafka: KafkaSettings, name: str) -> None:
    async with members(kafka, "one", name, session_ms=30_000) as joined:
        await settled(joined)
        began = time.monotonic()
        await joined[1].leave()
        await until(lambda: joined[0].proposals("runs").now == frozenset(range(6)))
        assert time.monotonic() - began < BOUND_SECONDS, "long before the session is over"


async def test_the_group_gives_up_a_silent_member_after_its_session(kafka: KafkaSettings) -> None:
    async with members(kafka, "one", "two", session_ms=1000) as joined:
        await settled(joined)
        silent = joined[1]._coordinator
        assert silent is not None
        silent._heartbeat_task.cancel()
        await until(lambda: joined[0].proposals("runs").now == frozenset(range(6)))


async def test_a_member_that_was_given_up_is_to_claim_nothing_until_it_is_back(kafka: KafkaSettings) -> None:
    async with members(kafka, "one", "two", session_ms=1000) as joined:
        await settled(joined)
        paused = joined[1]._coordinator
        assert paused is not None
        heartbeat = paused._do_heartbeat

        async def late() -> bool:
            await asyncio.sleep(2.5)
            paused._do_heartbeat = heartbeat
            return bool(await heartbeat())

        paused._do_heartbeat = late
        proposals = joined[1].proposals("runs")
        known = proposals.now
        await until(lambda: proposals._withheld)
        assert proposals.now == known, "what nobody else has claimed may go on"
        await asyncio.wait_for(proposals.not_withheld(), BOUND_SECONDS)
        await until(lambda: len(proposals.now) == 3)
        await settled(joined)


async def test_two_processes_of_one_name_do_not_throw_each_other_out_again_and_again(kafka: KafkaSettings) -> None:
    async with members(kafka, "same", "same") as joined:
        changes = 0

        async def count(member: Membership) -> None:
            nonlocal changes
            known = member.proposals("runs").now
            while True:
                known = await member.proposals("runs").other_than(known)
                changes += 1

        counting = [asyncio.create_task(count(member)) for member in joined]
        await until(lambda: max(member._displaced for member in joined) >= 2, 60)
        for task in counting:
            task.cancel()
        assert changes <= 20, "who loses its name again stays away, and for longer each time"
        began = time.monotonic()
        await joined[0].leave()
        assert time.monotonic() - began < rooms.LEAVE_SECONDS, "a member that stays away leaves at once"


async def test_a_session_that_the_brokers_do_not_allow_is_lengthened(kafka: KafkaSettings) -> None:
    async with members(kafka, "one", session_ms=100) as (one,):
        assert one.session_ms == rooms.SESSION_MS
        assert one.proposals("runs").now == frozenset(range(6))


async def test_a_group_whose_brokers_do_not_answer_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "JOIN_SECONDS", 0.5)
    with pytest.raises(LogUnavailable, match="toys did not answer"):
        await Membership.join(KafkaSettings("127.0.0.1:9"), "toys", ("runs",), SystemClock())
