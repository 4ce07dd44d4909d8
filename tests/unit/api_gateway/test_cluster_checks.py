"""What `doctor` says of topics, rights, groups, clocks and the line to Kafka."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api_gateway.cluster_checks import (
    access_finding,
    clocks_finding,
    connection_finding,
    decider_skews,
    runner_skews,
    sandbox_finding,
    session_finding,
    topics_finding,
)
from api_gateway.doctor import Verdict
from kernel.domain.ids import Incarnation, WorkflowRunId
from kernel.domain.task import RunnerHeartbeat
from kernel.domain.values import Pool
from kernel.domain.workflow_run import WorkflowRunResumed
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.kafka.access import GATEWAY, PROCESSES, Kind, Right, Rule
from kernel.log.kafka.inspecting import AccessState, TopicsState, Unseen
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.memory import MemoryLog
from kernel.log.topics import Topic
from tests.support.reports import TestClock

KAFKA = KafkaSettings("127.0.0.1:9092")
ALL_RIGHTS = {need.name: (1 << 13) - 1 for need in GATEWAY.needs(KAFKA) if need.kind is Kind.TOPIC}
GOOD = TopicsState(3, (), {topic.value: 12 for topic in Topic}, 3, ())


def test_topics_as_they_should_be_are_in_order() -> None:
    assert topics_finding(GOOD).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("state", "verdict", "said"),
    [
        (replace(GOOD, missing=("towpath.links.g1",)), Verdict.FAILED, "missing: towpath.links.g1"),
        (replace(GOOD, partitions={**GOOD.partitions, "dispatch": 4}), Verdict.FAILED, "dispatch_ledger"),
        (replace(GOOD, deviating=("job_runs: retention.ms is 1, not -1",)), Verdict.WARNING, "retention.ms is 1"),
        (replace(GOOD, replication=1), Verdict.WARNING, "1 copies on 3 brokers"),
        (replace(GOOD, brokers=1, replication=1), Verdict.WARNING, "1 copies on 1 brokers"),
    ],
)
def test_what_is_wrong_with_topics_is_named(state: TopicsState, verdict: Verdict, said: str) -> None:
    finding = topics_finding(state)
    assert finding.verdict is verdict
    assert said in finding.message
    assert finding.advice


def rules_for(*names: str) -> list[Rule]:
    """What the manual would have an operator add, one user for each of these processes."""
    return [
        Rule(need.kind, need.name, 3, f"User:{one.name}", "*", need.right, 3)
        for one in PROCESSES
        if one.name in names
        for need in one.needs(KAFKA)
    ]


def test_rules_that_let_each_process_do_what_it_needs_are_in_order() -> None:
    state = AccessState(ALL_RIGHTS, tuple(rules_for(*(one.name for one in PROCESSES))))
    assert access_finding(state, KAFKA).verdict is Verdict.OK


def test_a_process_that_no_user_could_be_is_named_with_what_the_nearest_one_lacks() -> None:
    rules = rules_for("api-gateway", "scheduler", "health", "browser-runner", "artifact-store")
    rules.remove(Rule(Kind.TOPIC, "towpath.run_ledger.g1", 3, "User:scheduler", "*", Right.DELETE, 3))
    found = access_finding(AccessState(ALL_RIGHTS, tuple(rules)), KAFKA)
    assert found.verdict is Verdict.WARNING
    assert found.message.endswith("all that it needs: scheduler (User:scheduler may not delete towpath.run_ledger.g1)")
    nobody = access_finding(AccessState(ALL_RIGHTS, ()), KAFKA)
    assert nobody.message.endswith(": api-gateway; scheduler; health; browser-runner; artifact-store")
    assert "super users" in nobody.advice


@pytest.mark.parametrize("unseen", Unseen)
def test_rules_that_are_not_to_be_seen_are_no_fault(unseen: Unseen) -> None:
    found = access_finding(AccessState(ALL_RIGHTS, unseen), KAFKA)
    assert (found.verdict, found.advice) == (Verdict.OK, "")
    assert f"not checked: {unseen}" in found.message


def test_what_the_gateway_itself_may_not_do_has_failed_whatever_the_rules() -> None:
    name = KAFKA.broker_topic(Topic.REGISTRY_LEDGER)
    rights = {**ALL_RIGHTS, name: 1 << Right.DESCRIBE | 1 << Right.READ}
    found = access_finding(AccessState(rights, Unseen.NOT_ALLOWED), KAFKA)
    assert found.verdict is Verdict.FAILED
    assert found.message == f"the gateway may not describe configs {name}, write {name}, delete {name}"
    assert access_finding(AccessState(dict.fromkeys(rights, 0), Unseen.NOT_ALLOWED), KAFKA).message.endswith(" more")
    assert access_finding(AccessState({}, Unseen.NOT_ALLOWED), KAFKA).verdict is Verdict.OK, "they are missing"


def test_sessions_longer_than_wanted_are_a_warning() -> None:
    assert session_finding(2000).verdict is Verdict.OK
    assert session_finding(6000).verdict is Verdict.WARNING


def test_clocks_that_differ_by_more_than_a_second_are_named() -> None:
    assert clocks_finding({"the database": 900.0, "host a": -20.0}).verdict is Verdict.OK
    finding = clocks_finding({"the database": 10.0, "host a": -2500.0})
    assert finding.verdict is Verdict.WARNING
    assert "host a by -2.5 s" in finding.message


async def test_a_runner_tells_its_clock_by_its_newest_heartbeat() -> None:
    clock = TestClock()
    log = MemoryLog({Topic.DISPATCH: 2}, clock)

    async def beat(host: str, ahead_ms: int, partition: int) -> None:
        now_ms = clock.now_ms()
        event = RunnerHeartbeat(Incarnation(host), host, Pool.LIGHT, 0, 4, False, (), now_ms + ahead_ms)
        envelope = Envelope("id", now_ms)
        await log.append([encode(event, topic=Topic.DISPATCH, key="light/0", envelope=envelope, partition=partition)])

    await beat("a", 9000, 0)
    await beat("a", -20, 0)
    await beat("b", -3000, 1)
    skews = await runner_skews(log)
    assert skews == {"host a": -20, "host b": -3000}
    assert clocks_finding(skews).message == "they differ: host b by -3.0 s"


async def test_deciders_whose_clock_is_ahead_are_found_by_the_facts_that_they_have_just_told() -> None:
    clock = TestClock()
    log = MemoryLog({Topic.JOB_RUNS: 2, Topic.DEFINITIONS: 1}, clock)

    async def tell(ahead_ms: int, partition: int) -> None:
        envelope = Envelope("id", clock.now_ms() + ahead_ms, sequence=1)
        event = WorkflowRunResumed(WorkflowRunId("run"))
        await log.append([encode(event, topic=Topic.JOB_RUNS, key="run", envelope=envelope, partition=partition)])

    assert await decider_skews(log) == {"the schedulers": 0, "the gateways": 0}
    await tell(-60_000, 0)
    assert clocks_finding(await decider_skews(log)).verdict is Verdict.OK, "it may have been told late"
    await tell(2500, 1)
    assert "the schedulers by +2.5 s" in clocks_finding(await decider_skews(log)).message
    for _ in range(20):
        await tell(0, 1)
    assert clocks_finding(await decider_skews(log)).verdict is Verdict.OK, "it was put right since"


def test_browsers_without_their_sandbox_are_a_warning() -> None:
    assert sandbox_finding([]).verdict is Verdict.OK
    assert sandbox_finding(["node-1"]).verdict is Verdict.WARNING


def test_an_open_line_to_a_broker_elsewhere_is_a_warning() -> None:
    assert connection_finding(KafkaSettings("127.0.0.1:9092")).verdict is Verdict.OK
    assert connection_finding(KafkaSettings("kafka:9092")).verdict is Verdict.WARNING
    assert connection_finding(KafkaSettings("kafka:9092", security_protocol="SASL_SSL")).verdict is Verdict.OK
