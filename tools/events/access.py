"""Who may do what at the brokers, from the topic table: a row per process, as a table and as `kafka-acls` commands."""

from __future__ import annotations

from kernel.log.kafka.access import PROCESSES
from kernel.log.kafka.topics import PARTITIONS, configuration
from kernel.log.topics import GENERATION, TOPICS, Topic

PREFIX = "towpath"
SUBSCRIBER = "SUBSCRIBER"
OPERATOR = "OPERATOR"


def topic_rows() -> list[tuple[str, ...]]:
    """Topic, for whom, how long its records are kept, how it is cleaned up."""
    rows: list[tuple[str, ...]] = []
    for topic, row in TOPICS.items():
        told = configuration(topic, 3)
        kept_ms = int(told["retention.ms"])
        kept = f"{kept_ms // 86_400_000} days" if kept_ms > 0 else "for ever"
        if row.ledger:
            kept = "until its owner deletes what lies before its last two snapshots"
        shown = f"`{told['cleanup.policy']}`, `retention.ms={kept_ms}`"
        rows.append((f"`{PREFIX}.{topic}.{GENERATION}`", "everybody" if row.public else "our services", kept, shown))
    return rows


def common_configuration() -> str:
    """What every topic has in common, in a sentence."""
    told = configuration(Topic.JOB_RUNS, 3)
    names = ("compression.type", "max.message.bytes", "message.timestamp.type", "min.insync.replicas")
    shown = [f"`{name}={told[name]}`" for name in (*names, "unclean.leader.election.enable")]
    return f"Every topic has {PARTITIONS} partitions, 3 replicas where there are 3 brokers, and {', '.join(shown)}."


def access_rows() -> list[tuple[str, ...]]:
    """Process, what it reads, what it writes, whose records it deletes, its groups."""

    def listed(topics: list[Topic] | tuple[Topic, ...]) -> str:
        return ", ".join(f"`{topic}`" for topic in topics) or "nothing"

    return [
        (f"`{one.name}`", listed(one.reads), listed(one.writes), listed(one.ledgers), ", ".join(one.groups) or "none")
        for one in PROCESSES
    ]


def commands() -> list[str]:
    """What an operator runs, for an empty cluster that denies what is not allowed. `$KAFKA` names the brokers."""
    found = [_command(OPERATOR, ("Create", "Describe"), f"--resource-pattern-type prefixed --topic {PREFIX}.")]
    for one in PROCESSES:
        principal = f"{PREFIX}-{one.name}"
        everything = f"--resource-pattern-type prefixed --topic {PREFIX}."
        found.append(_command(principal, ("Describe", "DescribeConfigs"), everything))
        for operation, topics in (("Read", one.reads), ("Write", one.writes), ("Delete", one.ledgers)):
            if topics:
                found.append(_command(principal, (operation,), _named(topics)))
        if one.groups:
            groups = " ".join(f"--group {PREFIX}.{group}" for group in one.groups)
            found.append(_command(principal, ("Read", "Describe"), groups))
    public = [topic for topic, row in TOPICS.items() if row.public]
    found.append(_command(SUBSCRIBER, ("Read", "Describe"), _named(public)))
    found.append(_command(SUBSCRIBER, ("Read",), f"--resource-pattern-type prefixed --group {SUBSCRIBER}-"))
    return found


def _named(topics: list[Topic] | tuple[Topic, ...]) -> str:
    return " ".join(f"--topic {PREFIX}.{topic}.{GENERATION}" for topic in topics)


def _command(principal: str, operations: tuple[str, ...], resource: str) -> str:
    asked = " ".join(f"--operation {operation}" for operation in operations)
    return f'kafka-acls.sh --bootstrap-server "$KAFKA" --add --allow-principal User:{principal} {asked} {resource}'
