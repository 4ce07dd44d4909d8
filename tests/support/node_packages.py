"""Node packages that tests need: installed once into `.tools/node` from a committed lock, which names no registry."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools" / "node"
HAS_NODE = shutil.which("node") is not None and shutil.which("npm") is not None
NODE_REASON = "install Node 20 or newer with npm"


def installed(lock: Path) -> Path:
    """The folder with the `node_modules` of a `package-lock.json`; made on the first call, shared by all workers.

    Skips the test, or fails it where everything is required, when the packages cannot be had.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder = TOOLS / digest
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / f"{digest}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _install(lock, folder)
    return folder


def _install(lock: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(lock.with_name(name), folder / name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm could not install {lock.relative_to(ROOT)}: {done.stderr[-500:]}")
    (folder / "complete").touch()
