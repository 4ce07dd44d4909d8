"""Topics for one test on the brokers that all tests share: a prefix of its own, deleted afterwards.

They have as many copies as the product gives its own on these brokers: one on one node, on three nodes three, of which
two must have a record before it is acknowledged. The brokers are not asked how many they are: a busy machine may have
one of them away for a moment, and it would have fewer copies then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient

from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import COMMON, admin, create_named, in_sync_min
from tests.support.components import kafka_bootstrap, kafka_nodes, unique_name


@dataclass(frozen=True, slots=True)
class KafkaTopics:
    """Where a test's topics are."""

    settings: KafkaSettings
    replication: int = 1

    async def create(self, partitions: Mapping[str, int]) -> None:
        """Make topics of ours, each with so many partitions."""
        named = {self.settings.broker_topic(topic): count for topic, count in partitions.items()}
        async with admin(self.settings) as connection:
            await _create(connection, named, self.replication)

    async def delete(self, topics: Iterable[str]) -> None:
        """Delete topics of ours, and what stands in them."""
        async with admin(self.settings) as connection:
            await connection.delete_topics([self.settings.broker_topic(topic) for topic in topics], timeout_ms=10_000)

    async def recreate(self, partitions: Mapping[str, int]) -> None:
        """Delete topics of ours, and make others of the same names once the broker has forgotten them."""
        await self.delete(partitions)
        names = [self.settings.broker_topic(topic) for topic in partitions]
        async with admin(self.settings) as connection:
            while not all(found["error_code"] for found in await connection.describe_topics(names)):  # noqa: ASYNC110 (a broker tells nobody)
                await asyncio.sleep(0.01)
        await self.create(partitions)


@asynccontextmanager
async def topics_of_a_test(
    partitions: Mapping[str, int], bootstrap: str = "", replication: int | None = None
) -> AsyncIterator[KafkaTopics]:
    """Topics on the shared brokers, or on those at `bootstrap`, with one copy where nobody says otherwise."""
    copies = replication or (1 if bootstrap else _usual_copies())
    topics = KafkaTopics(KafkaSettings(bootstrap or kafka_bootstrap(), unique_name()), copies)
    await topics.create(partitions)
    try:
        yield topics
    finally:
        await topics.delete(partitions)


class TopicSets:
    """The same topics again and again, each set under a prefix of its own; made in growing numbers at a time."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions
        self._made: list[KafkaSettings] = []
        self._free: list[KafkaSettings] = []

    async def take(self) -> KafkaSettings:
        """A set that nobody has written to."""
        if not self._free:
            count = min(4 * len(self._made), 32) or 1
            self._free = [KafkaSettings(kafka_bootstrap(), unique_name()) for _ in range(count)]
            self._made += self._free
            await self._create(self._free)
        return self._free.pop()

    async def delete(self) -> None:
        """Delete every set that was made."""
        if self._made:
            async with admin(self._made[0]) as connection:
                await connection.delete_topics(self._names(self._made), timeout_ms=30_000)

    async def _create(self, sets: Iterable[KafkaSettings]) -> None:
        named = {one.broker_topic(topic): count for one in sets for topic, count in self._partitions.items()}
        async with admin(self._made[0]) as connection:
            await _create(connection, named, _usual_copies())

    def _names(self, sets: Iterable[KafkaSettings]) -> list[str]:
        return [one.broker_topic(topic) for one in sets for topic in self._partitions]


def _usual_copies() -> int:
    return min(3, kafka_nodes())


async def _create(connection: AIOKafkaAdminClient, named: Mapping[str, int], copies: int) -> None:
    """Make topics by the broker's names, each with so many partitions."""
    configuration = {**COMMON, "min.insync.replicas": str(in_sync_min(copies))}
    await create_named(connection, dict.fromkeys(named, configuration), named, copies)
