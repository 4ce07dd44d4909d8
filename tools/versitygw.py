"""Finds the S3 server of `make up` and of tests, or builds it; prints its path. Only the standard library.

    python3 tools/versitygw.py          find, else build by `go install`
    python3 tools/versitygw.py --find   find, else exit 1

Looked for on PATH, in `.tools/bin`, and in the folder that `TOWPATH_TOOLS` names, where prebuilt tools may lie.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".tools" / "bin"
MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
MISSING = f"""versitygw: there is no S3 server here, and no Go to build it. Do one of these and call again:
  install Go 1.24 or newer so that `go version` answers; it is then built here (two minutes)
  on a machine with Go:  go install {MODULE}   and put the program on PATH
  or name a folder that has it: export TOWPATH_TOOLS=/path/to/folder"""


def find() -> Path | None:
    """The first one that can be executed; None when there is none."""
    named = os.environ.get("TOWPATH_TOOLS")
    places = [shutil.which("versitygw"), BIN / "versitygw", Path(named) / "versitygw" if named else None]
    return next((Path(place) for place in places if place and os.access(place, os.X_OK)), None)


def build() -> None:
    """Build the pinned version into `.tools/bin`; ends the program with what Go said when it fails."""
    go = shutil.which("go")
    if go is None:
        sys.exit(MISSING)
    print(f"versitygw: building {MODULE} (two minutes, once)", file=sys.stderr, flush=True)
    environment = {**os.environ, "GOBIN": str(BIN), "CGO_ENABLED": "0"}
    done = subprocess.run([go, "install", MODULE], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"versitygw: failed: go install {MODULE}\n{done.stderr}")


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
