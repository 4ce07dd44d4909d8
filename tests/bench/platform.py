"""The platform under measure: real processes through the launcher that `make run` uses, over a folder of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.bench.http import Connection

_START_SECONDS = 60.0
NO_LIMITS = {
    f"TOWPATH_{name}": "0"
    for name in ("RATE_PER_MINUTE", "ADDRESS_RATE_PER_MINUTE", "OPEN_REQUESTS_MAX", "OPEN_STREAMS_MAX")
}
"""One caller is all the load there is."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform that serves on 127.0.0.1:`port`; `pid` is the launcher, parent of all its processes."""

    port: int
    key: str
    pid: int
    folder: Path

    @property
    def database(self) -> Path:
        """Log and rows."""
        return self.folder / "towpath.sqlite"

    async def connect(self) -> Connection:
        """A connection of its own for one caller."""
        return await Connection.open(self.port, self.key)


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_platform(folder: Path, *, browser: str = "", limited: bool = False) -> Iterator[Platform]:
    """Start the platform, wait until it is ready, drain it in the end. Without `browser` only light tasks run.

    `limited`: callers have the limits that everybody has who sets none.
    """
    port, data = free_port(), folder / "data"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    environ |= {"TOWPATH_DATA": str(data), "TOWPATH_PORT": str(port), "TOWPATH_DEMO": "0"}
    environ |= {"TOWPATH_BROWSER": browser, "TOWPATH_EGRESS_ALLOW": "127.0.0.0/8"}
    environ |= {} if limited else NO_LIMITS
    log = folder / "launcher.log"
    with log.open("wb") as said:
        launcher = subprocess.Popen([sys.executable, "-m", "embedded"], env=environ, stdout=said, stderr=said)
    try:
        _await_ready(launcher, log)
        yield Platform(port, (data / "api-key").read_text().strip(), launcher.pid, data)
    finally:
        launcher.terminate()
        launcher.wait(60)


def _await_ready(launcher: subprocess.Popen[bytes], log: Path) -> None:
    """The launcher prints the address of the API once the gateway answers."""
    deadline = time.monotonic() + _START_SECONDS
    while b"/api/v2" not in log.read_bytes():
        if launcher.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the platform does not start:\n{log.read_text()}")
        time.sleep(0.05)


async def create_workflow(platform: Platform, steps: object, name: str) -> str:
    """A new workflow with these `stepsJson`; its id."""
    body = {"name": name, "sourceProvider": "bench", "type": "USER_DEFINED", "stepsJson": steps}
    connection = await platform.connect()
    reply = await connection.ask("POST", "/api/v2/workflows", msgspec.json.encode(body))
    connection.close()
    if reply.status != 201:
        raise RuntimeError(f"no workflow: {reply.status} {reply.body!r}")
    id_: str = msgspec.json.decode(reply.body)["id"]
    return id_
