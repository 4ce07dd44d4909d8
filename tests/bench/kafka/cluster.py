"""The cluster form under measure: one broker, PostgreSQL, an S3 server and one of each service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.platform import NO_LIMITS, Platform
from tests.bench.processes import cpu_ms
from tests.support.cluster_process import ClusterProcess

COPIES = "1"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that serves; `parts` are the processes by name, `scheduler-1` or `kafka` for two."""

    platform: Platform
    bootstrap: str
    postgres: str
    parts: Mapping[str, int]

    def cpu_ms(self) -> dict[str, float]:
        """User and system time so far, by part."""
        return {name: cpu_ms(pid) for name, pid in self.parts.items()}


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Start it, wait until it is ready, kill it in the end. Only light tasks run."""
    with ClusterProcess(folder, browser="", TOWPATH_DEMO="0", TOWPATH_COPIES=COPIES, **NO_LIMITS) as process:
        process.start()
        await asyncio.to_thread(process.await_ready)
        assert process.launcher is not None
        key = (process.data / "api-key").read_text().strip()
        told = process.endpoints()
        yield Cluster(
            Platform(process.port, key, process.launcher.pid, process.data),
            told["kafka"],
            told["postgres"],
            {part["name"]: part["pids"][0] for part in told["processes"]},
        )
