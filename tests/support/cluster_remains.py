"""All that a cluster has stored, read from its servers by plain clients: every record, every event, every row.

What files hold compressed (batches of a topic, long cells of a table) is whole here; files are searched beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from kernel.clock import SystemClock
from kernel.errors import UnknownType
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.port import Record, Stored
from kernel.log.topics import TOPICS
from kernel.store.remote import RemoteStore
from tests.support.cluster_process import ClusterProcess
from tests.support.disguises import Search
from tests.support.sealed_values import all_that_opens

_TABLES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Remains:
    """What there is at one moment; `opened` is what comes out of all boxes with all keys that the vault still gives."""

    records: list[ConsumerRecord]
    events: list[Any]
    tables: list[tuple[str, list[tuple[Any, ...]]]]
    opened: list[bytes]

    def look(self, search: Search) -> None:
        """Search records as they are, events as they are read, and every cell."""
        for record in self.records:
            where = f"topic {record.topic}"
            for piece in (record.key, record.value, *(part for pair in record.headers for part in pair)):
                search.look(piece or b"", where)
        for event in self.events:
            search.look(repr(event), f"event {type(event).__name__}")
        for name, rows in self.tables:
            for row in rows:
                for cell in row:
                    search.look(cell if isinstance(cell, bytes) else str(cell), f"table {name}")

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Of the table of that name, in whatever schema."""
        return [row for name, rows in self.tables if name.rpartition(".")[2] == table for row in rows]


async def remains_of(product: ClusterProcess) -> Remains:
    """Read everything while it runs."""
    told = product.endpoints()
    records = await _records(told["kafka"])
    ours = {KafkaSettings(told["kafka"]).broker_topic(topic) for topic in TOPICS}
    events = [event for record in records if record.topic in ours for event in _events(record)]
    tables = await _tables(told["postgres"])
    remains = Remains(records, events, tables, [])
    async with _store(product) as store:
        subjects = [(row[0], row[1]) for row in remains.rows("subjects")]
        remains.opened.extend(await all_that_opens(store.vault, subjects, events, tables))
    return remains


async def _records(bootstrap: str) -> list[ConsumerRecord]:
    """Of every partition of every topic, those of the broker itself included."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = await admin.describe_topics()
    finally:
        await admin.close()
    parts = [TopicPartition(topic["topic"], part["partition"]) for topic in topics for part in topic["partitions"]]
    found: list[ConsumerRecord] = []
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(parts)
        ends = {part: end for part, end in (await consumer.end_offsets(parts)).items() if end}
        while any([await consumer.position(part) < end for part, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    return found


def _events(record: ConsumerRecord) -> list[Any]:
    headers = tuple((name, value.decode()) for name, value in record.headers)
    ours = Record(record.topic, record.partition, (record.key or b"").decode(), headers, record.value or b"")
    try:
        return [decode(Stored(ours, record.offset, record.timestamp)).event]
    except UnknownType:
        return []


async def _tables(url: str) -> list[tuple[str, list[tuple[Any, ...]]]]:
    connection = await asyncpg.connect(url)
    try:
        names = [row[0] for row in await connection.fetch(_TABLES)]
        return [(name, [tuple(row) for row in await connection.fetch(f"SELECT * FROM {name}")]) for name in names]
    finally:
        await connection.close()


@asynccontextmanager
async def _store(product: ClusterProcess) -> AsyncIterator[RemoteStore]:
    """The artifact store as the gateway reaches it."""
    part = next(part for part in product.endpoints()["processes"] if part["name"] == "artifact-store-1")
    key = (product.data / "keys" / "api-gateway" / "store-key").read_text().strip()
    store = RemoteStore(part["address"], key, clock=SystemClock(), entropy=SystemEntropy())
    try:
        yield store
    finally:
        await store.close()
