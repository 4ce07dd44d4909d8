"""Raw baselines on the broker: plain aiokafka, no code of ours, in the same minute and on the same cores.

chains_ms    a record is produced, consumed, and answered by the next produce, as often as a run needs it
storm        the same for many at once: each hop takes what there is and sends it on
produced     how many records a second one producer brings in
consumed     how many one consumer takes out again
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter, process_time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import admin, create_named

VALUE = bytes(300)
"""As long as a usual record of ours."""
_BATCH = 500
_NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second, and CPU of the client for one of them."""

    per_s: float
    cpu_ms: float


class RawKafka:
    """A topic of its own per hop, one producer, one consumer per hop. Use `raw_kafka`."""

    def __init__(
        self, bootstrap: str, name: str, producer: AIOKafkaProducer, consumers: list[AIOKafkaConsumer]
    ) -> None:
        self._bootstrap = bootstrap
        self._bulk = f"{name}-bulk"
        self._producer = producer
        self._consumers = consumers
        self._topics = [f"{name}-{hop}" for hop in range(len(consumers))]

    async def chains_ms(self, chains: int, hops: int = 0) -> list[float]:
        """How long chains take in which each hop waits for the one before it to be consumed; `hops` 0: all."""
        took = []
        for _ in range(chains):
            began = perf_counter()
            for topic, consumer in list(zip(self._topics, self._consumers, strict=True))[: hops or None]:
                sent = await self._producer.send(topic, VALUE, partition=0)
                await consumer.getone()
                await sent
            took.append((perf_counter() - began) * 1000)
        return took

    async def storm(self, callers: int, each: int) -> Rate:
        """Chains through all hops, by so many callers at once, `each` chains a caller."""
        waiting: dict[int, asyncio.Future[None]] = {}
        following = [asyncio.create_task(self._pass_on(hop, waiting)) for hop in range(len(self._topics))]

        async def caller(number: int) -> None:
            for _ in range(each):
                waiting[number] = asyncio.get_running_loop().create_future()
                value = number.to_bytes(_NUMBER_BYTES) + VALUE[_NUMBER_BYTES:]
                await self._producer.send(self._topics[0], value, partition=0)
                await waiting[number]

        began, cpu = perf_counter(), process_time()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        rate = _rate(callers * each, began, cpu)
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        return rate

    async def _pass_on(self, hop: int, waiting: dict[int, asyncio.Future[None]]) -> None:
        while True:
            for records in (await self._consumers[hop].getmany(timeout_ms=1000)).values():
                for record in records:
                    if hop + 1 < len(self._topics):
                        await self._producer.send(self._topics[hop + 1], record.value, partition=0)
                    else:
                        waiting[int.from_bytes(record.value[:_NUMBER_BYTES])].set_result(None)

    async def produced(self, records: int) -> Rate:
        """Batches of 500 to one partition, one after another, each acknowledged."""
        began, cpu = perf_counter(), process_time()
        for _ in range(records // _BATCH):
            batch = self._producer.create_batch()
            for _ in range(_BATCH):
                batch.append(key=None, value=VALUE, timestamp=None)
            await (await self._producer.send_batch(batch, self._bulk, partition=0))
        return _rate(records, began, cpu)

    async def consumed(self, records: int) -> Rate:
        """The same records, read by one consumer."""
        partition = TopicPartition(self._bulk, 0)
        async with _consumer(self._bootstrap, partition) as consumer:
            began, cpu, count = perf_counter(), process_time(), 0
            while count < records:
                count += len((await consumer.getmany(timeout_ms=1000, max_records=5000)).get(partition, []))
            return _rate(records, began, cpu)


def _rate(count: int, began: float, cpu: float) -> Rate:
    return Rate(count / (perf_counter() - began), (process_time() - cpu) / count * 1000)


@asynccontextmanager
async def _consumer(bootstrap: str, partition: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([partition])
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def raw_kafka(bootstrap: str, hops: int, name: str = "bare") -> AsyncIterator[RawKafka]:
    """Topics of so many hops and one for rates are made, followed from their start, and deleted in the end."""
    topics = [*(f"{name}-{hop}" for hop in range(hops)), f"{name}-bulk"]
    async with admin(KafkaSettings(bootstrap)) as operator:
        await create_named(operator, {topic: {} for topic in topics}, dict.fromkeys(topics, 1), 1)
    try:
        async with AsyncExitStack() as stack:
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=1_000_000
            )
            await producer.start()
            stack.push_async_callback(producer.stop)
            partitions = [TopicPartition(topic, 0) for topic in topics[:hops]]
            consumers = [await stack.enter_async_context(_consumer(bootstrap, one)) for one in partitions]
            yield RawKafka(bootstrap, name, producer, consumers)
    finally:
        async with admin(KafkaSettings(bootstrap)) as operator:
            await operator.delete_topics(topics)
