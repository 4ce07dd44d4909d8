"""The topics at the broker: created by name and with a stated configuration, never by accident.

`create_topics` may be called as often as one likes; it changes nothing that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from kernel.errors import LogRefused, LogUnavailable
from kernel.ids import SystemEntropy
from kernel.log.kafka.brokers import Brokers
from kernel.log.kafka.records import BATCH_ROOM_BYTES
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.wire import Code, name_of
from kernel.log.topics import TOPICS, Topic

PARTITIONS = 12
CREATED_SECONDS = 10.0
"""How long brokers may take to hear of a new topic, and to agree on who leads it."""
_EXISTS = 36
_DAY_MS = 24 * 60 * 60 * 1000
_MIB = 1024 * 1024

COMMON: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "max.message.bytes": str(BATCH_ROOM_BYTES),
    "message.timestamp.type": "LogAppendTime",
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
}
"""What every topic has. The broker's clock dates a record: retention must not depend on the clock of a writer, and the
fence finds a time in a partition by bisection, which needs times in order."""


def configuration(topic: Topic, replication: int) -> dict[str, str]:
    """How `topic` is kept.

    Public facts for ever, so that anybody can replay them from the start; ledgers until their owner has cut them behind
    a snapshot, which frees whole segments, so theirs are small; what is asked and reported for seven days.
    """
    row = TOPICS[topic]
    kept_ms = -1 if row.public or row.ledger else 7 * _DAY_MS
    return {
        **COMMON,
        "retention.ms": str(kept_ms),
        "segment.bytes": str((64 if row.ledger else 256) * _MIB),
        "min.insync.replicas": str(in_sync_min(replication)),
    }


def in_sync_min(replication: int) -> int:
    """How many of so many copies must have a record before it is acknowledged: of three or more one may be away."""
    return 2 if replication >= 3 else 1


async def create_topics(
    settings: KafkaSettings,
    partitions: int = PARTITIONS,
    replication: int | None = None,
    topics: Iterable[Topic] = tuple(Topic),
) -> None:
    """Create what is missing of `topics`, each with `partitions`; `replication` None: three, or fewer brokers.

    `LogUnavailable` when the brokers do not answer, `LogRefused` when they refuse, or when a topic is there with
    another number of partitions, which is fixed at creation.
    """
    async with admin(settings) as connection:
        copies = replication or min(3, len((await connection.describe_cluster())["brokers"]))
        wanted = {settings.broker_topic(topic): configuration(topic, copies) for topic in topics}
        await create_named(connection, wanted, dict.fromkeys(wanted, partitions), copies)


async def create_named(
    connection: AIOKafkaAdminClient,
    wanted: Mapping[str, Mapping[str, str]],
    partitions: Mapping[str, int],
    replication: int,
) -> None:
    """Create topics by the broker's names, `wanted` with their configuration."""
    new = [NewTopic(name, partitions[name], replication, topic_configs=dict(wanted[name])) for name in wanted]
    answer = await connection.create_topics(new, timeout_ms=10_000)
    existing = []
    for name, code, *text in answer.topic_errors:
        if code == _EXISTS:
            existing.append(name)
        elif code != 0:
            raise LogRefused(f"topic {name} is not created: {name_of(code)} {' '.join(filter(None, text))}")
    for found in await _created(connection, list(wanted)):
        name, count = found["topic"], len(found["partitions"])
        if name in existing and count != partitions[name]:
            raise LogRefused(
                f"topic {name} has {count} partitions, not {partitions[name]}; their number is fixed at creation"
            )


async def _created(connection: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    """The topics as a broker describes them, once it knows all of them and who leads: it hears of them a little later.

    `LogUnavailable` when it does not within `CREATED_SECONDS`, `LogRefused` when it may not tell us.
    """
    give_up = asyncio.get_running_loop().time() + CREATED_SECONDS
    while True:
        found: list[dict[str, Any]] = await connection.describe_topics(names)
        if any(one["error_code"] == Code.TOPIC_AUTHORIZATION_FAILED for one in found):
            raise LogRefused(f"topics are created, and we may not look at them: {', '.join(names)}")
        if all(not one["error_code"] and all(part["leader"] >= 0 for part in one["partitions"]) for one in found):
            return found
        if asyncio.get_running_loop().time() > give_up:
            raise LogUnavailable(f"topics are created, and the brokers do not know them yet: {', '.join(names)}")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """What an operator may do. `LogUnavailable` when no broker answers, `LogRefused` when they do not let us in."""
    await _refuse_strangers(settings)
    client = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap,
        request_timeout_ms=15_000,
        security_protocol=settings.security_protocol,
        ssl_context=settings.ssl_context(),
        sasl_mechanism=settings.sasl_mechanism,
        sasl_plain_username=settings.sasl_username,
        sasl_plain_password=settings.sasl_password,
    )
    try:
        await client.start()
        yield client
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"the brokers at {settings.bootstrap}: {error}") from error
    finally:
        await client.close()


async def _refuse_strangers(settings: KafkaSettings) -> None:
    """Whether we are let in, asked in a way that tells why not: the client above only says that nobody answers."""
    brokers = Brokers(settings, (), SystemEntropy())
    try:
        await brokers.refresh()
    finally:
        await brokers.close()
