"""Records that two gateways change at the same time: each conditional write is done by one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_gateway.idempotency import TAKEOVER_MS, Claim, IdempotencyStore, StoredAnswer, claim_of
from api_gateway.key_store import KeyStore, NewKey
from api_gateway.limiter import Limiter
from api_gateway.migrations import migrations
from api_gateway.principal import Level
from api_gateway.rates import Rate
from kernel.errors import Rejected
from kernel.ids import SystemEntropy
from kernel.sealing import SubjectKeys
from kernel.sql.port import migrate
from kernel.sql.postgres import PostgresDatabase
from tests.support.components import needs_postgres
from tests.support.databases import schema_of_its_own
from tests.support.gateways import ACME, PEPPER
from tests.support.reports import TestClock
from tests.support.stores import store_in

pytestmark = needs_postgres
ROUNDS = 20


def a_claim(key: str, taken_ms: int) -> Claim:
    return claim_of(ACME, key, PEPPER, route="POST /x", path="/x", body=b"{}", taken_ms=taken_ms)


@pytest.fixture
async def two() -> AsyncIterator[list[PostgresDatabase]]:
    """What two gateways hold: each a pool of its own."""
    async with schema_of_its_own() as (url, schema):
        dbs = [await PostgresDatabase.open(url, schema=schema, pool_max=5) for _ in range(2)]
        await migrate(dbs[0], migrations("postgres"))
        yield dbs
        for db in dbs:
            await db.close()


async def test_of_the_same_request_at_both_one_is_carried_out(two: list[PostgresDatabase], tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        keys = SubjectKeys(store.vault, store.clock)
        gateways = [IdempotencyStore(db, SystemEntropy(), keys, store.vault) for db in two]
        for number in range(ROUNDS):
            claim = a_claim(f"key-{number}", store.clock.now_ms())
            begun = await asyncio.gather(*(one.begin(claim) for one in gateways * 4), return_exceptions=True)
            assert begun.count(None) == 1, begun
            assert {error.code for error in begun if isinstance(error, Rejected)} == {"idempotency_in_progress"}
            await gateways[0].finish(claim, StoredAnswer(201, b"made"))
            assert await gateways[1].begin(claim) == StoredAnswer(201, b"made")


async def test_what_was_left_under_way_is_taken_over_by_one(two: list[PostgresDatabase], tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        keys = SubjectKeys(store.vault, store.clock)
        gateways = [IdempotencyStore(db, SystemEntropy(), keys, store.vault) for db in two]
        assert await gateways[0].begin(a_claim("key", store.clock.now_ms())) is None
        for _ in range(ROUNDS):
            store.clock.ms += TAKEOVER_MS + 1000
            claim = a_claim("key", store.clock.now_ms())
            begun = await asyncio.gather(*(one.begin(claim) for one in gateways * 4), return_exceptions=True)
            assert begun.count(None) == 1, begun


async def test_both_together_admit_what_one_bucket_holds(two: list[PostgresDatabase]) -> None:
    clock, rate = TestClock(), Rate(per_minute=60, burst=50)
    clock.ms = 1_800_000_000_000.0
    limiters = [Limiter(db, clock, "key", rate) for db in two]
    for name in range(5):
        standings = await asyncio.gather(*(limiters[n % 2].take(f"caller-{name}") for n in range(200)))
        admitted = sum(standing is not None and not standing.retry_in_seconds for standing in standings)
        assert 40 <= admitted <= 50


async def test_of_two_admins_that_revoke_each_other_one_stays(two: list[PostgresDatabase]) -> None:
    clock = TestClock()
    clock.ms = 1_800_000_000_000.0
    stores = [KeyStore(db, PEPPER, clock, SystemEntropy()) for db in two]
    for _ in range(ROUNDS):
        created = [await stores[0].create(ACME, NewKey(Level.ADMIN)) for _ in range(2)]
        ends = await asyncio.gather(
            *(store.revoke(ACME, key.answer.id) for store, key in zip(stores, created, strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(end).__name__ for end in ends) == ["ApiKeyAnswer", "Rejected"], ends
        rows = await two[0].fetch_all("SELECT id FROM api_keys WHERE level = 'admin' AND revoked_ms = 0")
        assert len(rows) == 1
        await two[0].execute("DELETE FROM api_keys")
