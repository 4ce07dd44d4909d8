"""Who of us needs to do what at the brokers, and whether their rules let it: for the manual, and for `doctor`. Pure.

Numbers are those of the protocol. A rule names a user, or everybody; where one denies what another allows, the denial
counts. Users that may do everything (`super.users`) stand in no rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from kernel.log.kafka.settings import KafkaSettings
from kernel.log.topics import TYPES, Topic, Writer

_ANY_RIGHT = 2
_PREFIXED = 4
_DENY = 2
_EVERYBODY = "User:*"
_EVERYTHING = "*"


class Kind(IntEnum):
    """What a right is about."""

    TOPIC = 2
    GROUP = 3


class Right(IntEnum):
    """What may be done with it."""

    READ = 3
    WRITE = 4
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11


_IMPLIED_BY = {
    Right.DESCRIBE: (Right.READ, Right.WRITE, Right.DELETE, Right.ALTER),
    Right.DESCRIBE_CONFIGS: (Right.ALTER_CONFIGS,),
}
"""Whoever is allowed one of these is allowed that, too."""


class Need(NamedTuple):
    """A right to one thing, by the name that brokers know."""

    right: Right
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.right.name.lower().replace('_', ' ')} {self.name}"


class Rule(NamedTuple):
    """One entry of a broker's access list. What is no `Kind` or `Right` of ours is a plain number."""

    kind: int
    name: str
    pattern: int
    user: str
    host: str
    right: int
    permission: int

    def is_about(self, need: Need, user: str) -> bool:
        """Whether it says something about `user` and the thing that `need` names."""
        if self.kind != need.kind or self.user not in {user, _EVERYBODY}:
            return False
        if self.pattern == _PREFIXED:
            return need.name.startswith(self.name)
        return self.name in {need.name, _EVERYTHING}


@dataclass(frozen=True, slots=True)
class Process:
    """One kind of process: as whom it writes, what it reads, whose ledgers it owns, which groups it is in."""

    name: str
    writers: tuple[Writer, ...]
    reads: tuple[Topic, ...]
    ledgers: tuple[Topic, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def writes(self) -> list[Topic]:
        """Topics in which one of its types stands, and its ledgers."""
        found = {topic for row in TYPES.values() for topic, writer in row.topics.items() if writer in self.writers}
        return [topic for topic in Topic if topic in found or topic in self.ledgers]

    def needs(self, settings: KafkaSettings) -> list[Need]:
        """All that it does, with the names of an installation."""
        rights = (
            *((Right.DESCRIBE, tuple(Topic)), (Right.DESCRIBE_CONFIGS, tuple(Topic))),
            *((Right.READ, self.reads), (Right.WRITE, self.writes), (Right.DELETE, self.ledgers)),
        )
        of_topics = [Need(right, Kind.TOPIC, settings.broker_topic(one)) for right, topics in rights for one in topics]
        groups = [f"{settings.prefix}.{group}" for group in self.groups]
        return of_topics + [Need(right, Kind.GROUP, name) for name in groups for right in (Right.READ, Right.DESCRIBE)]


GATEWAY = Process(
    "api-gateway",
    (Writer.GATEWAY, Writer.REGISTRY),
    (Topic.JOB_RUNS, Topic.DEFINITIONS, Topic.DISPATCH, Topic.REGISTRY_REQUESTS, Topic.REGISTRY_LEDGER),
    (Topic.REGISTRY_LEDGER,),
    ("api-gateway", "snapshots"),
)
PROCESSES = (
    GATEWAY,
    Process(
        "scheduler",
        (Writer.ADVANCE, Writer.DISPATCH),
        (Topic.RUN_REQUESTS, Topic.TASK_REPORTS, Topic.RUN_LEDGER, Topic.DISPATCH, Topic.DISPATCH_LEDGER),
        (Topic.RUN_LEDGER, Topic.DISPATCH_LEDGER),
        ("scheduler", "snapshots"),
    ),
    Process("health", (Writer.HEALTH,), (Topic.JOB_RUNS,), groups=("health",)),
    Process("browser-runner", (Writer.RUNNER, Writer.WATCHDOG), (Topic.RUNNER_INBOX, Topic.TASK_REPORTS)),
    Process("artifact-store", (), (Topic.TASK_REPORTS, Topic.JOB_RUNS, Topic.DEFINITIONS, Topic.RUN_LEDGER)),
)


def allows(rules: Iterable[Rule], user: str, need: Need) -> bool:
    """Whether `user`, such as `User:towpath-scheduler`, may do it by these rules, at least from some host."""
    about = [rule for rule in rules if rule.is_about(need, user)]
    everywhere = [rule for rule in about if rule.permission == _DENY and rule.host == _EVERYTHING]
    if any(rule.right in {need.right, _ANY_RIGHT} for rule in everywhere):
        return False
    enough = {need.right, _ANY_RIGHT, *_IMPLIED_BY.get(need.right, ())}
    return any(rule.permission != _DENY and rule.right in enough for rule in about)


def nearest_user(rules: Sequence[Rule], needs: Sequence[Need]) -> tuple[str, list[Need]]:
    """Who is allowed most of `needs` by these rules, and what that user lacks; nobody when no rule names a user."""
    best = "", list(needs)
    for user in sorted({rule.user for rule in rules}):
        lacking = [need for need in needs if not allows(rules, user, need)]
        if len(lacking) < len(best[1]):
            best = user, lacking
    return best
