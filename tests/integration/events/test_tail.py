"""`towpath events tail` against a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from api_gateway.key_store import KeyStore, NewKey
from api_gateway.principal import Level
from kernel.clock import SystemClock
from kernel.domain.ids import SubjectId, WorkflowRunId
from kernel.domain.workflow_run import WorkflowRunResumed
from kernel.ids import SystemEntropy
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import kafka_settings
from kernel.log.kafka.topics import create_topics
from kernel.log.topics import Topic
from tests.support.components import kafka_bootstrap, needs_kafka, unique_name
from tests.support.gateways import ACME, PEPPER, client_of
from tests.support.outside_story import OutsideStory, outside_story
from towpath.cli import cli
from towpath.commands.shared import App

pytestmark = [needs_kafka, pytest.mark.timeout(300)]
INTERRUPTS = 6


@pytest.fixture
async def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OutsideStory]:
    monkeypatch.setenv("TOWPATH_TEST_LOG", "kafka")
    async with outside_story(tmp_path) as one:
        yield one


class BlockingNetwork(httpx.BaseTransport):
    """A blocking client's way to an application that runs on the loop of another thread."""

    def __init__(self, client: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asking = self._client.request(request.method, request.url.raw_path.decode())
        answer = asyncio.run_coroutine_threadsafe(asking, self._loop).result(timeout=30)
        return httpx.Response(answer.status_code, content=answer.content)


def tail(story: OutsideStory, *options: str, network: httpx.BaseTransport | None = None) -> Result:
    environment = {"TOWPATH_KAFKA": story.kafka.bootstrap, "TOWPATH_TOPIC_PREFIX": story.kafka.prefix}
    app = App(environment={**environment, "TOWPATH_API_KEY": "the network has it"}, network=network)
    return CliRunner(env=environment).invoke(cli, ["events", "tail", *options], obj=app)


def as_json(story: OutsideStory, *options: str) -> list[dict[str, Any]]:
    result = tail(story, "--from", "beginning", "--no-follow", "--json", *options)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def test_any_topic_is_shown_from_the_beginning_and_ends_where_it_ends(story: OutsideStory) -> None:
    done, failed = await story.run("completed"), await story.run("failed")
    await story.settled()
    found = as_json(story)
    assert {one["topic"] for one in found} == {"job_runs", "definitions"}
    assert all(one["data"] is not None for one in found)
    of_one = as_json(story, "--topic", "job_runs", "--run", done)
    assert [one["sequence"] for one in of_one] == list(range(1, len(of_one) + 1))
    assert {one["key"] for one in of_one} == {done}
    assert [one["type"] for one in of_one][:2] == ["job_run.created", "job_run.started"]
    assert of_one[-1]["type"] == "job_run.completed"
    ends = as_json(story, "--type", "job_run.completed", "--type", "job_run.fa*")
    assert sorted(one["key"] for one in ends) == sorted([done, failed])
    inside = as_json(story, "--topic", "run_ledger", "--topic", "task_reports", "--topic", "registry_ledger")
    assert {"owner.claimed", "run.planned", "task.requested", "task.started"} <= {one["type"] for one in inside}
    assert all(one["data"] is not None for one in inside), "topics of our own services are decoded, too"


async def test_people_read_one_line_an_event(story: OutsideStory) -> None:
    run = await story.run("failed")
    await story.settled()
    lines = tail(story, "--from", "beginning", "--no-follow", "--run", run).stdout.splitlines()
    assert len(lines) == len(as_json(story, "--run", run))
    assert "job_run.created" in lines[0]
    assert "externalId=(sealed)" in lines[0]
    assert "code=target_missing" in lines[-1]
    assert f"{run[:8]} #{len(lines)}" in lines[-1]


def follow(where: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from towpath.cli import cli; cli()", "events", "tail", "--json", "--from", "1m"]
    return subprocess.Popen(command, env={**os.environ, **where}, stdout=subprocess.PIPE, text=True)


async def test_what_comes_later_is_followed(story: OutsideStory) -> None:
    where = {"TOWPATH_KAFKA": story.kafka.bootstrap, "TOWPATH_TOPIC_PREFIX": story.kafka.prefix}
    following = follow(where)
    try:
        run = await story.run("completed")
        await story.settled()
        assert following.stdout is not None
        for line in following.stdout:
            told = json.loads(line)
            if (told["key"], told["type"]) == (run, "job_run.completed"):
                break
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=60)  # reads on: what nobody reads would keep it from ending
        assert following.returncode == 130
    finally:
        following.kill()
        following.wait()
        if following.stdout is not None:
            following.stdout.close()


async def test_it_ends_on_ctrl_c_at_any_moment_while_records_come() -> None:
    where = {"TOWPATH_KAFKA": kafka_bootstrap(), "TOWPATH_TOPIC_PREFIX": unique_name("tail")}
    kafka, clock = kafka_settings(where), SystemClock()
    await create_topics(kafka, 2, topics=(Topic.JOB_RUNS, Topic.DEFINITIONS))
    log = await KafkaLog.open(kafka, clock, topics=(Topic.JOB_RUNS,))
    writing = asyncio.create_task(_write_on(log, clock))
    try:
        for _ in range(INTERRUPTS):
            moment = 2 * SystemEntropy().fraction()
            assert await asyncio.to_thread(_interrupted, where, moment) == 130, moment
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        await log.close()


async def _write_on(log: KafkaLog, clock: SystemClock) -> None:
    for number in count(1):
        event = WorkflowRunResumed(WorkflowRunId(f"run {number}"))
        envelope = Envelope(f"fact {number}", clock.now_ms(), sequence=1)
        await log.append([
            encode(event, topic=Topic.JOB_RUNS, key=event.workflow_run_id, envelope=envelope, partition=at)
            for at in range(2)
        ])  # fmt: skip
        await clock.sleep(0.01)


def _interrupted(where: dict[str, str], moment: float) -> int:
    """The exit code of one that is interrupted `moment` seconds after its first line."""
    with follow(where) as following:
        try:
            assert following.stdout is not None
            following.stdout.readline()
            threading.Timer(moment, following.send_signal, (signal.SIGINT,)).start()
            following.communicate(timeout=60)
        finally:
            following.kill()
        return following.returncode


async def test_sealed_values_are_opened_for_a_key_of_level_events_until_the_customer_is_erased(
    story: OutsideStory,
) -> None:
    run = await story.run("completed")
    await story.settled()
    services = story.gateway.services
    key = await KeyStore(services.db, PEPPER, story.gateway.clock, services.entropy).create(ACME, NewKey(Level.EVENTS))
    network = BlockingNetwork(client_of(story.gateway.app, key.text), asyncio.get_running_loop())

    async def created() -> dict[str, Any]:
        options = ("--from", "beginning", "--no-follow", "--json", "--unseal", "--run", run)
        result = await asyncio.to_thread(tail, story, *options, network=network)
        assert result.exit_code == 0, result.output
        # Meanwhile the gateway's log goes to standard output, too.
        lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[0])
        return found

    first = await created()
    assert first["opened"]["externalId"] == "customer completed"
    assert "customer" not in json.dumps(first["data"])
    await services.vault.erase_subject(SubjectId(first["data"]["subjectId"]))
    assert (await created())["opened"]["externalId"] is None


def test_a_broker_that_is_not_there_or_a_topic_that_is_not_is_said_in_plain_words() -> None:
    result = CliRunner().invoke(cli, ["events", "tail", "--kafka", "127.0.0.1:1", "--no-follow"], obj=App())
    assert result.exit_code == 1
    assert "Error: the event log at 127.0.0.1:1 does not answer" in result.stderr
    result = CliRunner(env={"TOWPATH_KAFKA": None}).invoke(cli, ["events", "tail"], obj=App())
    assert result.exit_code == 2
    assert "TOWPATH_KAFKA" in result.stderr


def test_ages_and_options_are_checked_before_anything_is_asked() -> None:
    for wrong in (["--from", "later"], ["-X", "novalue"], ["-X", "a=1", "-X", "a=2"]):
        result = CliRunner().invoke(cli, ["events", "tail", "--kafka", "127.0.0.1:1", *wrong], obj=App())
        assert result.exit_code == 2, wrong
