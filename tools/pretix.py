"""Brings pretix, a real application for `make test-real`, into an environment of its own. Only the standard library.

    python3 -m tools.pretix             install what requirements/real.txt says, unless it is there
    python3 -m tools.pretix database    make the empty database anew, for another version (about two minutes)

Everything lies in `.tools/pretix`. An empty database of exactly this version is kept beside the tests, as pretix takes
minutes to make one; that it fits is proven once per installation.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tools.setup import find_python, find_uv, must

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".tools" / "pretix"
PYTHON = HOME / "env" / "bin" / "python"
STAMP = HOME / "stamp"
REQUIREMENTS = ROOT / "requirements" / "real.txt"
TESTS = ROOT / "tests" / "real" / "pretix"
SETTINGS = """[pretix]
instance_name=pretix
url={url}
datadir={data}
currency=EUR
registration=off
password_reset=off
[database]
backend=sqlite3
[django]
secret=a-secret-for-tests-on-loopback-and-for-nothing-else
debug=off
[mail]
host=127.0.0.1
port=9
"""


def say(text: str) -> None:
    """One line of progress."""
    print(f"pretix: {text}", file=sys.stderr, flush=True)


def version() -> str:
    """The version that the requirements ask for."""
    line = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("pretix=="))
    return line.removeprefix("pretix==").split()[0]


def empty_database() -> Path:
    """The kept database of this version, compressed."""
    return TESTS / f"empty-{version()}.sqlite3.xz"


def stamp() -> str:
    """What an up-to-date environment was made from."""
    kept = empty_database()
    return hashlib.sha256(REQUIREMENTS.read_bytes() + (kept.read_bytes() if kept.exists() else b"")).hexdigest()


def is_installed() -> bool:
    """Whether pretix is here as the requirements say."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == stamp()


def settings_in(folder: Path, url: str = "http://127.0.0.1") -> dict[str, str]:
    """Write pretix's settings into `folder`, its data beside them; the environment of a process that uses them."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    path = folder / "pretix.cfg"
    path.write_text(SETTINGS.format(url=url, data=data))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PRETIX_", "DJANGO_"))}
    return kept | {"PRETIX_CONFIG_FILE": str(path), "DJANGO_SETTINGS_MODULE": "pretix.settings"}


def unpack_database(folder: Path) -> None:
    """Put the empty database where the settings of `folder` look for it."""
    packed = empty_database()
    if not packed.exists():
        sys.exit(f"pretix: no empty database of {version()}: python3 -m tools.pretix database")
    (folder / "data" / "db.sqlite3").write_bytes(lzma.decompress(packed.read_bytes()))


def manage(folder: Path, *command: str) -> None:
    """Run one of pretix's own commands; ends the program with what it said when it fails."""
    done = subprocess.run(
        [PYTHON, "-m", "pretix", *command], cwd=folder, env=settings_in(folder), capture_output=True, check=False
    )
    if done.returncode != 0:
        told = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        sys.exit(f"pretix: failed: {' '.join(command)}\n{told}")


def install() -> None:
    """Make the environment, compile pretix's pages, and prove that the empty database fits."""
    STAMP.unlink(missing_ok=True)
    python = find_python()
    uv = find_uv(python)
    if not PYTHON.exists():
        must(uv, "venv", "--quiet", "--python", python, PYTHON.parents[1])
    say(f"installing {version()} from requirements/real.txt (a minute)")
    must(uv, "pip", "sync", "--quiet", "--python", PYTHON, "--require-hashes", REQUIREMENTS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        say("compiling its pages (a quarter of a minute)")
        manage(folder, "rebuild")
        if empty_database().exists():
            unpack_database(folder)
            manage(folder, "migrate", "--check")
    STAMP.write_text(stamp())


def make_database() -> None:
    """Let pretix make its database, and keep it beside the tests in place of that of any other version."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        say("making an empty database (two minutes)")
        manage(folder, "migrate")
        made = folder / "data" / "db.sqlite3"
        with closing(sqlite3.connect(made)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("VACUUM")
        packed = lzma.compress(made.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
    for old in TESTS.glob("empty-*.sqlite3.xz"):
        old.unlink()
    empty_database().write_bytes(packed)
    say(f"kept as {empty_database().relative_to(ROOT)}, {len(packed)} bytes")


def main() -> int:
    """Do what is asked. 0 when pretix is there at the end."""
    asked = sys.argv[1:]
    if asked not in ([], ["database"]):
        sys.exit("usage: python3 -m tools.pretix [database]")
    if is_installed() and not asked:
        return 0
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            install()
        if asked:
            make_database()
            STAMP.write_text(stamp())
    return 0


if __name__ == "__main__":
    sys.exit(main())
