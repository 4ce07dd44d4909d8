"""An end customer is erased from a cluster that works: over PostgreSQL and, where blobs lie in one, a bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.clock import SystemClock
from kernel.domain.ids import OrganizationId
from kernel.errors import SecretUnavailable
from kernel.ids import SystemEntropy
from kernel.store.port import GatewayOpener, PutHeader, SecretKind
from kernel.store.remote import RemoteStore
from tests.support.buckets import make_bucket, s3_blobs, s3_environ
from tests.support.components import needs_kafka, needs_postgres, needs_s3
from tests.support.service_processes import ServiceProcesses, service_processes

pytestmark = [needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(240)]
ACME = OrganizationId("org-acme")


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[ServiceProcesses]:
    async with service_processes(tmp_path) as made:
        yield made


async def test_nothing_of_an_erased_customer_can_be_read_and_others_keep_theirs(processes: ServiceProcesses) -> None:
    bucket = await make_bucket()
    store = processes.start("artifact_store", 1, **s3_environ(bucket, processes.folder / "keys"))
    assert (await asyncio.to_thread(processes.run, "api_gateway", "migrate")).returncode == 0
    await store.ready()
    key = (processes.folder / "keys" / "gateway").read_text()
    remote = RemoteStore(processes.store_address, key, clock=SystemClock(), entropy=SystemEntropy())
    opener = GatewayOpener(ACME)
    leaving, staying = [await remote.vault.subject_for(ACME, name) for name in ("leaving", "staying")]
    own = await remote.bytes.put_bytes(b"only theirs", PutHeader(leaving, opener))
    shared = [await remote.bytes.put_bytes(b"of both", PutHeader(owner, opener)) for owner in (leaving, staying)]
    await remote.vault.put_secret(ACME, leaving, SecretKind.WEBHOOK, b"secret")

    done = await asyncio.to_thread(processes.run, "api_gateway", "erase", ACME, "leaving")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert await remote.bytes.stat(own.sha256) is None
    assert await remote.bytes.get_bytes(shared[0].sha256) == b"of both"
    with pytest.raises(SecretUnavailable):
        await remote.vault.subject_key(leaving, opener)
    assert len(await remote.vault.subject_key(staying, opener)) == 32
    async with s3_blobs(bucket) as blobs:
        assert [found async for page in blobs.digests() for found in page] == [shared[0].sha256]
    again = await asyncio.to_thread(processes.run, "api_gateway", "erase", ACME, "leaving")
    assert again.returncode != 0
    assert "nothing is kept of such a customer" in again.stderr
    await remote.close()
