"""The examples in Go and Java, built as their README says and run on a real broker: the same model again."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.components import needs_kafka
from tests.support.example_subscribers import TOLD, Subscriber, build_go, build_java, built
from tests.support.outside_story import OutsideStory, outside_story
from tests.support.requires import requires

pytestmark = [needs_kafka, pytest.mark.timeout(600)]


@pytest.fixture
async def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OutsideStory]:
    monkeypatch.setenv("TOWPATH_TEST_LOG", "kafka")
    async with outside_story(tmp_path) as one:
        yield one


GO = pytest.param(
    "go",
    build_go,
    lambda home: [str(home / "subscriber")],
    marks=requires("Go", available=shutil.which("go") is not None, reason="install Go 1.24 or newer"),
    id="go",
)
JAVA = pytest.param(
    "java",
    build_java,
    lambda home: ["java", "-cp", f"{home / 'target/classes'}:{home / 'target/dependency'}/*", "subscriber.Subscriber"],
    marks=requires("Maven", available=shutil.which("mvn") is not None, reason="install Java 17 and Maven"),
    id="java",
)


@pytest.mark.parametrize(("language", "build", "command"), [GO, JAVA])
async def test_a_compiled_subscriber_finds_what_the_api_answers(
    story: OutsideStory,
    tmp_path: Path,
    language: str,
    build: Callable[[Path], None],
    command: Callable[[Path], list[str]],
) -> None:
    home = built(language, build)
    for fate in ("completed", "failed", "cancelled", "left"):
        await story.run(fate)
    told = await story.settled()
    where = {"TOWPATH_KAFKA": story.kafka.bootstrap, "TOWPATH_TOPIC_PREFIX": story.kafka.prefix}
    found = Subscriber(command(home), {**os.environ, **where}, tmp_path / "none").model()
    assert found["runs"] == {run: {name: answer[name] for name in TOLD} for run, answer in told.items()}
