"""What the documents tell a newcomer to type, typed: every `bash` block of a page, in order, against the product.

Only what differs from machine to machine is put in its place: the two ports, the data folder, the virtual environment,
and how often a stream must be looked at for five seconds until it tells of the question.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import chromium_path, needs_chromium
from tests.support.platform_process import PlatformProcess, until

ROOT = Path(__file__).resolve().parents[3]
BASH = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
GLANCE = re.compile(r"^curl .*--max-time 5 .*$", re.MULTILINE)
ASKED = "event: workflow_run.awaiting_user_input"
JSON = re.compile(r"Put this into `([\w.]+)`:\n\n```json\n(.*?)^```", re.DOTALL | re.MULTILINE)

pytestmark = [needs_chromium, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """The product with its demo shop, once the demo is over."""
    with PlatformProcess(tmp_path_factory.mktemp("docs"), browser=chromium_path()) as running:
        running.start()
        running.await_ready()
        until(lambda: "keeps serving" in running.said(), 120, "the end of the demo", pause_seconds=0.1)
        yield running


def typed(page: str, platform: PlatformProcess, folder: Path) -> str:
    """Type the `bash` blocks of `page` in `folder`; what the terminal shows."""
    text = (ROOT / page).read_text().replace(":8700", f":{platform.port}").replace(":8701", f":{platform.port + 1}")
    for name, content in JSON.findall(text):
        (folder / name).write_text(content)
    (folder / ".towpath").symlink_to(platform.data)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    for file in (ROOT / "examples").rglob("*.json"):
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text().replace(":8701", f":{platform.port + 1}"))
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TOWPATH_URL": platform.url}
    commands = GLANCE.sub(
        lambda glance: f"until {glance[0]} | grep '^{ASKED}'; do :; done", "\n".join(BASH.findall(text))
    )
    shell = subprocess.run(
        ["bash", "-u"],
        input=commands,
        cwd=folder,
        env=environ,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    # curl says that it left the stream after five seconds, as it was told to.
    assert "Traceback" not in shell.stderr, shell.stderr
    return shell.stdout


def test_the_first_steps_of_the_readme_work_as_written(platform: PlatformProcess, tmp_path: Path) -> None:
    shown = typed("README.md", platform, tmp_path)
    assert ASKED in shown
    assert "event: workflow_run.completed" in shown
    assert shown.endswith("COMPLETED\n")
    assert (tmp_path / "picture.jpg").read_bytes().startswith(b"\xff\xd8")


def test_getting_started_works_as_written(platform: PlatformProcess, tmp_path: Path) -> None:
    shown = typed("docs/getting-started.md", platform, tmp_path)
    assert "First job: completed" in shown
    assert "buttons.json" in shown


def test_the_examples_work_as_written(platform: PlatformProcess, tmp_path: Path) -> None:
    shown = typed("docs/examples.md", platform, tmp_path)
    assert "prices.json" in shown
    assert shown.count("Export with an app: completed") == 2
    assert "no action taken" in shown
    assert "refused, as it should be" in shown
    book = platform.data / "demo-shop" / "collected.messages.jsonl"
    assert [json.loads(line)["reference"] for line in book.read_text().splitlines()] == ["example-1"]
