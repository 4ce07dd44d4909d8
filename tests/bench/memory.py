"""Memory of the idle platform without a browser, beside a bare web service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.figures import Figure, figure
from tests.bench.platform import running_platform
from tests.bench.processes import pss_mb, tree
from tests.bench.raw import bare_service
from tests.bench.runs import Effort

SETTLE_SECONDS = 15.0


async def idle_memory(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """PSS of all processes of a fresh platform once it has settled."""
    with running_platform(folder) as platform:
        await asyncio.sleep(2.0 if effort.quick else SETTLE_SECONDS)
        async with bare_service(folder) as bare:
            baseline = ("bare Python, Litestar and Granian", pss_mb(bare.pid))
            processes = len(tree(platform.pid))
            yield figure("idle_memory_mb", pss_mb(platform.pid), "MB", baseline, 1, processes=processes)
