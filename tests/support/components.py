"""Kafka, PostgreSQL and an S3 server for tests: one of each for a whole run of pytest, started when first asked for.

The workers of one run share them. A process of its own holds each server and ends it when the last worker is gone,
however that came about: workers hold a shared lock on a file, and the holder waits for the exclusive one. Servers that
somebody else started are used where `TOWPATH_TEST_KAFKA`, `TOWPATH_TEST_POSTGRES_URL` or `TOWPATH_TEST_S3` (with
`TOWPATH_TEST_S3_ACCESS_KEY` and `TOWPATH_TEST_S3_SECRET_KEY`) name them. Kafka has one node, or as many as
`TOWPATH_TEST_KAFKA_NODES` says; tests give topics as many copies as such a cluster can keep.

As they are shared, a test takes names of its own by `unique_name` for topics, schemas and buckets, and neither kills
nor pauses them; one that wants to starts its own `cluster.components`.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.requires import requires
from tools import kafka, postgres, versitygw

_ROOT = Path(__file__).resolve().parents[2]
_RETRY_SECONDS = 0.05
_held: dict[str, tuple[int, dict[str, str]]] = {}
_holders: list[subprocess.Popen[bytes]] = []
"""Kept, so that none is taken for a child that was forgotten: they end after us."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the S3 server is; its one account may do everything."""

    endpoint: str
    access_key: str
    secret_key: str


def kafka_bootstrap() -> str:
    """`host:port` of each broker, with commas. Blocks for seconds when it is the first to ask."""
    return os.environ.get("TOWPATH_TEST_KAFKA") or _shared("kafka")["bootstrap"]


def kafka_nodes() -> int:
    """How many nodes our Kafka has, or the one that is given."""
    return int(os.environ.get("TOWPATH_TEST_KAFKA_NODES") or "1")


def postgres_url() -> str:
    """The URL of an empty database, as its superuser; commits do not wait for the disk. Blocks like the others."""
    return os.environ.get("TOWPATH_TEST_POSTGRES_URL") or _shared("postgres")["url"]


def s3_server() -> S3Server:
    """An S3 server without buckets. Blocks like the others."""
    given = os.environ.get("TOWPATH_TEST_S3")
    if given:
        keys = os.environ["TOWPATH_TEST_S3_ACCESS_KEY"], os.environ["TOWPATH_TEST_S3_SECRET_KEY"]
        return S3Server(given, *keys)
    return S3Server(**_shared("s3"))


def unique_name(word: str = "t") -> str:
    """A name that no other test has: lower case letters and digits, as topics, schemas and buckets may have them."""
    return f"{word}{secrets.token_hex(6)}"


def has_kafka() -> bool:
    """Whether a broker can be started or is given: Java, and the jars that `make` brings."""
    brought = kafka.HOME / kafka.version(kafka.locked())
    jars = all((brought / jar.name).exists() for jar in kafka.locked())
    return "TOWPATH_TEST_KAFKA" in os.environ or (jars and shutil.which("java") is not None)


def has_postgres() -> bool:
    """Whether PostgreSQL can be started or is given."""
    return "TOWPATH_TEST_POSTGRES_URL" in os.environ or postgres.find() is not None


def has_s3() -> bool:
    """Whether an S3 server can be started or is given."""
    return "TOWPATH_TEST_S3" in os.environ or versitygw.find() is not None


needs_kafka = requires("Apache Kafka", available=has_kafka(), reason="install Java 17, then python3 -m tools.kafka")
needs_postgres = requires("PostgreSQL", available=has_postgres(), reason="apt-get install postgresql")
needs_s3 = requires("an S3 server", available=has_s3(), reason="python3 -m tools.versitygw")


def _shared(kind: str) -> dict[str, str]:
    """The addresses of this run's server of `kind`, started now if nobody has."""
    if kind not in _held:
        _held[kind] = _join(kind)
    return _held[kind][1]


def _join(kind: str) -> tuple[int, dict[str, str]]:
    """Our lock on the server, kept open as long as this process lives, and the server's addresses."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"process-{os.getpid()}")
    base = Path(tempfile.gettempdir()) / f"towpath-components-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    folder = base / f"{kind}-{run}"
    with (base / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        while True:
            folder.mkdir(exist_ok=True)
            users = _lock_users(folder / "users")
            if users is not None:
                return users, _addresses(kind, folder)
            time.sleep(_RETRY_SECONDS)  # the holder ends this very moment, and takes its folder away


def _lock_users(path: Path) -> int | None:
    """A shared lock on `path`, or None when the holder is ending."""
    users = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(users).st_ino == path.stat().st_ino:
            return users
    except OSError:
        pass
    os.close(users)
    return None


def _addresses(kind: str, folder: Path) -> dict[str, str]:
    """What the holder says; a new holder is started when there is none."""
    told = folder / "addresses.json"
    if not told.exists():
        command = [sys.executable, "-m", "tests.support.components_holder", kind, str(folder)]
        with (folder / "holder.log").open("wb") as log:
            holder = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log, start_new_session=True)
        while not told.exists():
            if holder.poll() is not None:
                raise RuntimeError(f"{kind} cannot be started: {(folder / 'holder.log').read_text()}")
            time.sleep(_RETRY_SECONDS)
        _holders.append(holder)
    addresses: dict[str, str] = json.loads(told.read_bytes())
    return addresses
