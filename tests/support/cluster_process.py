"""The cluster form as real processes: start it as `make up` does, find its parts, hurt them, talk to it.

Use as a context manager: nothing outlives it. Processes are found by what the launcher itself tells in
`endpoints.json`, and by the folder in their environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from browser_runner.process_tree import state_of
from cluster.services import MARK_VARIABLE
from tests.support.platform_process import free_ports, until
from towpath.client import Client
from towpath.settings import Settings

START_SECONDS = 180.0
"""Of a cluster that starts beside other tests on two cores; alone it takes fifteen."""
_PROC = Path("/proc")


class ClusterProcess:
    """One folder and the cluster over it."""

    def __init__(self, folder: Path, *, browser: str, **environ: str) -> None:
        """`environ`: further variables, `TOWPATH_DEMO="0"` for one."""
        self.data = folder / "data"
        self.port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = folder / "launcher.log"
        self.launcher: subprocess.Popen[bytes] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
        self.environ = kept | {
            "TOWPATH_DATA": str(self.data),
            "TOWPATH_PORT": str(self.port),
            "TOWPATH_BROWSER": browser,
            "TOWPATH_EGRESS_ALLOW": "127.0.0.0/8",
            # Tests look again and again; what the limits do has tests of its own.
            "TOWPATH_RATE_PER_MINUTE": "0",
            "TOWPATH_ADDRESS_RATE_PER_MINUTE": "0",
            "TOWPATH_TOOLS": os.environ.get("TOWPATH_TOOLS", ""),
            **environ,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.launcher is not None:
            self.launcher.kill()
            self.launcher.wait()
            until(lambda: not self.processes(), 60, "an end of everything")

    def start(self) -> None:
        """Start the launcher; returns at once. What it says is in `output`, anew for each start."""
        with self.output.open("wb") as output:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "cluster"],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def said(self) -> str:
        """What launcher and demo have said on the terminal since the last start."""
        return self.output.read_text(errors="replace")

    def await_said(self, words: str, seconds: float = START_SECONDS) -> None:
        """Return when `words` were said; fails when the launcher ends before."""

        def heard() -> bool:
            assert self.launcher is not None
            ended = self.launcher.poll() is not None
            if words in self.said():
                return True
            assert not ended, f"the launcher ended without {words!r}: {self.said()}"
            return False

        until(heard, seconds, f"{words!r} in {self.said()}", pause_seconds=0.02)

    def await_ready(self) -> None:
        """Return when everything is ready and `endpoints.json` is there."""
        self.await_said("  REST  ")

    def await_end(self, seconds: float = 90.0) -> int:
        """The launcher's exit code."""
        assert self.launcher is not None
        return self.launcher.wait(seconds)

    def stop(self, seconds: float = 90.0) -> int:
        """Ctrl-C; the launcher's exit code."""
        assert self.launcher is not None
        self.launcher.send_signal(signal.SIGINT)
        return self.await_end(seconds)

    def endpoints(self) -> dict[str, Any]:
        """What the launcher tells programs."""
        told: dict[str, Any] = json.loads((self.data / "endpoints.json").read_bytes())
        return told

    def pid(self, name: str) -> int:
        """The process of a part, such as `scheduler-1` or `kafka`."""
        return int(next(part["pids"][0] for part in self.endpoints()["processes"] if part["name"] == name))

    def client(self, gateway: int = 0) -> Client:
        """A client of one of the gateways, with the folder's first key."""
        url = self.endpoints()["gateways"][gateway]
        return Client(Settings(url, (self.data / "api-key").read_text().strip()))

    def processes(self) -> list[int]:
        """Everything of this folder that lives, the launcher included."""
        marks = {f"{name}={self.data}".encode() for name in ("TOWPATH_DATA", MARK_VARIABLE)}
        numbers = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
        return [pid for pid in numbers if marks & _environment(pid)]


def _environment(pid: int) -> set[bytes]:
    """Of a process that lives; empty for others, and for those that may not be asked."""
    if state_of(pid) not in {"", "Z"}:
        with suppress(OSError):
            return set((_PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    return set()
