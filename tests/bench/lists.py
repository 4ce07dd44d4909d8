"""Reads beside a million finished runs: pages of the list, near and far and filtered, and single runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import msgspec

from kernel.domain.ids import OrganizationId
from kernel.sql.postgres import UNHURRIED, PostgresDatabase
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from tests.bench.figures import Figure, figure, quantile, tell
from tests.bench.http import Connection
from tests.bench.loading import Owner, load_runs
from tests.bench.platform import NO_LIMITS, Platform, create_workflow, running_platform
from tests.bench.raw import asks_ms, bare_service
from tests.bench.runs import Effort, no_op_steps
from tests.support.cluster_process import ClusterProcess

RUNS = 1_000_000
WORKFLOWS = 20
_PAGE = 50


async def lists(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Load the runs into a stopped platform's folder, then ask its gateway."""
    with running_platform(folder) as platform:
        owned = [await create_workflow(platform, no_op_steps(1), f"list {n}") for n in range(WORKFLOWS)]
    runs = effort.many(RUNS)
    tell(f"{runs} runs are loaded: about {runs // 7000} s")
    middle = await _load(platform.folder, owned, runs)
    size = platform.database.stat().st_size
    with running_platform(folder) as platform:
        async for one in _figures(platform, folder, effort, _Loaded(runs, owned[3], middle, size)):
            yield one


async def kafka_lists(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """The same of the cluster form: rows in PostgreSQL, asked of one of its gateways."""
    with ClusterProcess(folder, browser="", TOWPATH_DEMO="0", **NO_LIMITS) as cluster:
        cluster.start()
        await asyncio.to_thread(cluster.await_ready)
        key = (cluster.data / "api-key").read_text().strip()
        platform = Platform(cluster.port, key, cluster.launcher.pid if cluster.launcher else 0, cluster.data)
        owned = [await create_workflow(platform, no_op_steps(1), f"list {n}") for n in range(WORKFLOWS)]
        runs = effort.many(RUNS)
        tell(f"{runs} runs are loaded: about {runs // 8000} s")
        db = await PostgresDatabase.open(cluster.endpoints()["postgres"], timeouts=UNHURRIED, durable=False)
        try:
            ((organization,),) = await db.fetch_all("SELECT DISTINCT organization_id FROM api_keys")
            middle = await load_runs(db, Owner(OrganizationId(organization), owned), runs)
            for table in ("workflow_runs", "workflow_run_counts", "run_events"):
                await db.execute(f"VACUUM ANALYZE {table}")  # as autovacuum does within a minute
            ((size,),) = await db.fetch_all("SELECT pg_database_size(current_database())")
        finally:
            await db.close()
        async for one in _figures(platform, folder, effort, _Loaded(runs, owned[3], middle, size)):
            yield replace(one, name=f"kafka_{one.name}")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """So many runs, one of their workflows, the run in the middle, and the bytes that all of it takes."""

    runs: int
    workflow: str
    middle: str
    size: int


async def _figures(platform: Platform, folder: Path, effort: Effort, loaded: _Loaded) -> AsyncIterator[Figure]:
    connection = await platform.connect()
    async with bare_service(folder) as bare:
        other = await Connection.open(bare.port)
        raw = quantile(await asks_ms(other, "GET", "/one", effort.of(500)), 0.5)
    name = ("bare Litestar and Granian, GET", raw)
    rows = {"runs": loaded.runs, "row_bytes_a_run": loaded.size / loaded.runs}
    list_ = f"/api/v2/workflow-runs?limit={_PAGE}"
    for title, path in (
        ("list_50_at_1m_ms", list_),
        ("list_50_failed_of_workflow_at_1m_ms", f"{list_}&workflowId={loaded.workflow}&status=FAILED"),
        ("list_50_in_the_middle_of_1m_ms", f"{list_}&offset={loaded.runs // 2}"),
        ("get_at_1m_ms", f"/api/v2/workflow-runs/{loaded.middle}"),
    ):
        took = await _answered_ms(connection, path, effort.of(200))
        yield figure(title, quantile(took, 0.5), "ms", name, len(took), p99_ms=quantile(took, 0.99), **rows)


async def _load(folder: Path, workflow_ids: list[str], runs: int) -> str:
    organization = OrganizationId((folder / "organization-id").read_text().strip())
    file = await SqliteFile.open(folder / "towpath.sqlite")
    try:
        return await load_runs(SqliteDatabase(file), Owner(organization, workflow_ids), runs)
    finally:
        await file.close()


async def _answered_ms(connection: Connection, path: str, count: int) -> list[float]:
    """How long each answer takes. Raises when one is not what was asked for."""
    took = []
    for _ in range(count):
        began = perf_counter()
        reply = await connection.ask("GET", path)
        took.append((perf_counter() - began) * 1000)
        if reply.status != 200 or not msgspec.json.decode(reply.body).get("data", [True]):
            raise RuntimeError(f"GET {path}: {reply.status} {reply.body[:200]!r}")
    return took
