"""What brokers say of our topics, beside what we would have made of them, and of rights. Only looks; for `doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import DescribeAclsRequest

from kernel.errors import LogRefused, LogUnavailable
from kernel.ids import SystemEntropy
from kernel.log.kafka.access import Kind, Need, Rule
from kernel.log.kafka.brokers import Brokers, Lost, Unreached
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import admin, configuration
from kernel.log.kafka.wire import Code, MetadataRequest, name_of, rights_of
from kernel.log.topics import Topic

_RETENTION = "retention.ms"
_ANY = 1
"""In a question about rules: whatever it is."""


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


class Unseen(StrEnum):
    """Why the brokers do not tell their rules."""

    NO_AUTHORIZER = "the brokers have no authorizer"
    NOT_ALLOWED = "we are not allowed to describe ACLs"


@dataclass(frozen=True, slots=True)
class AccessState:
    """What we may do with our topics, and what rules say of everybody."""

    rights: Mapping[str, int]
    """Name at the broker to the sum of 2**right, of topics that are there."""
    rules: tuple[Rule, ...] | Unseen

    def lacking(self, needs: Iterable[Need]) -> list[Need]:
        """What of `needs` we may not do, as far as it is about topics that are there."""
        of_topics = [need for need in needs if need.kind is Kind.TOPIC]
        return [need for need in of_topics if not self.rights.get(need.name, -1) & 1 << need.right]


async def access_state(settings: KafkaSettings) -> AccessState:
    """Ask a broker. `LogUnavailable` when none answers, `LogRefused` when they do not let us in.

    Our own rights need `Describe` on the topics, the rules of others `Describe` on the cluster.
    """
    names = [settings.broker_topic(topic) for topic in Topic]
    brokers = Brokers(settings, (), SystemEntropy())
    why = "none is there"
    try:
        await brokers.refresh()
        for node in brokers.nodes():
            try:
                told = await brokers.ask(node, MetadataRequest(names, with_rights=True))
                answer = await brokers.ask(node, DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY))
            except (Unreached, Lost) as error:
                why = str(error)
                continue
            return AccessState(rights_of(told), _rules(answer))
    finally:
        await brokers.close()
    raise LogUnavailable(f"the brokers at {settings.bootstrap}: {why}")


def _rules(answer: Any) -> tuple[Rule, ...] | Unseen:
    match answer.error_code:
        case Code.NONE:
            return tuple(
                Rule(kind, name, pattern, *rule) for kind, name, pattern, rules in answer.resources for rule in rules
            )
        case Code.SECURITY_DISABLED:
            return Unseen.NO_AUTHORIZER
        case Code.CLUSTER_AUTHORIZATION_FAILED:
            return Unseen.NOT_ALLOWED
        case code:
            raise LogRefused(f"the rules of the brokers: {name_of(code)}")


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
