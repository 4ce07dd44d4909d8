"""PostgreSQL walks to a page of a long list by indexes, and sorts nothing."""

from __future__ import annotations

import pytest

from api_gateway import listing
from api_gateway.listing import Where, Window
from api_gateway.migrations import migrations
from kernel.sql.port import migrate
from kernel.sql.postgres import PostgresDatabase
from tests.support.components import needs_postgres
from tests.support.databases import schema_of_its_own

pytestmark = needs_postgres
RUNS = 30_000
_FILL = """
INSERT INTO workflow_runs (id, root_run_id, organization_id, job_run_id, workflow_id, revision, provider, status,
  subject_id, external_id, test_mode, created_by, retry_of, position, created_ms, updated_ms)
SELECT md5(n::TEXT), md5(n::TEXT), 'acme', '', 'w' || n % 20, 1, 'p',
  CASE WHEN n % 100 < 92 THEN 'completed' WHEN n % 100 < 98 THEN 'failed' ELSE 'in_progress' END,
  's', '', (n % 97 = 0)::INT, 'u', '', 0, n, n FROM generate_series(1, ?::BIGINT) AS n
"""
_CASES: tuple[tuple[Where, int], ...] = (
    ({}, 0),
    ({}, 1000),
    ({}, RUNS - 100),
    ({"status": "completed"}, 0),
    ({"status": ("failed", "in_progress"), "test_mode": 0}, 0),
    ({"workflow_id": "w3"}, 0),
)


@pytest.mark.timeout(120)
async def test_no_page_sorts_or_reads_the_whole_table() -> None:
    async with schema_of_its_own() as (url, schema):
        db = await PostgresDatabase.open(url, schema=schema)
        await migrate(db, migrations(db.dialect))
        await db.execute(_FILL, (RUNS,))
        for table in ("workflow_runs", "workflow_run_counts"):
            await db.execute(f"VACUUM ANALYZE {table}")
        for wanted, offset in _CASES:
            where = {"organization_id": "acme", **wanted}
            ((count,),) = await db.fetch_all(*listing.total(listing.WORKFLOW_RUNS, where))
            sql, params = listing.page(
                listing.WORKFLOW_RUNS, "id, status", where, Window(50, offset), count=count, dialect="postgres"
            )
            assert len(await db.fetch_all(sql, params)) == 50
            plan = "\n".join(line for (line,) in await db.fetch_all(f"EXPLAIN {sql}", params))
            assert "Seq Scan" not in plan, plan
            walks = plan.partition("->")[2].partition("workflow_runs_pkey")[0]
            assert walks.count("Sort  (") <= (1 if offset > RUNS // 2 else 0), plan
        await db.close()
