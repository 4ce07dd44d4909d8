"""What the gateway and the store stand on in tests: a database and a log, as a test or a run of pytest chooses.

Who tests what both forms of the product do takes each of `FORMS`. Where a test does not say,
`TOWPATH_TEST_DATABASE` is `sqlite` (usual) or `postgres`, `TOWPATH_TEST_LOG` is `sqlite` (usual) or `kafka`; so the
suites of the embedded form run over the cluster's components unchanged. Each test has a schema and topics of its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from kernel.clock import Clock
from kernel.ids import SystemEntropy
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import EventLog
from kernel.log.sqlite import SqliteLog
from kernel.log.topics import TOPICS
from kernel.sql.port import Database
from kernel.sql.postgres import PostgresDatabase
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from tests.support.components import has_kafka, needs_kafka
from tests.support.databases import schema_of_its_own
from tests.support.kafka_topics import KafkaTopics, topics_of_a_test

PARTITIONS = {topic.value: 2 for topic in TOPICS}
FORMS = {"embedded": ("sqlite", "sqlite"), "cluster": ("postgres", "kafka")}
"""Database and log of each form of the product."""


def chosen(kind: str, given: str = "") -> str:
    """The implementation of `kind` (`DATABASE`, `LOG`): `given`, else what the run of pytest has chosen."""
    return given or os.environ.get(f"TOWPATH_TEST_{kind}") or "sqlite"


@asynccontextmanager
async def ground_in(
    folder: Path, clock: Clock, *, database: str = "", log: str = "", partitions: Mapping[str, int] = PARTITIONS
) -> AsyncIterator[tuple[Database, EventLog]]:
    """An empty database without tables, and a log with so many partitions a topic; files of both are in `folder`."""
    database, log = chosen("DATABASE", database), chosen("LOG", log)
    async with AsyncExitStack() as stack:
        if "sqlite" in {database, log}:
            file = await SqliteFile.open(folder / "towpath.db")
            stack.push_async_callback(file.close)
        db = SqliteDatabase(file) if database == "sqlite" else await stack.enter_async_context(_postgres())
        if log == "sqlite":
            opened: EventLog = await SqliteLog.open(file, partitions, clock, SystemEntropy())
        else:
            opened = await stack.enter_async_context(kafka_log(clock, partitions))
        stack.push_async_callback(opened.close)
        yield db, opened


@asynccontextmanager
async def _postgres() -> AsyncIterator[Database]:
    async with schema_of_its_own() as (url, schema):
        db = await PostgresDatabase.open(url, schema=schema)
        try:
            yield db
        finally:
            await db.close()


@asynccontextmanager
async def kafka_log(clock: Clock, partitions: Mapping[str, int] = PARTITIONS) -> AsyncIterator[KafkaLog]:
    """A log on topics of its own, which are deleted afterwards."""
    if not has_kafka():
        pytest.skip(needs_kafka.kwargs["reason"])
    async with topics_of_a_test(partitions) as topics:
        log = await KafkaLog.open(topics.settings, clock, topics=partitions)
        try:
            yield log
        finally:
            await log.close()


async def recreate(log: EventLog, topic: str) -> None:
    """Delete `topic` of a log that was made here, and create it anew, as somebody with the rights to might."""
    if isinstance(log, SqliteLog):
        await log.recreate_topic(topic, SystemEntropy())
    else:
        assert isinstance(log, KafkaLog)
        await KafkaTopics(log._settings).recreate({topic: log.partitions(topic)})
