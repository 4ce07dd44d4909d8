"""Subscribers with plain Kafka clients rebuild the read model of job runs, and it is what the API answers.

They are the programs of `examples/subscribe-to-events`, as people are told to run them: killed at any moment, started
again at an older offset, while a scheduler is killed and its partitions are taken over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.components import needs_kafka
from tests.support.eventually import until
from tests.support.example_subscribers import TOLD, Subscriber, node_example, python_example
from tests.support.node_packages import HAS_NODE, NODE_REASON
from tests.support.outside_story import OutsideStory, kill, outside_story
from tests.support.requires import requires

pytestmark = [needs_kafka, requires("Node", available=HAS_NODE, reason=NODE_REASON), pytest.mark.timeout(300)]


@pytest.fixture
async def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OutsideStory]:
    monkeypatch.setenv("TOWPATH_TEST_LOG", "kafka")
    async with outside_story(tmp_path) as one:
        yield one


@pytest.fixture
def subscribers(story: OutsideStory, tmp_path: Path) -> list[Subscriber]:
    where = {"TOWPATH_KAFKA": story.kafka.bootstrap, "TOWPATH_TOPIC_PREFIX": story.kafka.prefix}
    return [python_example(tmp_path, where), node_example(tmp_path, where)]


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
    await until(lambda: all(subscriber.state.exists() for subscriber in subscribers), seconds=60)
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
