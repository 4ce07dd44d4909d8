"""The manual is built as a site, and no link of it is dead."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOREIGN = re.compile(r"""(?:src|href)="(?:https?:)?//[^"]+\.(?:js|css|woff2?)(?:\?[^"]*)?\"""")


@pytest.mark.timeout(300)
def test_the_site_is_built_without_a_dead_link_and_loads_nothing_foreign(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "dirhtml", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("index.html"))
    assert {page.parent.name for page in pages} >= {
        *("getting-started", "examples", "writing-workflows", "running-and-watching", "when-things-fail"),
        *("api", "configuration", "architecture", "security"),
    }
    for page in pages:
        assert not FOREIGN.findall(page.read_text()), page
