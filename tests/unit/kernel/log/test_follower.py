"""Which broker a follower polls, as brokers are said to lead."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from kernel.log.kafka.brokers import Stream
from kernel.log.kafka.following import Follower
from kernel.log.kafka.wire import FetchAnswer, FetchRequest

TOPIC = UUID(int=1)


class _Brokers:
    """Brokers 1 and 2; both answer every poll with nothing, whoever leads."""

    def __init__(self) -> None:
        self.times_told = 1
        self.leads = {("facts", 0): 1, ("facts", 1): 1}
        self.polled: list[tuple[int, set[int]]] = []

    def topic_id(self, _topic: str) -> UUID:
        return TOPIC

    def leader(self, stream: Stream) -> int:
        return self.leads[stream]

    def drop(self, _node: int, _lane: str) -> None:
        pass

    async def ask(self, node: int, request: FetchRequest, _lane: str) -> FetchAnswer:
        topics = request._fields[7]
        self.polled.append((node, {partition[0] for _, partitions, _ in topics for partition in partitions}))
        await asyncio.sleep(0)
        return FetchAnswer(0, 0, [])


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_a_partition_is_polled_where_it_is_led_once_that_is_told_though_the_former_leader_goes_on_answering() -> (
    None
):
    brokers: Any = _Brokers()
    follower = Follower(brokers, None)  # type: ignore[arg-type]  # nothing is fetched
    for partition in range(2):
        follower.follow(("facts", partition), "facts", 7)
    await turns()
    assert brokers.polled[-1] == (1, {0, 1})
    brokers.leads["facts", 1] = 2
    brokers.times_told += 1
    await turns()
    assert dict(brokers.polled[-4:]) == {1: {0}, 2: {1}}
    await follower.close()
