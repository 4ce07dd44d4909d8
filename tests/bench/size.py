"""What a finished run leaves in the folder: bytes of the file, of which some are kept for ever and some for a day."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from kernel.log.topics import TOPICS
from tests.bench.browsing import flow_steps, site
from tests.bench.figures import Figure, figure, tell
from tests.bench.platform import Platform, create_workflow, running_platform
from tests.bench.runs import CALLERS, W1_STEPS, Effort, no_op_steps, run_once, storm

_TRANSIENT = tuple(topic.value for topic, row in TOPICS.items() if not row.public)
_SETTLE_SECONDS = 3.0


async def size(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Of a run of three no-op steps, and with a browser of a flow of ten steps over pages."""
    with running_platform(folder) as platform:
        workflow_id = await create_workflow(platform, no_op_steps(W1_STEPS), "size")
        callers = [await platform.connect() for _ in range(CALLERS)]
        before = await _settled(platform)
        await storm(callers, workflow_id, effort.of(10))
        yield _figure("file_bytes_a_run", before, await _settled(platform), CALLERS * effort.of(10))
    browser = os.environ.get("TOWPATH_BROWSER") or shutil.which("chromium-headless-shell") or ""
    if not browser:
        tell("no browser; set TOWPATH_BROWSER")
        return
    async with site() as url:
        with running_platform(folder, browser=browser) as platform:
            workflow_id = await create_workflow(platform, flow_steps(url), "size of a flow")
            connection = await platform.connect()
            await run_once(connection, workflow_id)
            before = await _settled(platform)
            for _ in range(effort.of(50)):
                await run_once(connection, workflow_id)
            yield _figure("file_bytes_a_browser_run", before, await _settled(platform), effort.of(50))


def _figure(name: str, before: tuple[int, int], after: tuple[int, int], runs: int) -> Figure:
    grown, transient = ((now - then) / runs for now, then in zip(after, before, strict=True))
    kept = grown - transient
    raw = ("one row of 300 bytes", 300.0)
    return figure(name, grown, "bytes", raw, runs, kept_bytes=kept, kept_a_day_bytes=transient)


async def _settled(platform: Platform) -> tuple[int, int]:
    """Bytes in use in the file, and bytes of log records that are kept for a day or until a snapshot."""
    await asyncio.sleep(_SETTLE_SECONDS)
    marks = ", ".join("?" * len(_TRANSIENT))
    with closing(sqlite3.connect(f"{platform.database.as_uri()}?mode=ro", uri=True)) as connection:
        pages, free, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        transient = connection.execute(
            "SELECT coalesce(sum(length(body) + 40), 0) FROM log_batches JOIN log_streams USING (stream)"
            f" WHERE topic IN ({marks})",
            _TRANSIENT,
        ).fetchone()[0]
    return (pages - free) * page, transient
