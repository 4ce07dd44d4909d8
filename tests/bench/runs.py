"""Runs of no-op steps as a client sees them: W1 (three steps), alone and a hundred at once; W2 (a hundred steps); POST.

A run is over for the client when its terminal event has come over server-sent events. Samples of the platform and of
its baseline are taken by turns, so that other work on the machine weighs on both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter

import msgspec

from tests.bench.figures import Figure, figure, quantile
from tests.bench.http import Connection
from tests.bench.platform import Platform, create_workflow
from tests.bench.processes import cpu_ms
from tests.bench.raw import RawCommits, asks_ms, bare_service

W1_STEPS = 3
W2_STEPS = 100
CHAIN_COMMITS = 8
"""Dependent commits that a run cannot do without: request, created, assigned, started, reported, ended, told, shown."""
START_COMMITS = 4
"""Of these until a runner has started: request, created, assigned, started."""
CALLERS = 100
_ROUNDS = 5
START = b"event: workflow_run.started"
"""The event of a runner that has begun."""
_END = b"event: workflow_run.completed"


@dataclass(frozen=True, slots=True)
class Effort:
    """How many samples to take; `quick` is for a look, not for a record. `size`: how many runs to make beside."""

    quick: bool
    size: int = 0

    def of(self, count: int) -> int:
        return max(count // 10, 1) if self.quick else count

    def many(self, count: int) -> int:
        """How many there are where many is the point: `size`, if somebody has said one."""
        return self.size or self.of(count)


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds from sending the POST: to its answer, and to the terminal event."""

    answered: float
    ended: float


def no_op_steps(count: int) -> object:
    """`stepsJson` of `count` assertions on a constant, none of which needs a page."""
    steps = [{"id": f"step_{n}", "type": "assert", "params": {"that": ["1 == 1"]}} for n in range(count)]
    return {"version": 1, "steps": steps}


async def run_once(connection: Connection, workflow_id: str, awaited: bytes = _END) -> Took:
    """One run from POST to terminal event, or to another `awaited` one. Raises when it ends any other way."""
    began = perf_counter()
    created = await connection.ask("POST", "/api/v2/workflow-runs", b'{"workflowId":"%s"}' % workflow_id.encode())
    answered = perf_counter()
    if created.status != 201:
        raise RuntimeError(f"no run: {created.status} {created.body!r}")
    path = f"/api/v2/workflow-runs/{msgspec.json.decode(created.body)['id']}/events"
    events = await connection.ask("GET", path, accept="text/event-stream", text=awaited)
    if _END not in events.body:
        raise RuntimeError(f"the run did not complete: {events.body!r}")
    return Took((answered - began) * 1000, (events.seen_at - began) * 1000)


async def w1(platform: Platform, folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Three durable no-op steps, one run at a time, and POST with read-your-writes on the way."""
    workflow_id = await create_workflow(platform, no_op_steps(W1_STEPS), "w1")
    connection = await platform.connect()
    for _ in range(effort.of(100)):
        await run_once(connection, workflow_id)
    raw_commits = RawCommits(folder)
    took: list[Took] = []
    chains: list[float] = []
    posts: list[float] = []
    async with bare_service(folder) as bare:
        other = await Connection.open(bare.port)
        await asks_ms(other, "POST", "/one", effort.of(100))
        for _ in range(_ROUNDS):
            took += [await run_once(connection, workflow_id) for _ in range(effort.of(60))]
            chains += raw_commits.chains_ms(effort.of(60), CHAIN_COMMITS)
            posts += await asks_ms(other, "POST", "/one", effort.of(60))
    raw_commits.close()
    ended, answered = [one.ended for one in took], [one.answered for one in took]
    name = f"{CHAIN_COMMITS} SQLite commits (FULL) one after another, and a bare POST"
    for share, title in ((0.5, "p50"), (0.99, "p99")):
        raw = quantile(chains, share) + quantile(posts, share)
        yield figure(f"w1_{title}_ms", quantile(ended, share), "ms", (name, raw), len(ended))
    bare_post = ("bare Litestar and Granian, POST with one SQLite commit (FULL)", quantile(posts, 0.5))
    p99 = quantile(answered, 0.99)
    yield figure("post_p50_ms", quantile(answered, 0.5), "ms", bare_post, len(answered), p99_ms=p99)


async def start(platform: Platform, folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """From sending the POST to seeing that a runner has started, one run at a time."""
    workflow_id = await create_workflow(platform, no_op_steps(1), "start")
    connection = await platform.connect()
    for _ in range(effort.of(50)):
        await run_once(connection, workflow_id, START)
    raw_commits = RawCommits(folder)
    took: list[float] = []
    chains: list[float] = []
    for _ in range(_ROUNDS):
        took += [(await run_once(connection, workflow_id, START)).ended for _ in range(effort.of(60))]
        chains += raw_commits.chains_ms(effort.of(60), START_COMMITS)
    raw_commits.close()
    name = f"{START_COMMITS} SQLite commits (FULL) one after another"
    for share, title in ((0.5, "p50"), (0.99, "p99")):
        raw = (name, quantile(chains, share))
        yield figure(f"start_{title}_ms", quantile(took, share), "ms", raw, len(took))


async def w1_c100(platform: Platform, folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """The same with a hundred callers; CPU of all platform processes, the load generator excluded."""
    workflow_id = await create_workflow(platform, no_op_steps(W1_STEPS), "w1")
    callers = [await platform.connect() for _ in range(CALLERS)]
    await storm(callers, workflow_id, 3)
    each = effort.of(50)
    cpu, began = cpu_ms(platform.pid), perf_counter()
    took = await storm(callers, workflow_id, each)
    seconds, cpu = perf_counter() - began, cpu_ms(platform.pid) - cpu
    runs = CALLERS * each
    async with bare_service(folder) as bare:
        others = [await Connection.open(bare.port) for _ in range(CALLERS)]
        bare_cpu, began = cpu_ms(bare.pid), perf_counter()
        await asyncio.gather(*(_bare_caller(other, each) for other in others))
        bare_seconds, bare_cpu = perf_counter() - began, cpu_ms(bare.pid) - bare_cpu
    name = "bare Litestar and Granian, a POST with one SQLite commit (FULL) and a GET"
    ended = [one.ended for one in took]
    detail = {"p50_ms": quantile(ended, 0.5), "p99_ms": quantile(ended, 0.99)}
    yield figure("w1_c100_runs_per_s", runs / seconds, "runs/s", (name, runs / bare_seconds), runs, **detail)
    yield figure("w1_c100_cpu_ms_per_run", cpu / runs, "ms", (name, bare_cpu / runs), runs)


async def w2(platform: Platform, folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """A hundred sequential durable no-op steps."""
    workflow_id = await create_workflow(platform, no_op_steps(W2_STEPS), "w2")
    connection = await platform.connect()
    await run_once(connection, workflow_id)
    raw_commits = RawCommits(folder)
    took: list[float] = []
    commits: list[float] = []
    for _ in range(effort.of(20)):
        took.append((await run_once(connection, workflow_id)).ended / W2_STEPS)
        commits += raw_commits.chains_ms(20, 1)
    raw_commits.close()
    baseline = ("one SQLite commit (FULL)", quantile(commits, 0.5))
    yield figure("w2_ms_per_step", quantile(took, 0.5), "ms", baseline, len(took), p99_ms=quantile(took, 0.99))


async def storm(callers: list[Connection], workflow_id: str, each: int) -> list[Took]:
    async def caller(connection: Connection) -> list[Took]:
        return [await run_once(connection, workflow_id) for _ in range(each)]

    return [*chain(*await asyncio.gather(*(caller(connection) for connection in callers)))]


async def _bare_caller(connection: Connection, each: int) -> None:
    for _ in range(each):
        await connection.ask("POST", "/one", b"{}")
        await connection.ask("GET", "/one")
