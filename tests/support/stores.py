"""Artifact stores for tests: a real database and a real folder or bucket, in process or behind gRPC on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from artifact_store.blobs.port import BlobStore
from artifact_store.inprocess import Store, open_local, open_store
from artifact_store.server import ServiceKeys, StoreServer
from kernel.domain.ids import OrganizationId, RootRunId, TaskId, WorkflowRunId
from kernel.domain.values import Token
from kernel.errors import TokenNotSeen
from kernel.ids import SystemEntropy
from kernel.sql.port import Database
from kernel.store.port import ByteStore, GatewayOpener, RunOpener, Vault
from kernel.store.remote import RemoteStore
from tests.support.buckets import s3_blobs
from tests.support.databases import IMPLEMENTATIONS
from tests.support.reports import TestClock

ACME = OrganizationId("org-acme")
OTHER = OrganizationId("org-other")
GATEWAY = GatewayOpener(ACME)
CLUSTER = "on postgres and s3"
WAYS = ("in process", "grpc", "on postgres")
"""Over SQLite in process or behind gRPC, or over PostgreSQL in process."""
KEYS = ServiceKeys(gateway="gateway-service-key", runner="runner-service-key")


def run_opener(attempt: int = 1, organization_id: OrganizationId = ACME, run: str = "run-1") -> RunOpener:
    """Attempt `attempt` of a run."""
    token = Token(attempt, f"{attempt:032x}")
    return RunOpener(organization_id, RootRunId(run), WorkflowRunId(f"w-{run}"), TaskId(f"task-{run}-{attempt}"), token)


NOT_ASSIGNED = 0
"""No attempt of a run, as far as was read."""


class Tokens:
    """The fence: knows the current attempt of every run; 1 until told, maybe `NOT_ASSIGNED`."""

    def __init__(self) -> None:
        self.current: dict[str, int] = {}

    async def is_current(self, root_run_id: RootRunId, token: Token, since_ms: int = 0) -> bool:
        current = self.current.get(root_run_id, 1)
        if current == NOT_ASSIGNED:
            raise TokenNotSeen("not so far")
        return token.attempt == current


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """One store as its users see it (`bytes`, `vault`), and the hands of the test inside it."""

    bytes: ByteStore
    vault: Vault
    runner_bytes: ByteStore
    """What a runner holds; in process the same object."""
    runner_vault: Vault
    inside: Store
    db: Database
    tokens: Tokens
    clock: TestClock
    folder: Path


@asynccontextmanager
async def store_in(
    folder: Path, how: str = "in process", blob_bytes_max: int = 8 * 1024**2
) -> AsyncIterator[OpenedStore]:
    """Open a store below `folder`; `how` is one of `WAYS`, or `CLUSTER`."""
    clock, tokens = TestClock(), Tokens()
    clock.ms = 1_800_000_000_000.0
    database = "postgres" if how in {"on postgres", CLUSTER} else "sqlite"
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(IMPLEMENTATIONS[database](folder))
        blobs: BlobStore = await open_local(folder / "bytes")
        if how == CLUSTER:
            blobs = await stack.enter_async_context(s3_blobs(clock=clock))
        inside = await open_store(
            blobs,
            folder / "keyring.json",
            db,
            tokens,
            clock=clock,
            entropy=SystemEntropy(),
            blob_bytes_max=blob_bytes_max,
        )
        if how != "grpc":
            seen = (inside.bytes, inside.vault, inside.bytes, inside.vault)
            yield OpenedStore(*seen, inside, db, tokens, clock, folder)
            return
        async with _served(inside, clock) as (gateway, runner):
            seen_remotely = (gateway.bytes, gateway.vault, runner.bytes, runner.vault)
            yield OpenedStore(*seen_remotely, inside, db, tokens, clock, folder)


@asynccontextmanager
async def _served(inside: Store, clock: TestClock) -> AsyncIterator[tuple[RemoteStore, RemoteStore]]:
    server = StoreServer(inside.bytes, inside.vault, KEYS, address="127.0.0.1:0")
    await server.start()
    target = f"127.0.0.1:{server.port}"
    gateway = RemoteStore(target, KEYS.gateway, clock=clock, entropy=SystemEntropy())
    runner = RemoteStore(target, KEYS.runner, clock=clock, entropy=SystemEntropy())
    try:
        yield gateway, runner
    finally:
        await gateway.close()
        await runner.close()
        await server.drain(0.0)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, one by one."""
    for chunk in chunks:
        yield chunk


class BrokenLineError(Exception):
    """The line of a test breaks."""


async def broken_after(*chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, then the line breaks."""
    for chunk in chunks:
        yield chunk
    raise BrokenLineError
