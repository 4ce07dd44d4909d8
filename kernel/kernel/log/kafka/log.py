"""The log of the cluster form, on Apache Kafka: `EventLog` over batches that a broker appends whole or not at all.

No transactions and no consumer groups: an append is one idempotent batch per partition (`sending`), a read is a fetch
(`fetching`) or comes from what is followed (`following`). Whoever owns a partition is decided by the ledger. Where the
word of one leader is not enough, the other copies are asked about it (`confirming`).

Topics take the time of append from their broker (`topics`), so retention and every `appended_ms` follow one clock per
partition, however wrong the clock of a writer is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from kernel.clock import Clock
from kernel.errors import LogRefused, LogUnavailable
from kernel.ids import Entropy, SystemEntropy
from kernel.log.kafka.brokers import Brokers, Stream
from kernel.log.kafka.confirming import Confirmer
from kernel.log.kafka.fetching import EARLIEST, LATEST, Fetcher
from kernel.log.kafka.following import Followed, Follower
from kernel.log.kafka.hint import KafkaHint
from kernel.log.kafka.sending import Sender, first_offsets
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.limits import batches_of, positions_of
from kernel.log.port import Position, Record, Stored
from kernel.log.topics import Topic

_LOOK_SECONDS = 5.0
"""How often the brokers are asked whether the topics are still the same."""


class KafkaLog:
    """`EventLog` on a cluster. Make it with `open`."""

    def __init__(self, settings: KafkaSettings, clock: Clock, entropy: Entropy, topics: Iterable[str]) -> None:
        self._settings = settings
        self._clock = clock
        self._names = {topic: settings.broker_topic(topic) for topic in topics}
        self._brokers = Brokers(settings, self._names.values(), entropy)
        self._sender = Sender(self._brokers, settings, clock)
        self._fetcher = Fetcher(self._brokers)
        self._follower = Follower(self._brokers, self._fetcher, settings.poll_bytes)
        self._confirmer = Confirmer(self._brokers, settings)
        self._partitions: dict[str, int] = {}
        self._closed = False

    @classmethod
    async def open(
        cls,
        settings: KafkaSettings,
        clock: Clock,
        *,
        topics: Iterable[str] = tuple(Topic),
        entropy: Entropy | None = None,
    ) -> KafkaLog:
        """Find the cluster and `topics` there.

        `LogRefused` when a topic is missing or the brokers do not let us in, `LogUnavailable` when none answers.
        """
        log = cls(settings, clock, entropy or SystemEntropy(), topics)
        try:
            await log._brokers.open()
        except BaseException:
            await log.close()
            raise
        for topic, name in log._names.items():
            log._partitions[topic] = log._brokers.partitions(name)
        return log

    def partitions(self, topic: str) -> int:
        return self._partitions[topic]

    async def append(self, records: Sequence[Record]) -> list[Position]:
        """As the port says. A call for several partitions of which one fails has an unknown outcome."""
        if not records:
            return []
        batches, sizes = batches_of(records, self._partitions)
        for topic, _ in batches:
            self._brokers.refuse_recreated(self._names[topic])
        answers = {
            (topic, partition): self._sender.put((self._names[topic], partition), batch, sizes[topic, partition])
            for (topic, partition), batch in batches.items()
        }
        if len(answers) == 1:
            ((stream, answer),) = answers.items()
            return positions_of(records, {stream: await answer})
        return positions_of(records, await first_offsets(answers))

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        stream = self._stream(topic, partition)
        if offset > 0:
            self._brokers.refuse_recreated(self._names[topic])
        followed = self._follower.get(stream)
        if followed is not None:
            self._follower.was_read(followed, offset)
            if found := followed.since(offset, max_records):
                return found
        if wait_seconds <= 0:
            return (await self._fetcher.read(stream, topic, offset, max_records)).found
        if followed is None or offset < followed.next:
            reading = await self._fetcher.read(stream, topic, offset, max_records)
            if reading.found:
                return reading.found
            offset = max(offset, reading.following)  # what stood before that is deleted, and nothing follows it yet
            followed = self._follower.follow(stream, topic, reading.following)
        return await self._wait(followed, offset, max_records, wait_seconds)

    async def _wait(self, followed: Followed, offset: int, max_records: int, seconds: float) -> list[Stored]:
        """Wait for a record at `offset`. Empty only if the log has answered meanwhile that there is none."""
        loop = asyncio.get_running_loop()
        began, alarm = loop.time(), asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            while not alarm.done():
                found = followed.since(offset, max_records)
                if found is None:
                    break
                if found:
                    self._follower.was_read(followed, offset)
                    return found
                await _woken(followed, offset, alarm)
        finally:
            alarm.cancel()
        if alarm.done() and not alarm.cancelled() and followed.answered_at > began:
            return followed.since(offset, max_records) or []
        return (await self._fetcher.read(followed.stream, followed.topic, offset, max_records)).found

    async def end_offset(self, topic: str, partition: int) -> int:
        """As the port says; asked of the partition's leader each time."""
        return await self._fetcher.offset_at(self._stream(topic, partition), LATEST)

    async def confirmed_end(self, topic: str, partition: int) -> int:
        """As the port says; with three copies or more it takes the word of other brokers, too."""
        return await self._confirmer.end(self._stream(topic, partition))

    async def start_offset(self, topic: str, partition: int) -> int:
        return await self._fetcher.offset_at(self._stream(topic, partition), EARLIEST)

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        """As the port says; fetched from the partition's leader each time."""
        reading = await self._fetcher.read(self._stream(topic, partition), topic, offset, 1)
        return max(offset, reading.found[0].offset if reading.found else reading.following)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        stream = self._stream(topic, partition)
        self._brokers.refuse_recreated(self._names[topic])
        end = await self._fetcher.offset_at(stream, LATEST)
        await self._fetcher.delete_before(stream, min(offset, end))
        followed = self._follower.get(stream)
        if followed is not None:
            followed.drop_before(offset)

    async def topic_id(self, topic: str) -> str:
        """Cluster and topic, asked anew each time. `LogRefused` when the topic is gone."""
        found = await self._brokers.current_id(self._names[topic])
        return f"{self._brokers.cluster_id}/{found}"

    async def watch_topics(self, *topics: str) -> None:
        """Raise `LogRefused` soon after one of `topics` (all, if none is named) was recreated. Else it never ends."""
        names = [self._names[topic] for topic in topics or self._names]
        while True:
            await self._clock.sleep(self._brokers.jitter(_LOOK_SECONDS))
            with suppress(LogUnavailable):
                await self._brokers.refresh()
            for name in names:
                self._brokers.refuse_recreated(name)

    def snapshot_hint(self) -> KafkaHint:
        """Where snapshots of ledgers start, kept in the same cluster; usable until `close`."""
        return KafkaHint(self._brokers, f"{self._settings.prefix}.snapshots", self._names)

    async def close(self) -> None:
        """Finish what is in flight, let the waiting readers go; later calls raise `LogRefused`. Idempotent."""
        self._closed = True
        await self._follower.close()
        await self._confirmer.close()
        await self._sender.close()
        await self._brokers.close()

    def _stream(self, topic: str, partition: int) -> Stream:
        if self._closed:
            raise LogRefused("the log is closed")
        if not 0 <= partition < self._partitions[topic]:
            raise KeyError((topic, partition))
        return self._names[topic], partition


async def _woken(followed: Followed, offset: int, alarm: asyncio.Future[None]) -> None:
    """Return once something stands at `offset`, or at the alarm."""
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def release(_: object) -> None:
        if not woken.done():
            woken.set_result(None)

    followed.waiting[woken] = offset
    alarm.add_done_callback(release)
    try:
        await woken
    finally:
        del followed.waiting[woken]
        alarm.remove_done_callback(release)
