"""Reads topics of a broker without a consumer group: nothing is committed, nobody else is disturbed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from towpath.errors import LogUnreachable, WrongSetting
from towpath.event_log.decoding import LogRecord
from towpath.event_log.security import configuration

GENERATION = "g1"
_ANSWER_SECONDS = 10.0
_POLL_SECONDS = 0.5
_CLOSE_SECONDS = 5.0
"""What the library gets to end its threads; nothing of ours depends on that."""
_BATCH = 500
_NOT_ASKED = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED})
"""What the library meets on its own account: it looks for the place of a group that nobody is in."""
_silent = logging.getLogger("towpath.event_log.brokers")
_silent.propagate = False
_silent.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Brokers:
    """Where the log is. `configuration` is librdkafka's own and goes before what the environment says."""

    bootstrap: str
    prefix: str = "towpath"
    configuration: Mapping[str, str] = field(default_factory=dict, repr=False)


def brokers(bootstrap: str, prefix: str, environment: Mapping[str, str], more: Mapping[str, str]) -> Brokers:
    """Security settings from the variables that the services use, `more` above them. Errors as `configuration`."""
    return Brokers(bootstrap, prefix, configuration(environment, more))


def records(
    at: Brokers,
    topics: list[str],
    *,
    since_ms: int | None,
    follow: bool,
    check: Callable[[], None] = lambda: None,
) -> Iterator[LogRecord]:
    """Records of `topics`, named without prefix and generation; each partition in order.

    From the beginning with `since_ms` 0, from that time on, or with None what comes from now on. Blocks; without
    `follow` it ends where the topics ended when it began. `check` is called between polls of half a second at most, and
    ends it by raising. LogUnreachable when no broker answers or a topic is missing, WrongSetting for what the library
    refuses of its configuration.
    """
    consumer = _consumer(at)
    try:
        yield from _read(consumer, at, topics, since_ms, check, follow=follow)
    except KafkaException as error:
        raise _unreachable(at, error.args[0]) from error
    finally:
        closing = threading.Thread(target=consumer.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def _consumer(at: Brokers) -> Consumer:
    try:
        return Consumer({
            "bootstrap.servers": at.bootstrap,
            "group.id": f"towpath-tail-{os.getpid()}",  # asked for by the library; nothing joins or commits
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "logger": _silent,
            **at.configuration,
        })  # fmt: skip
    except KafkaException as error:
        raise WrongSetting(f"the brokers cannot be asked like this: {error.args[0].str()}") from error


def _read(
    consumer: Consumer, at: Brokers, topics: list[str], since_ms: int | None, check: Callable[[], None], *, follow: bool
) -> Iterator[LogRecord]:
    places = [place for topic in topics for place in _partitions(consumer, at, topic)]
    consumer.assign(_starts(consumer, places, since_ms))
    unfinished = {(place.topic, place.partition) for place in places}
    while follow or unfinished:
        check()
        for message in consumer.consume(_BATCH, _POLL_SECONDS):
            error = message.error()
            if error is None:
                yield _record(message, at.prefix)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (the library's public name of its own codes)
                unfinished.discard((message.topic(), message.partition()))
            elif error.code() not in _NOT_ASKED and not error.retriable():
                raise _unreachable(at, error)


def _partitions(consumer: Consumer, at: Brokers, topic: str) -> list[TopicPartition]:
    name = f"{at.prefix}.{topic}.{GENERATION}"
    found = consumer.list_topics(name, timeout=_ANSWER_SECONDS).topics[name]
    if found.error is not None:
        raise _unreachable(at, found.error, f"topic {name}: ")
    return [TopicPartition(name, partition) for partition in found.partitions]


def _starts(consumer: Consumer, places: list[TopicPartition], since_ms: int | None) -> list[TopicPartition]:
    if not since_ms:
        offset = OFFSET_END if since_ms is None else OFFSET_BEGINNING
        return [TopicPartition(place.topic, place.partition, offset) for place in places]
    timed = [TopicPartition(place.topic, place.partition, since_ms) for place in places]
    return list(consumer.offsets_for_times(timed, timeout=_ANSWER_SECONDS))


def _record(message: Message, prefix: str) -> LogRecord:
    headers = {name: _text(value) for name, value in cast("list[tuple[str, bytes]]", message.headers() or [])}
    topic = (message.topic() or "").removeprefix(f"{prefix}.").removesuffix(f".{GENERATION}")
    return LogRecord(
        topic,
        message.partition() or 0,
        message.offset() or 0,
        _text(message.key()),
        headers,
        _bytes(message.value()),
        message.timestamp()[1],
    )


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else (value or b"").decode(errors="replace")


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _unreachable(at: Brokers, error: KafkaError, before: str = "") -> LogUnreachable:
    return LogUnreachable(at.bootstrap, f"{before}{error.str()}")
