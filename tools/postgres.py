"""Finds PostgreSQL's server for `make up` and tests, or installs it; prints the folder of its programs.

python3 -m tools.postgres          find, else install Debian's package as root
python3 -m tools.postgres --find   find, else exit 1
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tools.packages import install_package

DEBIANS = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres")
MISSING = """postgres: PostgreSQL is needed, and neither PATH nor /usr/lib/postgresql/*/bin has its `initdb`.
  Debian, Ubuntu:  sudo apt-get install postgresql"""


def find() -> Path | None:
    """The folder that PATH names, else the newest that Debian's packages made; None when there is none."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(DEBIANS.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((place for place in places if all((place / name).exists() for name in PROGRAMS)), None)


def main() -> int:
    """Print the folder. 1 when there is none."""
    found = find()
    if found is None and sys.argv[1:] != ["--find"] and install_package("postgresql", "postgres"):
        found = find()
    if found is None:
        print(MISSING, file=sys.stderr)
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
