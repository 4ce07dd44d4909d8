"""Makes `.venv` hold exactly what the requirement files say, and our own packages. Only the standard library.

    python3 tools/setup.py run        what `make run` needs
    python3 tools/setup.py cluster    what `make up` needs on top: clients of Kafka, PostgreSQL and S3
    python3 tools/setup.py dev        what `make check test` needs on top of both

It may be called at any time: when a stamp of all requirement files and pyprojects matches, it is over at once. The
installer is uv: the one on PATH, or one of our own in `.tools/uv`, pinned by `requirements/uv.txt`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
STAMP = VENV / "towpath-stamp"
MEMBERS = (
    *("protos/gen", "kernel", "services/api-gateway", "services/scheduler", "services/browser-runner"),
    *("services/artifact-store", "deploy/embedded", "deploy/cluster", "clients/python"),
)
LEVELS = ("run", "cluster", "dev")
"""Each holds all of the one before."""
OLDEST = (3, 11)
NO_PYTHON = """Towpath needs Python 3.11 or newer and found none.
  Debian, Ubuntu:  apt-get install python3 python3-venv
  macOS:           brew install python@3.12"""
NO_INSTALLER = """Towpath installs its packages with uv. This machine has neither uv, nor pip, nor a working venv.
Do one of these and call make again:
  Debian, Ubuntu:  sudo apt-get install python3-venv
  anywhere:        install uv so that `uv --version` answers"""


def say(text: str) -> None:
    """One line of progress."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def call(*command: str | Path) -> bool:
    """Run `command` with its output shown; whether it succeeded."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode == 0


def must(*command: str | Path) -> None:
    """Run `command`; end the program when it fails, its output has told why."""
    if not call(*command):
        sys.exit(f"setup: failed: {' '.join(str(part) for part in command)}")


def find_python() -> str:
    """An interpreter that is new enough: the one that runs this, else one on PATH."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in range(14, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    sys.exit(NO_PYTHON)


def find_uv(python: str) -> Path:
    """The installer; brought here when the machine has none."""
    own = TOOLS / "uv" / "bin" / "uv"
    found = shutil.which("uv")
    if found:
        return Path(found)
    if not own.exists():
        say("bringing the installer (uv)")
        bring_uv(python)
    return own


def bring_uv(python: str) -> None:
    """Install uv into `.tools/uv` with whatever this machine has: venv, else pip, else (as root) apt."""
    if not has_module(python, "ensurepip") and not has_module(python, "pip"):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            sys.exit(NO_INSTALLER)
        say("python3-venv is missing; installing it by apt-get")
        must("apt-get", "update", "-qq")
        must("apt-get", "install", "-qq", "-y", "--no-install-recommends", "python3-venv")
    target = TOOLS / "uv"
    hashed = ("install", "--quiet", "--require-hashes", "-r", ROOT / "requirements" / "uv.txt")
    if has_module(python, "ensurepip"):
        must(python, "-m", "venv", "--clear", target)
        must(target / "bin" / "python", "-m", "pip", *hashed)
    else:
        must(python, "-m", "pip", *hashed, "--target", target)


def has_module(python: str, name: str) -> bool:
    """Whether `python` could import `name`."""
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([python, "-c", probe], check=False).returncode == 0


def stamp_of(level: str) -> str:
    """What an up-to-date `.venv` of `level` was made from."""
    files = [ROOT / "requirements" / f"{level}.txt", *(ROOT / member / "pyproject.toml" for member in MEMBERS)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"{level} {digest.hexdigest()}"


def up_to_date(level: str) -> bool:
    """Whether `.venv` already is what `level` asks for, or more."""
    if not STAMP.exists() or not (VENV / "bin" / "python").exists():
        return False
    return STAMP.read_text() in {stamp_of(enough) for enough in LEVELS[LEVELS.index(level) :]}


def install(level: str) -> None:
    """Bring `.venv` to `level`."""
    python = find_python()
    uv = find_uv(python)
    if not (VENV / "bin" / "python").exists():
        say("making .venv")
        must(uv, "venv", "--quiet", "--python", python, VENV)
    target = ("--python", VENV / "bin" / "python")
    STAMP.unlink(missing_ok=True)
    say(f"installing requirements/{level}.txt")
    must(uv, "pip", "sync", "--quiet", *target, "--require-hashes", f"requirements/{level}.txt")
    say("installing the members of the workspace")
    editable = [part for member in MEMBERS for part in ("-e", f"./{member}")]
    must(uv, "pip", "install", "--quiet", *target, "--no-deps", "--no-build-isolation", *editable)
    STAMP.write_text(stamp_of(level))


def main() -> int:
    """Install what is asked for, unless it is there. 0 when it is there at the end."""
    level = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if level not in LEVELS:
        sys.exit("usage: setup.py [run|cluster|dev]")
    if up_to_date(level):
        return 0
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not up_to_date(level):
            kept = STAMP.read_text().split()[0] if STAMP.exists() else level
            install(max(level, kept, key=LEVELS.index))
    return 0


if __name__ == "__main__":
    sys.exit(main())
