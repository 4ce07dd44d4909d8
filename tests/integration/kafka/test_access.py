"""A broker behind TLS, SASL and the access list of the manual: each service can do what it needs, and nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from api_gateway.cluster_checks import access_finding
from api_gateway.doctor import Verdict
from kernel.clock import SystemClock
from kernel.errors import LogRefused
from kernel.log.kafka.access import PROCESSES, Kind, Process
from kernel.log.kafka.inspecting import Unseen, access_state
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.membership import Membership
from kernel.log.kafka.settings import KafkaSettings, kafka_settings
from kernel.log.port import Record
from kernel.log.topics import TOPICS, Topic
from kernel.refusing import REFUSED_EXIT_CODE
from tests.support.certificates import Authority
from tests.support.components import needs_kafka, needs_postgres
from tests.support.proof_jobs import make_job, run_job
from tests.support.secured_kafka import SecuredKafka
from tests.support.service_processes import ServiceProcesses, service_processes
from tools.events.access import OPERATOR, PREFIX, SUBSCRIBER, commands
from towpath.event_log.reading import brokers, records

pytestmark = needs_kafka

GROUPS = {group for one in PROCESSES for group in one.groups} - {"snapshots"}
SEER = "seer"
"""May describe the cluster: what the manual names for whoever wants `doctor` to see everybody's rules."""
PUBLIC = [topic for topic, row in TOPICS.items() if row.public]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secured")


@pytest.fixture(scope="module")
def kafka(folder: Path) -> Iterator[SecuredKafka]:
    """The broker with the users and rules of the manual, and the topics that an operator has made."""
    kafka = SecuredKafka(folder / "kafka")
    try:
        kafka.start()
        kafka.add_users([OPERATOR, SUBSCRIBER, SEER, *(f"{PREFIX}-{one.name}" for one in PROCESSES)])
        sees = f"kafka-acls.sh --bootstrap-server x --add --allow-principal User:{SEER} --operation Describe --cluster"
        kafka.allow([*commands(), sees])
        made = run("kernel.log.kafka", "create-topics", "--partitions", "1", **kafka.environ(OPERATOR, folder))
        assert made.returncode == 0, made.stderr
        yield kafka
    finally:
        kafka.kill()


def run(module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command, or a process that ends by itself."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60, check=False
    )


@asynccontextmanager
async def opened(
    kafka: SecuredKafka, user: str, folder: Path, topics: Iterable[Topic] = tuple(Topic)
) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.open(kafka_settings(kafka.environ(user, folder)), SystemClock(), topics=topics)
    try:
        yield log
    finally:
        await log.close()


async def allowed(does: Callable[[Topic], Awaitable[object]]) -> set[Topic]:
    """The topics for which the brokers let it be done."""
    found = set()
    for topic in Topic:
        try:
            await does(topic)
            found.add(topic)
        except LogRefused as error:
            if "authorization_failed" not in str(error):
                raise
    return found


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
async def test_a_process_reads_writes_and_deletes_where_it_needs_to_and_nowhere_else(
    kafka: SecuredKafka, folder: Path, process: Process
) -> None:
    async with opened(kafka, f"{PREFIX}-{process.name}", folder) as log:
        assert await allowed(lambda topic: log.read(topic, 0, 0)) == set(process.reads)
        assert await allowed(lambda topic: log.append([Record(topic, 0, "k", (), b"v")])) == set(process.writes)
        assert await allowed(lambda topic: log.delete_before(topic, 0, 0)) == set(process.ledgers)
        assert await allowed(lambda topic: log.end_offset(topic, 0)) == set(Topic)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
async def test_a_process_joins_its_own_group_and_no_other(kafka: SecuredKafka, folder: Path, process: Process) -> None:
    settings = kafka_settings(kafka.environ(f"{PREFIX}-{process.name}", folder))
    joined = set()
    for group in sorted(GROUPS):
        try:
            member = await Membership.join(settings, group, [Topic.JOB_RUNS], SystemClock())
            await member.leave()
            joined.add(group)
        except LogRefused as error:
            if f"no access to the consumer group {PREFIX}.{group}" not in str(error):
                raise
    assert joined == set(process.groups) & GROUPS


@pytest.mark.parametrize("process", [one for one in PROCESSES if one.ledgers], ids=lambda process: process.name)
async def test_an_owner_keeps_hints_of_its_snapshots(kafka: SecuredKafka, folder: Path, process: Process) -> None:
    async with opened(kafka, f"{PREFIX}-{process.name}", folder) as log:
        hint = log.snapshot_hint()
        async with asyncio.timeout(60):
            for ledger in process.ledgers:
                while await hint.get(ledger, 0) != 7:  # the broker makes its own topic of groups at the first use
                    await hint.set(ledger, 0, 7)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
async def test_a_process_sees_its_own_rights_and_not_the_rules_of_others(
    kafka: SecuredKafka, folder: Path, process: Process
) -> None:
    settings = kafka_settings(kafka.environ(f"{PREFIX}-{process.name}", folder))
    state = await access_state(settings)
    assert state.rules is Unseen.NOT_ALLOWED
    for other in PROCESSES:
        needs = {need for need in other.needs(settings) if need.kind is Kind.TOPIC}
        assert set(state.lacking(needs)) == needs - set(process.needs(settings))


async def test_doctor_finds_who_may_not_do_what_it_needs(kafka: SecuredKafka, folder: Path) -> None:
    operator = KafkaSettings(kafka.plain)
    found = access_finding(await access_state(operator), operator)
    assert (found.verdict, found.message.rpartition(", ")[2]) == (
        Verdict.OK,
        f"for each of {len(PROCESSES)} kinds of process",
    )
    gateway = kafka_settings(kafka.environ(f"{PREFIX}-api-gateway", folder))
    found = access_finding(await access_state(gateway), gateway)
    assert found.message.endswith("others not checked: we are not allowed to describe ACLs")
    seer = kafka_settings(kafka.environ(SEER, folder))
    assert set((await access_state(seer)).rules) == set((await access_state(operator)).rules)
    elsewhere = KafkaSettings(kafka.plain, prefix="elsewhere")
    found = access_finding(await access_state(elsewhere), elsewhere)
    assert (found.verdict, found.message.count(";")) == (Verdict.WARNING, len(PROCESSES) - 1)
    subscriber = kafka_settings(kafka.environ(SUBSCRIBER, folder))
    found = access_finding(await access_state(subscriber), subscriber)
    assert found.verdict is Verdict.FAILED
    assert found.message.startswith("the gateway may not describe towpath.run_requests.g1, ")


def subscription(kafka: SecuredKafka, folder: Path, group: str) -> dict[str, str | bool]:
    """What a client that is not ours is given."""
    environ = kafka.environ(SUBSCRIBER, folder)
    return {
        "bootstrap.servers": environ["TOWPATH_KAFKA"],
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": SUBSCRIBER,
        "sasl.password": Path(environ["TOWPATH_KAFKA_SASL_PASSWORD_FILE"]).read_text(),
        "ssl.ca.location": environ["TOWPATH_KAFKA_SSL_CA_FILE"],
        "ssl.certificate.location": environ["TOWPATH_KAFKA_SSL_CERT_FILE"],
        "ssl.key.location": environ["TOWPATH_KAFKA_SSL_KEY_FILE"],
        "group.id": group,
        "auto.offset.reset": "earliest",
    }


async def test_a_subscriber_reads_public_topics_only_and_writes_nothing(kafka: SecuredKafka, folder: Path) -> None:
    async with opened(kafka, SUBSCRIBER, folder, PUBLIC) as log:
        for topic in PUBLIC:
            await log.read(topic, 0, 0)
            with pytest.raises(LogRefused, match="authorization_failed"):
                await log.append([Record(topic, 0, "k", (), b"v")])
    for topic in set(Topic) - set(PUBLIC):
        with pytest.raises(LogRefused, match="topic_authorization_failed"):
            async with opened(kafka, SUBSCRIBER, folder, [topic]):
                pass


@needs_postgres
async def test_everything_works_together_behind_the_access_list(kafka: SecuredKafka, folder: Path) -> None:
    async with service_processes(folder / "services", kafka.plain) as processes:
        prefix = processes.kafka.prefix
        kafka.allow(command.replace(f"{PREFIX}.", f"{prefix}.") for command in commands())
        users = {one.name.replace("-", "_"): f"{PREFIX}-{one.name}" for one in PROCESSES}
        processes.own = {module: kafka.environ(user, folder) for module, user in users.items()}
        await processes.start_all()
        health = processes.start("scheduler", 2, "health", **processes.own["health"])
        await health.ready()
        await asyncio.to_thread(use, processes)
        seen = await asyncio.to_thread(followed, kafka, folder, prefix)
        assert "towpath.job_run.completed.v1" in seen
        assert not [one.name for one in processes.running if "AUTHORIZATION" in one.said.upper()]


def use(processes: ServiceProcesses) -> None:
    with processes.client() as client:
        run_job(client, make_job(client))
        findings = {finding.check: finding for finding in client.doctor().findings}
        assert not [finding for finding in findings.values() if finding.verdict == "failed"]
        assert findings["access"].message.startswith("the gateway may do what it needs; others not checked")


def followed(kafka: SecuredKafka, folder: Path, prefix: str) -> list[str]:
    """The types of what a subscriber reads of runs: by `towpath events tail`, and the same as a member of its group."""
    environ = kafka.environ(SUBSCRIBER, folder)
    at = brokers(environ["TOWPATH_KAFKA"], prefix, environ, {})
    told = [record.headers["ce_type"] for record in records(at, [Topic.JOB_RUNS], since_ms=0, follow=False)]
    consumer = Consumer(subscription(kafka, folder, f"{SUBSCRIBER}-orders"))
    try:
        consumer.subscribe([f"{prefix}.{Topic.JOB_RUNS}.g1"])
        messages = consumer.consume(len(told), 30)
        assert [message.error() for message in messages] == [None] * len(told)
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return told


# ---------------------------------------------------------------- refusals


def test_a_wrong_password_ends_a_process_with_one_clear_line(kafka: SecuredKafka, folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password")
    environ = kafka.environ(f"{PREFIX}-scheduler", folder) | {"TOWPATH_KAFKA_SASL_PASSWORD_FILE": str(wrong)}
    for module, arguments in (("scheduler", ()), ("kernel.log.kafka", ("create-topics",))):
        ended = run(module, *arguments, **environ)
        assert ended.returncode == REFUSED_EXIT_CODE, ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert f"the brokers do not let {PREFIX}-scheduler in" in ended.stderr


@pytest.mark.parametrize(
    ("rights", "line"),
    [
        ("", "is not created: topic_authorization_failed"),
        ("--operation Create", "topics are created, and we may not look at them: "),
    ],
)
def test_who_lacks_a_right_to_make_topics_is_told_at_once(
    kafka: SecuredKafka, folder: Path, rights: str, line: str
) -> None:
    user = f"maker{len(rights)}"
    kafka.add_users([user])
    if rights:
        resource = f"--resource-pattern-type prefixed --topic {PREFIX}."
        kafka.allow([f"kafka-acls.sh --bootstrap-server x --add --allow-principal User:{user} {rights} {resource}"])
    ended = run("kernel.log.kafka", "create-topics", "--partitions", "1", **kafka.environ(user, folder))
    assert ended.returncode == REFUSED_EXIT_CODE
    assert len(ended.stderr.splitlines()) == 1
    assert line in ended.stderr


def test_brokers_of_an_unknown_authority_are_refused_with_one_clear_line(
    kafka: SecuredKafka, folder: Path, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path).certificate
    environ = kafka.environ(f"{PREFIX}-scheduler", folder) | {"TOWPATH_KAFKA_SSL_CA_FILE": str(stranger)}
    ended = run("scheduler", **environ, TOWPATH_START_SECONDS="1")
    assert ended.returncode != 0
    assert len(ended.stderr.splitlines()) == 1
    assert "certificate" in ended.stderr
