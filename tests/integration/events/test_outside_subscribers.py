"""Subscribers with plain Kafka clients rebuild the read model of job runs, and it is what the API answers.

They are the programs of `examples/subscribe-to-events`, as people are told to run them: killed at any moment, started
again at an older offset, while a scheduler is killed and its partitions are taken over.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from grpc_tools import protoc

from tests.support.components import needs_kafka
from tests.support.node_packages import HAS_NODE, NODE_REASON, installed
from tests.support.outside_story import OutsideStory, kill, outside_story
from tests.support.requires import requires

pytestmark = [needs_kafka, requires("Node", available=HAS_NODE, reason=NODE_REASON), pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples/subscribe-to-events"
TOLD = (
    *("id", "jobId", "organizationId", "status", "workflowRunIds", "workflowRevisions", "testMode", "retryOf"),
    *("createdByUserId", "createdAt", "startedAt", "completedAt", "updatedAt", "errorReason", "failedStep"),
)
"""What both sides tell of a job run."""


@dataclass
class Subscriber:
    """One of the example programs."""

    command: list[str]
    environ: dict[str, str]
    state: Path

    def follow(self) -> subprocess.Popen[bytes]:
        """Follow for ever."""
        with self.state.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(self.command, env=self.environ, stdout=log, stderr=log)

    def model(self) -> dict[str, Any]:
        """Go on to the present end; the model."""
        command = [*self.command, "--until-end"]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def forget_last(self, records: int) -> None:
        """Deliver the last records of each partition again."""
        saved = json.loads(self.state.read_text())
        assert saved["runs"], "it has followed before it was killed"
        saved["offsets"] = {at: max(0, offset - records) for at, offset in saved["offsets"].items()}
        self.state.write_text(json.dumps(saved))


@pytest.fixture
async def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OutsideStory]:
    monkeypatch.setenv("TOWPATH_TEST_LOG", "kafka")
    async with outside_story(tmp_path) as one:
        yield one


@pytest.fixture
def subscribers(story: OutsideStory, tmp_path: Path) -> list[Subscriber]:
    where = {"TOWPATH_KAFKA": story.kafka.bootstrap, "TOWPATH_TOPIC_PREFIX": story.kafka.prefix}
    return [python_example(tmp_path, where), node_example(tmp_path, where)]


def python_example(folder: Path, where: dict[str, str]) -> Subscriber:
    """With classes that are generated as its README says."""
    home = folder / "python"
    shutil.copytree(EXAMPLES / "python", home)
    include = Path(grpc_tools.__file__).parent / "_proto"
    protos = [str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos/contracts/v1").glob("*.proto")]
    assert protoc.main(["protoc", f"-I{ROOT / 'protos'}", f"-I{include}", f"--python_out={home}", *protos]) == 0
    for package in ("contracts", "contracts/v1"):
        (home / package / "__init__.py").touch()  # else our own package of this name would be found first
    state = folder / "python.json"
    command = [sys.executable, str(home / "subscriber.py"), "--state", str(state)]
    return Subscriber(command, {**os.environ, **where}, state)


def node_example(folder: Path, where: dict[str, str]) -> Subscriber:
    home = folder / "node"
    shutil.copytree(EXAMPLES / "node", home)
    (home / "node_modules").symlink_to(installed(EXAMPLES / "node/package-lock.json") / "node_modules")
    state = folder / "node.json"
    environ = {**os.environ, **where, "PROTOS": str(ROOT / "protos"), "STATE": str(state)}
    return Subscriber(["node", str(home / "subscriber.mjs")], environ, state)


async def test_outsiders_end_with_what_the_api_answers(
    request: pytest.FixtureRequest, story: OutsideStory, subscribers: list[Subscriber]
) -> None:
    followers = [subscriber.follow() for subscriber in subscribers]
    for follower in followers:
        request.addfinalizer(partial(kill, follower))
    for fate in ("completed", "failed", "cancelled", "left", "completed"):
        await story.run(fate)
    begun = [await story.start(fate) for fate in ("completed", "failed", "cancelled", "completed")]
    owner = await story.owner_of(begun[0])
    kill(owner)
    for follower in followers:
        kill(follower)
    for run in begun:
        await story.go_on(run)
    for fate in ("completed", "failed", "left"):
        await story.run(fate)
    told = await story.settled()
    assert len(told) == 12
    assert await story.owner_of(begun[0]) is not owner, "the other one has taken over"
    for subscriber in subscribers:
        subscriber.forget_last(20)
        found = subscriber.model()
        assert found["repeated"] > 0, "nothing was delivered twice"
        assert sorted(found["runs"]) == sorted(told)
        for run, answer in told.items():
            assert found["runs"][run] == {name: answer[name] for name in TOLD}, run


async def test_whoever_comes_late_finds_the_same_from_the_start(
    story: OutsideStory, subscribers: list[Subscriber]
) -> None:
    for fate in ("completed", "failed", "cancelled"):
        await story.run(fate)
    told = await story.settled()
    for subscriber in subscribers:
        found = subscriber.model()
        assert found["repeated"] == 0
        assert found["runs"] == {run: {name: answer[name] for name in TOLD} for run, answer in told.items()}
