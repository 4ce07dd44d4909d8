"""The product as real processes: start it as `make run` does, find its parts, hurt them, read what it left behind.

    PlatformProcess   launcher, watchdog, platform, demo shop, demo, browser over one folder and one pair of ports
    Trace             every record of the folder's log, read beside the platform that writes it
    shop_log          what the demo shop itself remembers

Processes are told apart by their command line and found by the folder in their environment, so that a test never
touches a process of another one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import msgspec

from browser_runner.process_tree import descendants, state_of
from embedded.settings import Settings as FolderSettings
from kernel.errors import UnknownType
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.log.port import Record, Stored
from kernel.log.topics import Topic
from towpath.client import Client
from towpath.settings import Settings

START_SECONDS = 60.0
POLL_SECONDS = 0.005
_PROC = Path("/proc")
_PORTS = range(12_000, 20_000)
_given: set[int] = set()
"""Of these ports, by this process."""
_BATCHES = (
    "SELECT b.id, b.first_offset, b.appended_ms, b.body FROM log_batches b JOIN log_streams s ON s.stream = b.stream"
    " WHERE s.topic = ? AND b.id > ? ORDER BY b.id"
)
_decoder = msgspec.msgpack.Decoder(list[tuple[str, tuple[tuple[str, str], ...], bytes]])


class Role(StrEnum):
    """A part of the running product."""

    LAUNCHER = "launcher"
    WATCHDOG = "watchdog"
    PLATFORM = "platform"
    SHOP = "shop"
    DEMO = "demo"
    DRIVER = "driver"
    """Playwright's own process between platform and browser."""
    BROWSER = "browser"
    """Every process of every Chromium."""


@dataclass(frozen=True, slots=True)
class Told:
    """One record of the log: what, and when by the clock of the platform."""

    time_ms: int
    event: Any


def until(condition: Callable[[], Any], seconds: float, what: str, *, pause_seconds: float = POLL_SECONDS) -> Any:
    """What `condition` returns once that is true; `AssertionError` naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in {seconds:.0f} s nothing came of: {what}"
        time.sleep(pause_seconds)
    return found


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row, which nobody else is given though nobody listens there yet.

    They are below those that the kernel and the servers of a local cluster take. Each worker of a run has its own.
    """
    entropy = SystemEntropy()
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = len(_PORTS) // workers
    begin = _PORTS.start + share * (worker % workers)
    if len(_given) > share // 2:
        _given.clear()  # a run that goes on for days: the oldest are long closed
    while True:
        first = begin + int.from_bytes(entropy.bytes(4)) % (share - count)
        ports = range(first, first + count)
        if _given.intersection(ports):
            continue
        try:
            for port in ports:
                with closing(socket.socket()) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        _given.update(ports)
        return first


class PlatformProcess:
    """One folder and whatever runs over it. Use as a context manager: nothing outlives it."""

    def __init__(self, folder: Path, *, browser: str, port: int = 0, **environ: str) -> None:
        """`environ`: further variables, `TOWPATH_DEMO="0"` for one. `port` 0: any free one, the shop's beside it."""
        self.data = folder / "data"
        self.port = port or free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = folder / "launcher.log"
        self.launcher: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, str] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
        self.environ = kept | {
            "TOWPATH_DATA": str(self.data),
            "TOWPATH_PORT": str(self.port),
            "TOWPATH_BROWSER": browser,
            "TOWPATH_EGRESS_ALLOW": "127.0.0.0/8",
            # Tests look again and again; what the limits do has tests of its own.
            "TOWPATH_RATE_PER_MINUTE": "0",
            "TOWPATH_ADDRESS_RATE_PER_MINUTE": "0",
            **environ,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_everything()

    # ------------------------------------------------------------ start and end

    def start(self, **environ: str) -> None:
        """Start the launcher; returns at once. What it says is added to `output`."""
        with self.output.open("ab") as output:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "embedded"],
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def await_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when the gateway answers; fails when the launcher ends before."""

        def answers() -> bool:
            assert self.launcher is not None
            assert self.launcher.poll() is None, f"the launcher ended: {self.said()}"
            try:
                with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5):
                    return True
            except (urllib.error.URLError, OSError):
                return False

        until(answers, seconds, "a platform that is ready", pause_seconds=0.02)

    def await_end(self, seconds: float = 60.0) -> int:
        """The launcher's exit code."""
        assert self.launcher is not None
        return self.launcher.wait(seconds)

    def said(self) -> str:
        """What launcher, platform and demo have said on the terminal so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def client(self) -> Client:
        """A client with the folder's first key."""
        return Client(Settings(self.url, (self.data / "api-key").read_text().strip()))

    # ------------------------------------------------------------ processes

    def processes(self) -> dict[int, Role]:
        """Everything that runs over the folder, by process id."""
        mark = f"TOWPATH_DATA={self.data}".encode()
        found = {pid: role for pid in _alive() if mark in _environment(pid) and (role := _role(pid)) is not None}
        for root in [pid for pid, role in found.items() if role in {Role.WATCHDOG, Role.PLATFORM, Role.DRIVER}]:
            # A renderer has overwritten its environment, and no longer tells whose it is.
            found |= {pid: Role.BROWSER for pid in descendants(root) if _is_browser(pid)}
        self._seen |= {pid: _born(pid) for pid in found}
        return found

    def pids(self, role: Role) -> list[int]:
        """Processes of one part, oldest first; empty when there are none."""
        return sorted(pid for pid, found in self.processes().items() if found is role)

    def pid(self, role: Role) -> int:
        """The one process of a part that there is once."""
        (only,) = until(lambda: self.pids(role), 10, f"a process: {role}")
        return int(only)

    def signal(self, number: signal.Signals, *roles: Role) -> None:
        """Send a signal to every process of these parts."""
        for pid, role in self.processes().items():
            if role in roles:
                _send(pid, number)

    def kill_everything(self, spare: frozenset[Role] = frozenset()) -> None:
        """SIGKILL for the whole tree, as near to one moment as can be; what is spared is left to itself."""
        while doomed := [pid for pid, role in self.processes().items() if role not in spare]:
            # Stopped first: nobody may hear of another one's death and begin to tidy up.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in doomed:
                    _send(pid, number)
            if self.launcher is not None:
                self.launcher.poll()
        if self.launcher is not None:
            self.launcher.wait(10)

    def await_nothing_left(self, seconds: float = 10.0) -> None:
        """Return when no process of the folder lives any more, orphans of earlier lives included."""
        until(lambda: not self.leftovers(), seconds, f"an end of everything; left: {self.leftovers()}")

    def leftovers(self) -> list[str]:
        """Processes that were ever seen here and still live, and whatever carries the folder's mark."""
        now = self.processes()
        old = [pid for pid, born in self._seen.items() if pid not in now and _lives(pid) and _born(pid) == born]
        return [f"{pid} {_command(pid)[:80]}" for pid in [*now, *old] if _lives(pid)]

    # ------------------------------------------------------------ what was left behind

    def scratches(self) -> list[Path]:
        """Folders and files that browsers and runner made for a while."""
        scratch = FolderSettings(self.data).scratch
        return sorted(scratch.iterdir()) if scratch.is_dir() else []

    def profiles(self) -> list[Path]:
        """The profiles among them; each browser that lives has one."""
        return [path for path in self.scratches() if "_profile-" in path.name]

    def collected(self) -> list[str]:
        """The reference of every collection that the shop saw, repetitions included."""
        return [entry["run_ref"] for entry in shop_log(self.data) if entry["event"] == "collected"]


def waited_seconds(pid: int) -> float:
    """How long the first thread of a process was ready to run and had no CPU: the fault of the machine, not of ours."""
    fields = _bytes(pid, "schedstat").split()
    return int(fields[1]) / 1e9 if fields else 0.0


def shop_log(data: Path) -> list[dict[str, Any]]:
    """What the demo shop wrote down; a line that is being written is left out."""
    path = data / "demo-shop" / "collected.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


class Trace:
    """The records of one topic of a folder, in the order of their writing; read incrementally, also after a crash."""

    def __init__(self, data: Path, topic: str = Topic.TASK_REPORTS) -> None:
        self._path = data / "towpath.sqlite"
        self._topic = topic
        self._last = 0
        self.told: list[Told] = []

    def read(self) -> list[Told]:
        """All records so far."""
        if not self._path.exists():
            return self.told
        try:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
                rows = connection.execute(_BATCHES, (self._topic, self._last)).fetchall()
        except sqlite3.OperationalError:
            return self.told  # being made, or without its shared memory for a moment
        for number, first, appended_ms, body in rows:
            self._last = number
            self.told += _records(first, appended_ms, body)
        return self.told

    def await_one(self, wanted: Callable[[Told], bool], seconds: float, what: str) -> Told:
        """The first record that is `wanted`, as soon as it is there."""
        found: Told = until(lambda: next((told for told in self.read() if wanted(told)), None), seconds, what)
        return found


def _records(first: int, appended_ms: int, body: bytes) -> Iterator[Told]:
    for index, (key, headers, value) in enumerate(_decoder.decode(body)):
        try:
            message = decode(Stored(Record("", 0, key, headers, value), first + index, appended_ms))
        except UnknownType:
            continue
        yield Told(message.envelope.time_ms, message.event)


# ---------------------------------------------------------------- /proc


def _role(pid: int) -> Role | None:
    command = _command(pid).split()
    match command[1:]:
        case ["-m", "embedded"]:
            return Role.LAUNCHER
        case ["-m", "embedded", ("watchdog" | "platform" | "demo") as part]:
            return Role(part)
        case ["-m", "demo_shop", *_]:
            return Role.SHOP
        case _ if _is_browser(pid):
            return Role.BROWSER
        case _ if command and command[0].endswith("/node"):
            return Role.DRIVER
        case _:
            return None


def _is_browser(pid: int) -> bool:
    return "chrom" in _command(pid).partition(" ")[0]


def _alive() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _lives(int(entry.name))]


def _lives(pid: int) -> bool:
    return state_of(pid) not in {"", "Z", "X"}


def _born(pid: int) -> str:
    """Start time in ticks: with it a process id names one process only."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _command(pid: int) -> str:
    return _bytes(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _environment(pid: int) -> list[bytes]:
    return _bytes(pid, "environ").split(b"\0")


def _bytes(pid: int, file: str) -> bytes:
    try:
        return (_PROC / str(pid) / file).read_bytes()
    except OSError:
        return b""


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
