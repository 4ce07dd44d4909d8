"""Planted secrets and personal values through the whole product: where may they be found, and where after an erasure?

One life of the product is lived for all of these tests (`tests/support/canary_story.py`). Secrets may be found nowhere.
Personal values may be found in what the holder of a key is answered, in the artifacts that are extracted data, and in a
trace, which was asked for and shows the pages as they were.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from embedded.platform import open_ground
from embedded.settings import Settings
from kernel.log.topics import TOPICS
from kernel.redaction import LiveSecrets
from tests.support.canary_story import Story, api_of, crawl, platform_over, tell
from tests.support.chromium import needs_chromium
from tests.support.disguises import search_for
from tests.support.platform_process import Trace
from tests.support.sealed_values import all_that_opens, customer_of, sealed_in

pytestmark = [needs_chromium, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A life that is over."""
    return asyncio.run(tell(tmp_path_factory.mktemp("canary")))


@pytest.fixture(scope="module")
def erased(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a crash would have left of that life, with its end customer erased by command."""
    folder = tmp_path_factory.mktemp("erased")
    shutil.copytree(story.crashed, folder / "data")
    assert (folder / "data" / "towpath.sqlite-wal").stat().st_size > 0
    scratch = Settings(folder / "data").scratch
    scratch.mkdir(exist_ok=True)
    (scratch / "download").write_text(story.external_id)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    done = subprocess.run(
        [sys.executable, "-m", "embedded", "erase-subject", story.external_id],
        env=environ | {"TOWPATH_DATA": str(folder / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(scratch.iterdir()) == []
    assert story.external_id not in done.stdout + done.stderr
    return folder


def tables(data: Path) -> Iterator[tuple[str, list[Any]]]:
    """Every row of the folder's file, by table."""
    with closing(sqlite3.connect(f"{(data / 'towpath.sqlite').as_uri()}?mode=ro", uri=True)) as file:
        names = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            yield name, file.execute(f'SELECT * FROM "{name}"').fetchall()


def events_of(data: Path) -> list[Any]:
    return [told.event for topic in TOPICS for told in Trace(data, topic).read()]


def test_no_secret_is_in_the_folder_in_a_process_in_an_answer_or_in_a_temporary_file(story: Story) -> None:
    search = search_for(*story.secrets)
    assert search.look_into(story.data) > 10
    for scratch in story.scratches:
        search.look_into(scratch)
    search.look((story.folder / "launcher.log").read_bytes(), "output")
    for answer in story.answers:
        search.look(answer.whole(), f"answer to {answer.call}")
    for name, rows in tables(story.data):
        for row in rows:
            for cell in row:
                search.look(cell if isinstance(cell, bytes) else str(cell), f"table {name}")
    for event in events_of(story.data):
        search.look(repr(event), f"event {type(event).__name__}")
    assert not search.hits, search.told()
    assert {name for name, _ in search.needles.values()} == {
        "password", "one-time code", "rejected code", "session cookie",
    }  # fmt: skip
    assert not story.live.hits, story.live.told()
    assert story.looked_at > 10
    assert story.left == []
    assert story.core_limits == {"0"}


def test_personal_values_stand_in_clear_in_answers_and_extracted_data_only(story: Story) -> None:
    search = search_for(*story.personal)
    spared = [path for path in (story.data / "blobs").rglob("*") if path.name in story.extracted]
    assert len(spared) == len(story.extracted) > 0
    search.look_into(story.data, spared)
    for scratch in story.scratches:
        search.look_into(scratch)
    search.look((story.folder / "launcher.log").read_bytes(), "output")
    for name, rows in tables(story.data):
        for row in rows:
            for cell in row:
                search.look(cell if isinstance(cell, bytes) else str(cell), f"table {name}")
    events = events_of(story.data)
    for event in events:
        search.look(repr(event), f"event {type(event).__name__}")
    assert not search.hits, search.told()
    assert sum(len(list(sealed_in(event))) for event in events) > 20

    answered = search_for(*story.personal)
    for answer in story.answers:
        answered.look(answer.whole(), answer.call)
    assert {hit.name for hit in answered.hits} == {value.name for value in story.personal}


def test_an_error_names_what_it_was_about_and_no_secret(story: Story) -> None:
    user, reference = (next(v.text for v in story.personal if v.name == name) for name in ("user name", "reference"))
    assert user in story.failures["not_there"]
    assert reference in story.failures["lost"]


def test_every_answer_was_named_and_none_was_a_fault_of_ours(story: Story) -> None:
    assert len(story.answers) > 40
    assert [(answer.call, answer.status) for answer in story.answers if answer.status >= 500] == []


def test_a_field_that_received_a_secret_is_covered_in_every_picture(story: Story) -> None:
    assert sorted(picture.step_id for picture in story.pictures) == ["code", "not_there", "password", "picture"]
    for picture in story.pictures:
        assert (picture.width, picture.height) == (1280, 720)
        assert picture.masked > 0.99, picture
        assert picture.masked_elsewhere < 0.01, picture


def test_what_attempts_left_behind_was_searched_too(story: Story) -> None:
    assert story.types["log_file"] == story.types["trace"] >= 3


def test_after_an_erasure_nothing_of_the_customer_is_left_in_the_folder(story: Story, erased: Path) -> None:
    search = search_for(*story.values())
    search.look_into(erased / "data")
    for name, rows in tables(erased / "data"):
        for row in rows:
            for cell in row:
                search.look(cell if isinstance(cell, bytes) else str(cell), f"table {name}")
    assert not search.hits, search.told()
    wal = erased / "data" / "towpath.sqlite-wal"
    assert not wal.exists() or wal.stat().st_size == 0


_KEPT = (("subjects", "wrapped_key"), ("secrets", "wrapped_key, box"), ("sessions", "wrapped_key, box"))


def test_after_an_erasure_the_keyring_opens_nothing_of_the_customer(story: Story, erased: Path) -> None:
    """Neither the wrapped keys nor the boxes of the vault nor the blobs are anywhere in any byte of the folder."""
    gone: dict[str, bytes] = {}
    with closing(sqlite3.connect(story.data / "towpath.sqlite")) as before:
        subject = customer_of(events_of(story.data))
        for table, columns in _KEPT:
            query = f"SELECT {columns} FROM {table} WHERE subject_id = ?"
            for row in before.execute(query, (subject,)):
                gone |= {f"{table}.{column}": bytes(cell) for column, cell in enumerate(row)}
        blobs = {row[0] for row in before.execute("SELECT sha256 FROM blob_owners WHERE subject_id = ?", (subject,))}
    assert (len(gone), len(blobs) > 5) == (5, True)
    files = {path.name: path.read_bytes() for path in (erased / "data").rglob("*") if path.is_file()}
    assert not blobs & files.keys()
    for what, value in gone.items():
        torn = (value[: len(value) // 2], value[len(value) // 2 :])
        assert not [name for name, content in files.items() if any(part in content for part in torn)], what
    sealed = [box for event in events_of(erased / "data") for box in sealed_in(event) if box.subject_id == subject]
    assert len(sealed) > 20


def test_what_the_keyring_still_opens_after_an_erasure_names_nobody(story: Story, erased: Path, tmp_path: Path) -> None:
    for folder, names in ((story.folder, {value.name for value in story.personal}), (erased, set())):
        shutil.copytree(folder / "data", tmp_path / folder.name / "data")
        search = search_for(*story.values())
        for text in asyncio.run(_all_that_opens(tmp_path / folder.name / "data")):
            search.look(text, "an opened box")
        assert {hit.name for hit in search.hits} == names, folder


async def _all_that_opens(data: Path) -> list[bytes]:
    async with AsyncExitStack() as stack:
        ground = await open_ground(Settings(data), stack, LiveSecrets())
        subjects = await ground.db.fetch_all("SELECT subject_id, organization_id FROM subjects")
        return await all_that_opens(ground.store.vault, subjects, events_of(data), tables(data))


_LEAK = """
import base64, gzip, sys
import kernel.store.secret as module
kept = module.Secret.reveal_text
def reveal_text(self):
    print("x" + base64.b64encode(gzip.compress(kept(self).encode())).decode(), file=sys.stderr, flush=True)
    return kept(self)
module.Secret.reveal_text = reveal_text
"""


def test_a_product_that_tells_its_secrets_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same life with a leak built in: whatever is opened is said on the terminal, packed and encoded."""
    (tmp_path / "leak").mkdir()
    (tmp_path / "leak" / "sitecustomize.py").write_text(_LEAK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "leak"))
    leaking = asyncio.run(tell(tmp_path))
    search = search_for(*leaking.secrets)
    search.look((tmp_path / "launcher.log").read_bytes(), "output")
    assert {hit.name for hit in search.hits} == {"password", "one-time code", "rejected code"}
    assert {hit.name for hit in leaking.live.hits} == {"password"}


def test_an_erasure_in_the_wrong_folder_says_so_and_makes_none(tmp_path: Path) -> None:
    environ = {**os.environ, "TOWPATH_DATA": str(tmp_path / "mistyped")}
    command = [sys.executable, "-m", "embedded", "erase-subject", "somebody"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no Towpath in" in done.stderr
    assert not (tmp_path / "mistyped").exists()


def test_the_platform_starts_again_after_an_erasure_and_knows_nobody(story: Story, erased: Path) -> None:
    folder = erased / "again"
    shutil.copytree(erased / "data", folder / "data")
    answers = asyncio.run(_crawl_again(folder, story))
    search = search_for(*story.values())
    for answer in answers:
        search.look(answer.whole(), answer.call)
    search.look_into(folder)
    assert not search.hits, search.told()
    assert [(answer.call, answer.status) for answer in answers if answer.status >= 500] == []
    lists = [answer for answer in answers if answer.call.count("/") == 1 and answer.call != "GET /nowhere"]
    assert len(lists) >= 8
    assert all(answer.status == 200 for answer in lists)


async def _crawl_again(folder: Path, story: Story) -> list[Any]:
    with platform_over(folder) as platform:
        platform.start()
        await asyncio.to_thread(platform.await_ready)
        async with api_of(platform) as api:
            return await crawl(api, story.ids, "somebody-else")
