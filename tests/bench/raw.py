"""Raw baselines: what the disk and a bare web service take on this machine, in this minute, in the same folder."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from tests.bench.bare_service import commit_one, open_raw
from tests.bench.http import Connection
from tests.bench.platform import free_port

_COMMITS_TO_FULL_SIZE = 600
"""Two pages each, a checkpoint every thousand pages."""


@dataclass(frozen=True, slots=True)
class BareService:
    """`tests.bench.bare_service` as a process."""

    port: int
    pid: int


@asynccontextmanager
async def bare_service(folder: Path) -> AsyncIterator[BareService]:
    """Start it, wait until it answers, kill it in the end."""
    port = free_port()
    process = _start_bare(port, folder / "bare.sqlite")
    try:
        connection = await _patient_connection(port)
        await connection.ask("GET", "/one")
        connection.close()
        yield BareService(port, process.pid)
    finally:
        process.kill()
        process.wait()


def _start_bare(port: int, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.bench.bare_service", str(port), str(file)])


async def _patient_connection(port: int) -> Connection:
    for _ in range(400):
        try:
            return await Connection.open(port)
        except OSError:
            await asyncio.sleep(0.05)
    raise RuntimeError("the bare service does not start")


class RawCommits:
    """A file of its own, whose write-ahead log has grown to its full size, as that of a running platform has."""

    def __init__(self, folder: Path) -> None:
        self._connection = open_raw(folder / "raw.sqlite")
        for _ in range(_COMMITS_TO_FULL_SIZE):
            commit_one(self._connection)

    def chains_ms(self, chains: int, length: int) -> list[float]:
        """How long chains of `length` dependent commits (one row, one fsync each) take."""
        took = []
        for _ in range(chains):
            began = perf_counter()
            for _ in range(length):
                commit_one(self._connection)
            took.append((perf_counter() - began) * 1000)
        return took

    def close(self) -> None:
        self._connection.close()


async def asks_ms(connection: Connection, method: str, path: str, count: int) -> list[float]:
    """How long single requests take, one after another."""
    took = []
    for _ in range(count):
        began = perf_counter()
        await connection.ask(method, path, b"{}" if method == "POST" else b"")
        took.append((perf_counter() - began) * 1000)
    return took
