"""What the platform adds to a browser: the same flow of ten steps as a workflow, and in bare Playwright.

Both drive a warm browser over loopback pages, with a context a run, in processes of their own; their runs alternate.
A step's overhead is the difference of the two medians, divided by the steps: the run's own start and end, reports and
proxy included. CPU is that of all processes of each side, browsers included.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.figures import Figure, figure, quantile, tell
from tests.bench.platform import create_workflow, running_platform
from tests.bench.processes import cpu_ms
from tests.bench.runs import Effort, run_once

_ROUNDS = 6
_RUNS_PER_ROUND = 5
_ROWS = 50

_FORM = """<!doctype html><title>Form</title><h1>Search</h1><form action="/results" method="get">
<label>Name <input name="name"></label><label>City <input name="city"></label><button>Search</button></form>"""
_TABLE_ROWS = "".join(f"<tr><td>{n}</td><td>item {n}</td><td>{n * 7}.00</td></tr>" for n in range(_ROWS))
_RESULTS = f"""<!doctype html><title>Results</title><h1>Results</h1><a href="/form">Again</a>
<table><thead><tr><th>No</th><th>Item</th><th>Price</th></tr></thead><tbody>{_TABLE_ROWS}</tbody></table>"""


def _step(id_: str, kind: str, **params: Any) -> dict[str, Any]:
    return {"id": id_, "type": kind, "params": params}


def _by(**locator: str) -> dict[str, Any]:
    return {"locators": [locator]}


def flow_steps(url: str) -> dict[str, Any]:
    """`stepsJson` of the flow; `tests.bench.bare_browser.flow` does the same, line by line."""
    search, results = _by(role="button", name="Search"), _by(role="heading", name="Results")
    columns = {"no": "No", "item": "Item", "price": "Price"}
    steps = [
        _step("open", "navigate", url=f"{url}/form"),
        _step("name", "fill", target=_by(label="Name"), value="Ada"),
        _step("city", "fill", target=_by(label="City"), value="Lund"),
        _step("search", "click", target=search),
        _step("see", "wait_for", target=results),
        _step("read", "extract", engine="table", scope=_by(role="table"), columns=columns),
        _step("again", "click", target=_by(role="link", name="Again")),
        _step("other_name", "fill", target=_by(label="Name"), value="Grace"),
        _step("search_again", "click", target=search),
        _step("see_again", "wait_for", target=results),
    ]
    return {"version": 1, "startOrigins": [url], "steps": steps}


async def browser_overhead(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Milliseconds a step and CPU a run beyond bare Playwright. Nothing without a browser."""
    browser = os.environ.get("TOWPATH_BROWSER") or shutil.which("chromium-headless-shell") or ""
    if not browser:
        tell("no browser; set TOWPATH_BROWSER")
        return
    ours: list[float] = []
    bare: list[float] = []
    ours_cpu = bare_cpu = 0.0
    async with site() as url:
        with running_platform(folder, browser=browser) as platform, _bare_browser(browser, url) as process:
            steps = flow_steps(url)
            workflow_id = await create_workflow(platform, steps, "flow")
            connection = await platform.connect()
            for _ in range(effort.of(10)):
                await run_once(connection, workflow_id)
            await asyncio.to_thread(_ask, process, effort.of(10))
            for _ in range(effort.of(_ROUNDS * 10) // 10 or 1):
                before = cpu_ms(platform.pid)
                ours += [(await run_once(connection, workflow_id)).ended for _ in range(_RUNS_PER_ROUND)]
                ours_cpu += cpu_ms(platform.pid) - before
                before = cpu_ms(process.pid)
                bare += await asyncio.to_thread(_ask, process, _RUNS_PER_ROUND)
                bare_cpu += cpu_ms(process.pid) - before
    count = len(steps["steps"])
    ours_p50, bare_p50 = quantile(ours, 0.5), quantile(bare, 0.5)
    name = "bare Playwright, the same flow"
    detail = {"run_p50_ms": ours_p50, "bare_run_p50_ms": bare_p50, "steps": count}
    yield figure(
        "browser_step_overhead_ms", (ours_p50 - bare_p50) / count, "ms", (name, bare_p50 / count), len(ours), **detail
    )
    extra = (ours_cpu / bare_cpu - 1) * 100
    cpu = {"run_cpu_ms": ours_cpu / len(ours), "bare_run_cpu_ms": bare_cpu / len(bare)}
    yield figure("browser_cpu_overhead_percent", extra, "%", (name, 100.0), len(ours), **cpu)


@asynccontextmanager
async def site() -> AsyncIterator[str]:
    """The loopback pages, served by this process to both sides alike; the address."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            page = (_RESULTS if head.startswith(b"GET /results") else _FORM).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(page)
            )
            writer.write(page)
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


@contextmanager
def _bare_browser(executable: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare_browser", executable, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.communicate(timeout=30)


def _ask(process: subprocess.Popen[bytes], runs: int) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"%d\n" % runs)
    process.stdin.flush()
    return msgspec.json.decode(process.stdout.readline(), type=list[float])
