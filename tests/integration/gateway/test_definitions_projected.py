"""What the registry decided, in rows: archived, deleted, registered anew; the same after a rebuild and a migration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from api_gateway.definition_queries import DefinitionQueries
from api_gateway.listing import Window
from api_gateway.migrations import migrations
from api_gateway.projecting import Projector
from api_gateway.projections import catalog
from api_gateway.registry.decider import Request
from api_gateway.waiting import Waiters
from kernel.clock import SystemClock
from kernel.domain.decider import Decision
from kernel.domain.ids import OrganizationId
from kernel.domain.provider import RegisterMode
from kernel.errors import Rejected
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.sql.port import Database, Row, migrate
from kernel.store.port import ByteStore
from tests.integration.gateway.conftest import PARTITIONS
from tests.support.registry import (
    ACME,
    GUSTO,
    Registry,
    change_job,
    change_workflow,
    create_job,
    create_workflow,
    delete_job,
    delete_provider,
    delete_workflow,
    register_provider,
)
from tests.support.stores import CLUSTER, store_in

ALL = Window(10, 0)
OF_OLD = OrganizationId("acme")
HISTORY: Sequence[Request] = (
    create_workflow("Stays"),
    create_workflow("Goes", workflow="w2"),
    create_job("w1", "w2"),
    create_job("w1", job="j2"),
    register_provider(concurrency=3, login_url="https://a.test"),
    register_provider(request="c", mode=RegisterMode.CHANGE, given=["concurrency"], concurrency=5),
    change_workflow(steps='{"steps":[1]}'),
    delete_workflow("w2", force=True),
    change_job(["w1"]),
    delete_job("j2"),
)


@pytest.fixture
def db(ground: tuple[Database, EventLog]) -> Database:
    """An empty database without tables."""
    return ground[0]


@pytest.fixture
async def store(db: Database, tmp_path: Path) -> AsyncIterator[ByteStore]:
    """Where long documents would be."""
    async with store_in(tmp_path / "store", CLUSTER if db.dialect == "postgres" else "in process") as opened:
        yield opened.bytes


@pytest.fixture
async def definitions(db: Database, log: EventLog, store: ByteStore) -> Definitions:
    """Nothing is defined yet."""
    await migrate(db, migrations(db.dialect))
    return Definitions(db, log, store)


class Definitions:
    """A registry, its public log, and the rows that follow from it."""

    def __init__(self, db: Database, log: EventLog, store: ByteStore) -> None:
        self.registry = Registry()
        self.log = log
        self.projector = Projector(log, db, Waiters(), SystemClock())
        self.queries = DefinitionQueries(db, store)

    async def decide(self, *requests: Request) -> None:
        """Decide and publish one after another; nothing is projected."""
        for request in requests:
            for decision in self.registry.when(request):
                await self._publish(decision)

    async def _publish(self, decision: Decision) -> None:
        for derived in self.registry.decider.derive(decision):
            partition = partition_of(derived.key, PARTITIONS[Topic.DEFINITIONS.value])
            envelope = Envelope(
                f"{derived.key}-{decision.sequence}", 1000 + len(self.registry.ledger), sequence=decision.sequence
            )
            record = encode(
                derived.event, topic=Topic.DEFINITIONS, key=derived.key, envelope=envelope, partition=partition
            )
            await self.log.append([record])


async def everything(db: Database) -> dict[str, list[Row]]:
    return {table.name: sorted(await db.fetch_all(f"SELECT * FROM {table.name}"), key=repr) for table in catalog.TABLES}


async def test_rows_tell_what_the_registry_knows(definitions: Definitions) -> None:
    await definitions.decide(*HISTORY)
    await definitions.projector.catch_up()
    queries, state = definitions.queries, definitions.registry.state
    assert [answer.id for answer in (await queries.workflows(ACME, ALL)).items] == ["w1"]
    archived = await queries.workflow(ACME, "w2")
    assert archived.deleted_ms == archived.updated_ms > archived.created_ms
    assert [answer.id for answer in (await queries.jobs(ACME, ALL, workflow_id="w1")).items] == ["j1"]
    with pytest.raises(Rejected, match="no such job"):
        await queries.job(ACME, "j2")
    provider = await queries.provider(ACME, GUSTO)
    assert (provider.concurrency, provider.login_url) == (5, "https://a.test")
    versions = [(await queries.workflow(ACME, "w1")).version, (await queries.job(ACME, "j1")).version, provider.version]
    keys = ("workflow/w1", "job/j1", f"provider/{ACME}/{GUSTO}")
    assert versions == [known.sequence for key in keys if (known := state.get(key))] == [2, 2, 2]


async def test_a_provider_registered_anew_keeps_the_time_of_its_first_registration(definitions: Definitions) -> None:
    await definitions.decide(register_provider(concurrency=3))
    await definitions.projector.catch_up()
    first = await definitions.queries.provider(ACME, GUSTO)
    await definitions.decide(delete_provider())
    await definitions.projector.catch_up()
    assert (await definitions.queries.providers(ACME, ALL)).total == 0
    await definitions.decide(register_provider(request="anew"))
    await definitions.projector.catch_up()
    anew = await definitions.queries.provider(ACME, GUSTO)
    assert (anew.created_ms, anew.concurrency, anew.version) == (first.created_ms, 0, 3)


@pytest.mark.parametrize("step_by_step", [False, True])
async def test_a_rebuild_ends_in_the_same_definitions(
    db: Database, definitions: Definitions, *, step_by_step: bool
) -> None:
    for request in (*HISTORY, delete_provider(), register_provider(request="anew")):
        await definitions.decide(request)
        if step_by_step:
            await definitions.projector.catch_up()
    await definitions.projector.catch_up()
    before = await everything(db)
    await definitions.projector.rebuild()
    assert await everything(db) == before


async def test_definitions_of_an_earlier_release_get_their_versions(db: Database, store: ByteStore) -> None:
    now = migrations(db.dialect)
    await migrate(db, now[:2])
    await db.execute(
        "INSERT INTO workflows (id, organization_id, name, provider, type, document, document_blob, document_size,"
        " revision, status, created_ms, updated_ms, created_by, updated_by)"
        " VALUES ('w', 'acme', 'PayROLL', 'p', 'LOGIN', '{}', '', 2, 1, 'active', 1, 2, 'u', 'u')",
    )
    await db.execute(
        "INSERT INTO jobs (id, organization_id, name, provider, workflow_ids, created_ms, updated_ms, created_by,"
        " updated_by) VALUES ('j', 'acme', 'n', 'p', '[]', 1, 2, 'u', 'u')",
    )
    await db.execute(
        "INSERT INTO providers (organization_id, slug, display_name, login_url, allowed_domains, updated_ms)"
        " VALUES ('acme', 'p', 'P', '', '[]', 7)",
    )
    for stream, sequence in (("w", 4), ("j", 5), ("acme/p", 6)):
        await db.execute(
            "INSERT INTO projected_streams (topic, stream, sequence) VALUES ('definitions', ?, ?)", (stream, sequence)
        )
    await migrate(db, now)
    queries = DefinitionQueries(db, store)
    (workflow,) = (await queries.workflows(OF_OLD, ALL, name="payroll")).items
    job, provider = await queries.job(OF_OLD, "j"), await queries.provider(OF_OLD, "p")
    assert (workflow.version, job.version, provider.version, provider.created_ms) == (4, 5, 6, 7)
