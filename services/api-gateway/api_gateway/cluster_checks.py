"""What `doctor` asks of a cluster beside the gateway's own questions: topics, rights, time-outs of groups, clocks.

Pure but for `checks`, which asks: each finding is made from what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from api_gateway.doctor import Check, Finding, failed, ok, warning
from api_gateway.runner_slots import RunnerSlots
from kernel.clock import Clock
from kernel.domain.task import RunnerHeartbeat
from kernel.errors import UnknownType
from kernel.log.codec import decode, read_envelope
from kernel.log.kafka.access import GATEWAY, PROCESSES, Need, nearest_user
from kernel.log.kafka.inspecting import AccessState, TopicsState, Unseen, access_state, topics_state
from kernel.log.kafka.membership import SESSION_MS, Membership
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.port import EventLog
from kernel.log.topics import TOPICS, Topic
from kernel.sql.port import Database

SKEW_MS_MAX = 1000
"""How far clocks may differ: a takeover counts a longer step as an outage."""
_NEEDS_TOLD = 3
_LAST_RECORDS = 200
_LAST_FACTS = 20
_ACCESS_LIST = "docs/subscribe-to-events.md#who-may-read-and-write-what"
_DECIDED_BY = {Topic.JOB_RUNS: "the schedulers", Topic.DEFINITIONS: "the gateways"}
"""Whose clock dates the facts of a topic."""
_DECIDED_TOGETHER = (
    (Topic.RUN_LEDGER, Topic.RUN_REQUESTS, Topic.TASK_REPORTS),
    (Topic.REGISTRY_LEDGER, Topic.REGISTRY_REQUESTS),
    (Topic.DISPATCH_LEDGER, Topic.DISPATCH),
)
"""A ledger and the inputs of its decider: one owner has the same partition of all of them."""


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """What is asked."""

    kafka: KafkaSettings
    log: EventLog
    db: Database
    group: Membership
    clock: Clock
    slots: RunnerSlots


def checks(parts: ClusterParts) -> tuple[tuple[str, Check], ...]:
    """All of them, each with the name of its finding."""

    async def topics() -> Finding:
        return topics_finding(await topics_state(parts.kafka))

    async def access() -> Finding:
        return access_finding(await access_state(parts.kafka), parts.kafka)

    async def session() -> Finding:
        return session_finding(parts.group.session_ms)

    async def clocks() -> Finding:
        found = {**await _database_skew(parts), **await runner_skews(parts.log), **await decider_skews(parts.log)}
        return clocks_finding(found)

    async def connection() -> Finding:
        return connection_finding(parts.kafka)

    async def sandbox() -> Finding:
        return sandbox_finding(parts.slots.unsandboxed_hosts(parts.clock.boot_ms()))

    return (
        ("topics", topics),
        ("access", access),
        ("group sessions", session),
        ("clocks", clocks),
        ("connection to Kafka", connection),
        ("sandbox", sandbox),
    )


def topics_finding(state: TopicsState) -> Finding:
    """Are the topics there, as they should be?"""
    if state.missing:
        return failed("topics", f"missing: {', '.join(state.missing)}", "run python -m kernel.log.kafka create-topics")
    uneven = [
        ledger.value
        for ledger, *inputs in _DECIDED_TOGETHER
        if any(state.partitions[topic] != state.partitions[ledger] for topic in inputs)
    ]
    if uneven:
        advice = "the number is fixed at creation: make topics of another prefix, and move to them"
        return failed("topics", f"other numbers of partitions than their inputs: {', '.join(uneven)}", advice)
    told = f"{len(TOPICS)} topics, {sum(state.partitions.values())} partitions, {state.replication} copies"
    if state.deviating:
        return warning("topics", f"{told}; {'; '.join(state.deviating)}", "set them with the broker's own tools")
    if state.replication < min(3, state.brokers) or state.brokers == 1:
        advice = "have three brokers and three copies: with fewer a lost machine loses what was accepted"
        return warning("topics", f"{told} on {state.brokers} brokers", advice)
    return ok("topics", told)


def access_finding(state: AccessState, kafka: KafkaSettings) -> Finding:
    """May each process do what it needs? Ours is asked about itself, and the rules about all."""
    if own := state.lacking(GATEWAY.needs(kafka)):
        return failed("access", f"the gateway may not {_told(own)}", f"add the rules of {_ACCESS_LIST}")
    match state.rules:
        case Unseen.NO_AUTHORIZER:
            return ok("access", f"not checked: {state.rules}")
        case Unseen.NOT_ALLOWED:
            return ok("access", f"the gateway may do what it needs; others not checked: {state.rules}")
    nearest = {one.name: nearest_user(state.rules, one.needs(kafka)) for one in PROCESSES}
    short = {name: (user, lacking) for name, (user, lacking) in nearest.items() if lacking}
    if not short:
        return ok("access", f"by the rules some user may do what it needs, for each of {len(nearest)} kinds of process")
    told = "; ".join(
        f"{name} ({user} may not {_told(lacking)})" if user else name for name, (user, lacking) in short.items()
    )
    advice = f"add the rules of {_ACCESS_LIST}; super users, and brokers that allow what no rule names, need none"
    return warning("access", f"by the rules no user may do all that it needs: {told}", advice)


def _told(needs: Sequence[Need]) -> str:
    more = len(needs) - _NEEDS_TOLD
    return ", ".join(map(str, needs[:_NEEDS_TOLD])) + (f" and {more} more" if more > 0 else "")


def session_finding(session_ms: int) -> Finding:
    """How soon is a dead process taken over?"""
    told = f"the brokers allow sessions of {session_ms / 1000:g} s"
    if session_ms > SESSION_MS:
        return warning("group sessions", told, "takeover waits that long: set group.min.session.timeout.ms to 2000")
    return ok("group sessions", told)


def clocks_finding(skews_ms: Mapping[str, float]) -> Finding:
    """Do the clocks agree? Of each part how far it is ahead."""
    wrong = [f"{part} by {skew / 1000:+.1f} s" for part, skew in skews_ms.items() if abs(skew) > SKEW_MS_MAX]
    if wrong:
        advice = "keep all clocks by NTP: nothing is lost, but timers and takeovers wait"
        return warning("clocks", f"they differ: {', '.join(wrong)}", advice)
    return ok("clocks", f"{len(skews_ms)} others agree within a second")


def connection_finding(kafka: KafkaSettings) -> Finding:
    """Is what is said to the brokers secret and ours?"""
    hosts = {host for host, _ in kafka.addresses()}
    if kafka.security_protocol == "SASL_SSL" or hosts <= {"127.0.0.1", "localhost", "::1"}:
        return ok("connection to Kafka", f"{kafka.security_protocol} to {kafka.bootstrap}")
    advice = "set TOWPATH_KAFKA_SECURITY_PROTOCOL to SASL_SSL where others can listen or connect"
    return warning("connection to Kafka", f"{kafka.security_protocol} to {kafka.bootstrap}", advice)


def sandbox_finding(hosts: Sequence[str]) -> Finding:
    """Are pages shut in wherever browsers run? A runner refuses to start without, unless it is told otherwise."""
    if hosts:
        advice = "run runners as an ordinary user, without BROWSER_RUNNER_SANDBOX=false"
        return warning("sandbox", f"browsers without their sandbox on {', '.join(hosts)}", advice)
    return ok("sandbox", "no runner has browsers without their sandbox")


async def _database_skew(parts: ClusterParts) -> dict[str, float]:
    began_ms = parts.clock.now_ms()
    row = await parts.db.fetch_one("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
    assert row is not None, "a query without a table has one row"
    return {"the database": row[0] - (began_ms + parts.clock.now_ms()) / 2}


async def runner_skews(log: EventLog) -> dict[str, float]:
    """How far the clock of each runner's host is ahead of the brokers', by its newest heartbeat."""
    newest: dict[str, float] = {}
    for partition in range(log.partitions(Topic.DISPATCH)):
        end = await log.end_offset(Topic.DISPATCH, partition)
        for stored in await log.read(Topic.DISPATCH, partition, max(0, end - _LAST_RECORDS), max_records=_LAST_RECORDS):
            try:
                event = decode(stored).event
            except UnknownType:
                continue
            if isinstance(event, RunnerHeartbeat):
                newest[f"host {event.host_id}"] = event.sent_ms - stored.appended_ms
    return newest


async def decider_skews(log: EventLog) -> dict[str, float]:
    """How far the clocks of those who decide are ahead of the brokers', by the newest facts, at least.

    Each fact says when it was decided, and the broker when it came, which is later; how much later tells nothing of a
    clock, as facts of a former owner are told by its successor.
    """
    found: dict[str, float] = {}
    for topic, who in _DECIDED_BY.items():
        ahead_ms = 0.0
        for partition in range(log.partitions(topic)):
            end = await log.end_offset(topic, partition)
            for stored in await log.read(topic, partition, max(0, end - _LAST_FACTS), max_records=_LAST_FACTS):
                ahead_ms = max(ahead_ms, read_envelope(stored).time_ms - stored.appended_ms)
        found[who] = ahead_ms
    return found
