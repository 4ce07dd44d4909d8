"""Putting kept records back into new topics, at the offsets they had.

Offsets stand in records and tables, so they are kept; what stood below the first kept record is filled up with empty
records and deleted again. Times of append are kept, too: while it is filled a topic takes the time that it is told. At
the end it is configured as every topic is, and from then on takes the broker's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from kernel.clock import Clock
from kernel.errors import LogRefused, LogUnavailable
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.records import BATCH_ROOM_BYTES
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import admin, configuration, create_named
from kernel.log.port import Stored
from kernel.log.topics import Topic

_FILLERS = 10_000
"""Empty records of one batch."""


class Refiller:
    """New topics that are being filled. Made by `refilling`."""

    def __init__(self, settings: KafkaSettings, producer: AIOKafkaProducer, log: KafkaLog) -> None:
        self._settings = settings
        self._producer = producer
        self.log = log
        """The new topics, to be looked into."""

    async def fill(self, topic: str, partition: int, start: int, batches: AsyncIterator[Sequence[Stored]]) -> int:
        """Put the records of an empty partition back, the first one at offset `start`; the end of the partition.

        `LogRefused` when offsets are missing between them, or something else writes there.
        """
        name = self._settings.broker_topic(topic)
        end = await self._pad(name, partition, start)
        async for batch in batches:
            end = await self._append(name, partition, end, batch)
        if start:
            await self.log.delete_before(topic, partition, start)
        return end

    async def _pad(self, name: str, partition: int, start: int) -> int:
        for begin in range(0, start, _FILLERS):
            builder = self._producer.create_batch()
            for _ in range(min(_FILLERS, start - begin)):
                builder.append(key=None, value=b"", timestamp=0)
            await self._send(builder, name, partition, begin)
        return start

    async def _append(self, name: str, partition: int, end: int, batch: Sequence[Stored]) -> int:
        builder = self._producer.create_batch()
        begin = end
        for stored in batch:
            if stored.offset != end:
                raise LogRefused(f"{name}/{partition}: offset {end} is missing before {stored.offset}")
            record = stored.record
            headers = [(key, text.encode()) for key, text in record.headers]
            told = {"key": record.key.encode(), "value": record.value, "timestamp": stored.appended_ms}
            if builder.append(**told, headers=headers) is None:
                await self._send(builder, name, partition, begin)
                builder, begin = self._producer.create_batch(), end
                builder.append(**told, headers=headers)
            end += 1
        await self._send(builder, name, partition, begin)
        return end

    async def _send(self, builder: object, name: str, partition: int, begin: int) -> None:
        sent = await self._producer.send_batch(builder, name, partition=partition)
        offset = (await sent).offset
        if offset != begin:
            raise LogRefused(f"{name}/{partition}: something else writes there, too")


@asynccontextmanager
async def refilling(settings: KafkaSettings, clock: Clock, partitions: Mapping[str, int]) -> AsyncIterator[Refiller]:
    """Make topics with so many partitions and fill them; at the end of the block they are as any others.

    `LogRefused` when one of them exists, `LogUnavailable` when the brokers do not answer.
    """
    names = {topic: settings.broker_topic(topic) for topic in partitions}
    async with admin(settings) as connection:
        if there := sorted(set(names.values()) & set(await connection.list_topics())):
            raise LogRefused(f"{', '.join(there)} exist: a restore makes its topics itself")
        copies = min(3, len((await connection.describe_cluster())["brokers"]))
        final = {names[topic]: configuration(Topic(topic), copies) for topic in partitions}
        filling = {
            name: {**kept, "message.timestamp.type": "CreateTime", "retention.ms": "-1"} for name, kept in final.items()
        }
        await create_named(connection, filling, {names[topic]: count for topic, count in partitions.items()}, copies)
        async with _opened(settings, clock, partitions) as refiller:
            yield refiller
        await connection.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, dict(configs)) for name, configs in final.items()]
        )


@asynccontextmanager
async def _opened(settings: KafkaSettings, clock: Clock, partitions: Mapping[str, int]) -> AsyncIterator[Refiller]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        acks="all",
        enable_idempotence=True,
        max_batch_size=BATCH_ROOM_BYTES // 2,
        max_request_size=BATCH_ROOM_BYTES,
        security_protocol=settings.security_protocol,
        ssl_context=settings.ssl_context(),
        sasl_mechanism=settings.sasl_mechanism,
        sasl_plain_username=settings.sasl_username,
        sasl_plain_password=settings.sasl_password,
    )
    log = await KafkaLog.open(settings, clock, topics=tuple(partitions))
    try:
        await producer.start()
        yield Refiller(settings, producer, log)
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"the brokers at {settings.bootstrap}: {error}") from error
    finally:
        await producer.stop()
        await log.close()
