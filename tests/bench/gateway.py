"""What the gateway adds to a web server: requests a second, beside a bare application asked in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

import msgspec

from tests.bench.figures import Figure, figure
from tests.bench.http import Connection
from tests.bench.platform import Platform, create_workflow
from tests.bench.processes import cpu_ms
from tests.bench.raw import bare_service
from tests.bench.runs import Effort, no_op_steps, run_once

CALLERS = 16
_ROUNDS = 4


async def gateway(platform: Platform, folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """GET of one run, and POST that only reaches the idempotency record and the registry: a new workflow."""
    workflow_id = await create_workflow(platform, no_op_steps(1), "gateway")
    ours = [await platform.connect() for _ in range(CALLERS)]
    await run_once(ours[0], workflow_id)
    listed = await ours[0].ask("GET", "/api/v2/workflow-runs?limit=1")
    run_id = msgspec.json.decode(listed.body)["data"][0]["id"]
    body = {"name": "made", "sourceProvider": "bench", "type": "USER_DEFINED", "stepsJson": no_op_steps(1)}
    async with bare_service(folder) as bare:
        others = [await Connection.open(bare.port) for _ in range(CALLERS)]
        for verb, path, sent, each in (
            ("GET", f"/api/v2/workflow-runs/{run_id}", b"", effort.of(200)),
            ("POST", "/api/v2/workflows", msgspec.json.encode(body), effort.of(60)),
        ):
            got = raw = cpu = raw_cpu = 0.0
            await _flood(ours, verb, path, sent, 5)
            await _flood(others, verb, "/one", sent, 5)
            for _ in range(_ROUNDS):
                before, raw_before = cpu_ms(platform.pid), cpu_ms(bare.pid)
                got += await _flood(ours, verb, path, sent, each)
                raw += await _flood(others, verb, "/one", sent, each)
                cpu, raw_cpu = cpu + cpu_ms(platform.pid) - before, raw_cpu + cpu_ms(bare.pid) - raw_before
            count = CALLERS * each * _ROUNDS
            name = (f"bare_{verb.lower()}_per_s: bare Litestar and Granian", count / raw)
            detail = {"cpu_ms": cpu / count, "bare_cpu_ms": raw_cpu / count}
            yield figure(f"gateway_{verb.lower()}_per_s", count / got, "requests/s", name, count, **detail)


async def _flood(callers: list[Connection], verb: str, path: str, body: bytes, each: int) -> float:
    """Seconds until every caller has asked `each` times, one request at a time. Raises when one is refused."""

    async def caller(connection: Connection) -> None:
        for _ in range(each):
            reply = await connection.ask(verb, path, body)
            if reply.status not in {200, 201}:
                raise RuntimeError(f"{verb} {path}: {reply.status} {reply.body[:200]!r}")

    began = perf_counter()
    await asyncio.gather(*(caller(connection) for connection in callers))
    return perf_counter() - began
