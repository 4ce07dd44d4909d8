"""What the brokers say of our topics, beside what we would have made of them. Only looks; for `doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import admin, configuration
from kernel.log.topics import Topic

_RETENTION = "retention.ms"


@dataclass(frozen=True, slots=True)
class TopicsState:
    """The topics of one prefix."""

    brokers: int
    missing: tuple[str, ...]
    """Names at the broker."""
    partitions: Mapping[str, int]
    """Topic to how many."""
    replication: int
    """Copies of the topic that has the fewest."""
    deviating: tuple[str, ...]
    """`topic: name is value, not value`, where something is kept shorter or less safely than we would keep it."""


async def topics_state(settings: KafkaSettings) -> TopicsState:
    """Ask the brokers. `LogUnavailable` when they do not answer; needs `Describe` and `DescribeConfigs`."""
    names = {settings.broker_topic(topic): topic for topic in Topic}
    async with admin(settings) as connection:
        brokers = len((await connection.describe_cluster())["brokers"])
        described = [found for found in await connection.describe_topics(list(names)) if not found["error_code"]]
        there = {found["topic"]: found["partitions"] for found in described}
        answers = await connection.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(there)]
        )
    copies = min((len(one["replicas"]) for partitions in there.values() for one in partitions), default=0)
    kept = {name: _values(entries) for answer in answers for _, _, _, name, entries in answer.resources}
    deviating = [
        told
        for name, values in sorted(kept.items())
        for told in _deviations(names[name].value, values, configuration(names[name], min(copies, brokers)))
    ]
    missing = tuple(sorted(names.keys() - there.keys()))
    return TopicsState(brokers, missing, {names[n].value: len(p) for n, p in there.items()}, copies, tuple(deviating))


def _values(entries: list[tuple[object, ...]]) -> dict[str, str]:
    return {str(entry[0]): str(entry[1]) for entry in entries}


def _deviations(topic: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """What differs to the worse; who keeps records longer, or in more copies, may."""
    return [
        f"{topic}: {name} is {found[name]}, not {value}"
        for name, value in sorted(wanted.items())
        if name in found and not _is_as_good(name, found[name], value)
    ]


def _is_as_good(name: str, found: str, wanted: str) -> bool:
    if name == _RETENTION:
        return found == "-1" or (wanted != "-1" and int(found) >= int(wanted))
    if name in {"min.insync.replicas", "max.message.bytes", "segment.bytes"}:
        return name == "segment.bytes" or int(found) >= int(wanted)
    return found == wanted
