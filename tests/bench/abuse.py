"""One abusive organization beside a decent one: what its flood, its bodies and its slow reading cost the other.

The abuser queues ten thousand runs that wait for a browser. Then, with the limits that everybody has, it goes on asking
as fast as it can, sends bodies far beyond the limit, and holds open live streams and downloads that it does not read.
The decent one asks for runs all the time, one after another; told is the time from sending the POST to seeing that a
runner has started, beside the same before the flood.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.figures import Figure, figure, quantile, tell
from tests.bench.platform import Platform, create_workflow, running_platform
from tests.bench.runs import Effort, no_op_steps, run_once

QUEUED = 10_000
_START = b"event: workflow_run.started"
_SENDERS = 50
_SLOW_READERS = 100
_BIG_BODY_BYTES = 900_000
_WARM_SECONDS = 3.0
_PAGE = {"version": 1, "steps": [{"id": "open", "type": "navigate", "params": {"url": "https://shop.example/"}}]}
"""Waits for a slot with a browser, of which there is none here: what is measured is the queue, and not its work."""


async def abuse(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Asked-to-started of the decent organization: p50 and p95, before and under abuse."""
    with running_platform(folder):
        pass
    abuser_key = _key_of_another_organization(folder / "data")
    with running_platform(folder) as platform:
        abuser = replace(platform, key=abuser_key)
        before = await _asked_to_started(platform, effort.of(300))
        await _queue(abuser, effort.of(QUEUED))
        queued = await _asked_to_started(platform, effort.of(300))
    with running_platform(folder, limited=True) as platform:
        pest = get_context("spawn").Process(target=_pester, args=(replace(platform, key=abuser_key),), daemon=True)
        pest.start()
        async with asyncio.timeout(600):
            await asyncio.sleep(_WARM_SECONDS)
            under = await _asked_to_started(platform, effort.of(50), pause_seconds=0.12)
        pest.kill()
        pest.join()
    for share, title in ((0.5, "p50"), (0.95, "p95")):
        raw = ("the same organization alone", quantile(before, share))
        yield figure(f"abuse_queued_{title}_ms", quantile(queued, share), "ms", raw, len(queued))
        yield figure(f"abuse_{title}_ms", quantile(under, share), "ms", raw, len(under))


def _key_of_another_organization(data: Path) -> str:
    environ = {**os.environ, "TOWPATH_DATA": str(data)}
    command = [sys.executable, "-m", "embedded", "create-organization"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    found = re.search(r"towpath_live_\w+", said)
    if found is None:
        raise RuntimeError(f"no key: {said}")
    return found[0]


async def _asked_to_started(platform: Platform, count: int, pause_seconds: float = 0.0) -> list[float]:
    """Runs one after another. `pause_seconds` keeps their calls below the limit of a key."""
    workflow_id = await create_workflow(platform, no_op_steps(1), "decent")
    connection = await platform.connect()
    for _ in range(10):
        await run_once(connection, workflow_id, _START)
    took = []
    for _ in range(count):
        took.append((await run_once(connection, workflow_id, _START)).ended)
        await asyncio.sleep(pause_seconds)
    connection.close()
    return took


async def _queue(abuser: Platform, count: int) -> None:
    """Runs that stay queued."""
    workflow_id = await create_workflow(abuser, _PAGE, "flood")
    body = b'{"workflowId":"%s"}' % workflow_id.encode()
    left = iter(range(count))

    async def sender() -> None:
        connection = await abuser.connect()
        for _ in left:
            reply = await connection.ask("POST", "/api/v2/workflow-runs", body)
            if reply.status != 201:
                raise RuntimeError(f"not queued: {reply.status} {reply.body!r}")
        connection.close()

    await asyncio.gather(*(sender() for _ in range(_SENDERS)))
    tell(f"{count} runs are queued")


def _pester(abuser: Platform) -> None:
    """All of it for ever, in a process of its own: who measures must not wait for the one who disturbs."""
    asyncio.run(_all_at_once(abuser))


async def _all_at_once(abuser: Platform) -> None:
    await asyncio.gather(*await _pests(abuser))


async def _pests(abuser: Platform) -> list[Coroutine[Any, Any, None]]:
    """All that it does at once."""
    connection = await abuser.connect()
    runs = await connection.ask("GET", "/api/v2/workflow-runs?status=PENDING")
    run_id = msgspec.json.decode(runs.body)["data"][0]["id"]
    events = f"/api/v2/workflow-runs/{run_id}/events"
    connection.close()
    return [
        *(_asks_on_and_on(abuser) for _ in range(4)),
        *(_sends_big_bodies(abuser) for _ in range(2)),
        *(_never_reads(abuser, events) for _ in range(_SLOW_READERS)),
        *(_sends_drop_by_drop(abuser) for _ in range(20)),
    ]


async def _asks_on_and_on(abuser: Platform) -> None:
    connection = await abuser.connect()
    while True:
        await connection.ask("POST", "/api/v2/workflow-runs", b"{}")
        await asyncio.sleep(0.005)


async def _sends_big_bodies(abuser: Platform) -> None:
    """Bodies just below the limit, of the dearest kind: JSON that is read to its end and then refused."""
    connection = await abuser.connect()
    body = b'{"name":"%s"}' % (b"x" * _BIG_BODY_BYTES)
    while True:
        await connection.ask("POST", "/api/v2/workflows", body)
        await asyncio.sleep(0.01)


async def _never_reads(abuser: Platform, path: str) -> None:
    """Opens a live stream again and again, and does not read from it."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", abuser.port, limit=1024)
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {abuser.key}\r\n"
                "Accept: text/event-stream\r\n\r\n".encode()
            )
            await asyncio.sleep(5)
            writer.close()


async def _sends_drop_by_drop(abuser: Platform) -> None:
    """A request whose body never comes to its end."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", abuser.port)
            writer.write(
                f"POST /api/v2/workflows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {abuser.key}\r\n"
                "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n".encode()
            )
            for _ in range(60):
                writer.write(b" ")
                await asyncio.sleep(1)
            writer.close()
