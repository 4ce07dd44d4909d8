"""The same planted values through a whole life of the cluster form, erased while it works.

What the story tells is held to the sentences of the embedded form, which stand in `tests/e2e/canary/test_canary.py`.
What is stored lies elsewhere here: topics, tables and objects are read by plain clients, and every file of broker,
PostgreSQL, its write-ahead log and the S3 server is searched beside them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest

from kernel.log.topics import GENERATION, TOPICS
from tests.e2e.canary.test_canary import (
    test_a_field_that_received_a_secret_is_covered_in_every_picture,  # noqa: F401 (held of this story, too)
    test_an_error_names_what_it_was_about_and_no_secret,  # noqa: F401 (held of this story, too)
    test_every_answer_was_named_and_none_was_a_fault_of_ours,  # noqa: F401 (held of this story, too)
    test_what_attempts_left_behind_was_searched_too,  # noqa: F401 (held of this story, too)
)
from tests.support.canary_story import Answer, Story, api_of, crawl, tell
from tests.support.chromium import chromium_path, needs_chromium
from tests.support.cluster_process import ClusterProcess
from tests.support.cluster_remains import Remains, remains_of
from tests.support.components import needs_kafka, needs_postgres, needs_s3
from tests.support.disguises import Planted, Search, search_for
from tests.support.platform_process import until
from tests.support.sealed_values import customer_of, sealed_in

pytestmark = [needs_chromium, needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(600)]
BROKER_TOPICS = {f"towpath.{topic}.{GENERATION}" for topic in TOPICS}
GATEWAYS = ("api-gateway-1", "api-gateway-2")


@dataclass(slots=True)
class Life:
    """A life that is over: the story, and what was stored before and after the end customer was erased."""

    story: Story
    before: Remains = field(init=False)
    after: Remains = field(init=False)
    answers_after: list[Answer] = field(init=False)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("canary-in-a-cluster")
    found: list[Life] = []

    async def erase(story: Story, product: ClusterProcess) -> None:
        found.append(await _erase(story, product))

    asyncio.run(tell(folder, _cluster_over, erase))
    return found[0]


@pytest.fixture(scope="module")
def story(life: Life) -> Story:
    return life.story


def _cluster_over(folder: Path) -> ClusterProcess:
    (folder / "scratch").mkdir(exist_ok=True)
    return ClusterProcess(folder, browser=chromium_path(), TOWPATH_DEMO="0", TMPDIR=str(folder / "scratch"))


async def _erase(story: Story, product: ClusterProcess) -> Life:
    """Keep what there is, erase the customer by command, and look again with gateways that have no key in memory."""
    life = Life(story)
    life.before = await remains_of(product)
    await asyncio.to_thread(_copy, story.data, story.crashed)
    organization = (story.data / "organization-id").read_text().strip()
    environ = _environment(product.pid(GATEWAYS[0]))
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "api_gateway", "erase", organization, story.external_id],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert story.external_id not in done.stdout + done.stderr
    await asyncio.to_thread(_start_anew, product)
    life.after = await remains_of(product)
    async with api_of(product) as api:
        life.answers_after = await crawl(api, story.ids, "somebody-else")
    return life


def _environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().rstrip("\0").split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


def _copy(source: Path, target: Path) -> None:
    """The files of servers that run: some go while they are copied."""
    with suppress(shutil.Error):
        shutil.copytree(source, target)


def _start_anew(product: ClusterProcess) -> None:
    """Kill both gateways, wait until the launcher has replaced them."""
    for name in GATEWAYS:
        os.kill(product.pid(name), signal.SIGKILL)
        product.await_said(f"{name} died (signal 9); started again")
    until(lambda: _are_ready(product.endpoints()["gateways"]), 60, "gateways that are ready", pause_seconds=0.1)


def _are_ready(urls: list[str]) -> bool:
    with suppress(OSError):
        for url in urls:
            urlopen(f"{url}/health/ready", timeout=5).close()
        return True
    return False


def look_at_files(search: Search, data: Path) -> None:
    """Every file of the folder; there is some of each server and of each service."""
    assert search.look_into(data) > 100
    assert {path.name for path in data.iterdir() if path.is_dir()} >= {"kafka", "postgres", "s3", "logs", "keys"}
    assert sorted(data.rglob("pg_wal/0*")), "the write-ahead log was searched"
    assert len(list((data / "logs").iterdir())) == 9, "what each service said was searched"


def test_the_same_search_finds_the_id_of_a_run_wherever_it_looks(life: Life) -> None:
    run = next(path.rpartition("/")[2] for path in life.story.ids if path.startswith("/job-runs/"))
    search = search_for(Planted("run", run, run))
    life.before.look(search)
    search.look_into(life.story.data)
    places = {hit.where for hit in search.hits}
    assert {f"topic towpath.{topic}.{GENERATION}" for topic in ("run_requests", "run_ledger", "job_runs")} <= places
    assert any(place.startswith("table ") for place in places)
    for folder in ("kafka/", "postgres/data/base/", "postgres/data/pg_wal/"):
        assert any(place.startswith(folder) for place in places), folder
    assert {record.topic for record in life.before.records} >= {"__consumer_offsets", *BROKER_TOPICS}


def test_no_secret_is_in_a_topic_a_table_an_object_a_log_a_process_or_an_answer(life: Life) -> None:
    story = life.story
    search = search_for(*story.secrets)
    life.before.look(search)
    look_at_files(search, story.crashed)
    look_at_files(search, story.data)
    for scratch in story.scratches:
        search.look_into(scratch)
    search.look((story.folder / "launcher.log").read_bytes(), "output")
    for answer in (*story.answers, *life.answers_after):
        search.look(answer.whole(), f"answer to {answer.call}")
    assert not search.hits, search.told()
    assert {name for name, _ in search.needles.values()} == {
        "password", "one-time code", "rejected code", "session cookie",
    }  # fmt: skip
    assert not story.live.hits, story.live.told()
    assert story.looked_at > 100
    assert story.left == []


def test_personal_values_stand_in_clear_in_answers_and_extracted_data_only(life: Life) -> None:
    story = life.story
    search = search_for(*story.personal)
    life.before.look(search)
    spared = [path for path in (story.crashed / "s3").rglob("*") if path.name in story.extracted]
    assert len(spared) == len(story.extracted) > 0
    search.look_into(story.crashed, spared)
    assert not search.hits, search.told()
    assert sum(len(list(sealed_in(event))) for event in life.before.events) > 20

    answered = search_for(*story.personal)
    for answer in story.answers:
        answered.look(answer.whole(), answer.call)
    assert {hit.name for hit in answered.hits} == {value.name for value in story.personal}


def test_after_an_erasure_nothing_of_the_customer_is_in_any_server_or_answer(life: Life) -> None:
    search = search_for(*life.story.values())
    life.after.look(search)
    look_at_files(search, life.story.data)
    for answer in life.answers_after:
        search.look(answer.whole(), answer.call)
    assert not search.hits, search.told()
    assert [(answer.call, answer.status) for answer in life.answers_after if answer.status >= 500] == []


def test_after_an_erasure_no_key_secret_login_or_blob_of_the_customer_is_kept(life: Life) -> None:
    customer = customer_of(life.before.events)
    for table in ("subjects", "secrets", "sessions", "blob_owners"):
        assert [row for row in life.before.rows(table) if customer in row], table
        assert [row for row in life.after.rows(table) if customer in row] == [], table
    kept = {path.name for path in (life.story.data / "s3").rglob("*")}
    blobs = {path.name for path in (life.story.crashed / "s3").rglob("*") if path.name in life.story.extracted}
    assert blobs
    assert not blobs & kept
    sealed = [box for event in life.after.events for box in sealed_in(event) if box.subject_id == customer]
    assert len(sealed) > 20


def test_what_keys_still_open_after_an_erasure_names_nobody(life: Life) -> None:
    for remains, names in ((life.before, {value.name for value in life.story.personal}), (life.after, set[str]())):
        search = search_for(*life.story.values())
        for text in remains.opened:
            search.look(text, "an opened box")
        assert {hit.name for hit in search.hits} == names
