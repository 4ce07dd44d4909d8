"""Whose word makes the end of a partition certain: brokers that answer as told, one of them a leader left behind."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from kernel.errors import LogRefused, LogUnavailable
from kernel.log.kafka.brokers import Brokers, Lost, Stream, Unreached
from kernel.log.kafka.confirming import Confirmer, words_needed
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.wire import Code, EndRequest, Lead

STREAM = ("towpath.task_reports.g1", 0)
HURRIED = KafkaSettings("nowhere:1", request_seconds=0.5)


class Broker:
    """One that keeps a copy and has joined `epoch`; as the leader of that it tells `end`."""

    def __init__(self, epoch: int, *, end: int | None = None) -> None:
        self.epoch = epoch
        self.end = end
        self.is_silent = False
        self.is_away = False
        self.has_moved = False
        """It keeps no copy any more."""
        self.asked = 0

    async def answer(self, request: EndRequest) -> Any:
        self.asked += 1
        if self.is_away:
            raise Unreached("away")
        if self.is_silent:
            await asyncio.sleep(1)
            raise Lost("silent")
        ((_, ((partition, epoch, _),)),) = request._topics
        code, end = Code.NONE, self.end
        if self.has_moved:
            code = Code.NOT_LEADER
        elif epoch < self.epoch:
            code = Code.FENCED_LEADER_EPOCH
        elif epoch > self.epoch:
            code = Code.UNKNOWN_LEADER_EPOCH
        elif end is None:
            code = Code.NOT_LEADER
        answer = (partition, int(code), -1, end if code is Code.NONE else -1, epoch)
        return type("Answer", (), {"topics": [(STREAM[0], [answer])]})


class Cluster:
    """Stands in for `Brokers`. `told` is what metadata say, `then` what they say once they are asked anew."""

    def __init__(self, brokers: dict[int, Broker], told: Lead, then: Lead | None = None) -> None:
        self.brokers = brokers
        self.told = told
        self.then = then or told
        self.is_gone = False

    def lead(self, stream: Stream) -> Lead:
        assert stream == STREAM
        return self.told

    def topic_id(self, topic: str) -> None:
        if self.is_gone:
            raise LogRefused(f"topic {topic} is gone")

    async def ask(self, node: int, request: EndRequest) -> Any:
        return await self.brokers[node].answer(request)

    async def refresh(self) -> None:
        self.told = self.then

    def jitter(self, seconds: float) -> float:
        return seconds / 10

    async def end(self) -> int:
        confirmer = Confirmer(cast("Brokers", self), HURRIED)
        try:
            return await confirmer.end(STREAM)
        finally:
            await confirmer.close()


def healthy() -> Cluster:
    return Cluster({1: Broker(4, end=7), 2: Broker(4), 3: Broker(4)}, Lead(1, 4, (1, 2, 3)))


def left_behind() -> Cluster:
    """Node 1 led epoch 4 and goes on; node 2 leads epoch 5, and a record at 7 stands there."""
    brokers = {1: Broker(4, end=7), 2: Broker(5, end=8), 3: Broker(5)}
    return Cluster(brokers, Lead(1, 4, (1, 2, 3)), Lead(2, 5, (1, 2, 3)))


@pytest.mark.parametrize(("copies", "words"), [(1, 0), (2, 0), (3, 1), (4, 2), (5, 3)])
def test_so_many_others_must_have_joined_nothing_later(copies: int, words: int) -> None:
    assert words_needed(copies) == words


async def test_of_three_copies_one_other_is_asked() -> None:
    cluster = healthy()
    assert await cluster.end() == 7
    assert [broker.asked for broker in cluster.brokers.values()] == [1, 1, 0]


async def test_a_single_copy_is_believed() -> None:
    assert await Cluster({1: Broker(0, end=3)}, Lead(1, 0, (1,))).end() == 3


async def test_a_leader_that_was_left_behind_is_not_believed_and_its_successor_is() -> None:
    assert await left_behind().end() == 8


async def test_whoever_reaches_only_a_leader_that_was_left_behind_gets_no_end() -> None:
    cluster = left_behind()
    cluster.then = cluster.told
    cluster.brokers[2].is_away = cluster.brokers[3].is_away = True
    with pytest.raises(LogUnavailable):
        await cluster.end()


@pytest.mark.parametrize("fault", ["is_silent", "is_away"])
async def test_one_copy_of_three_may_be_missing(fault: str) -> None:
    cluster = healthy()
    setattr(cluster.brokers[2], fault, True)
    assert await cluster.end() == 7


async def test_a_copy_that_has_joined_nothing_yet_counts_and_one_that_keeps_none_any_more_does_not() -> None:
    cluster = healthy()
    cluster.brokers[2].is_away = True
    cluster.brokers[3].epoch = -1
    assert await cluster.end() == 7
    cluster.brokers[3].has_moved = True
    with pytest.raises(LogUnavailable):
        await cluster.end()


async def test_a_topic_that_is_gone_is_refused() -> None:
    cluster = healthy()
    cluster.is_gone = cluster.brokers[1].is_away = True
    with pytest.raises(LogRefused):
        await cluster.end()
