"""A runner over what a form of the product has below it: log, database, blobs, and a vault that asks the fence.

In process: the way between runner and store by gRPC has its own suites.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from artifact_store.blobs.port import BlobStore
from artifact_store.inprocess import open_local, open_store
from browser_runner.ports import BrowserPool
from browser_runner.runner import Runner
from kernel.clock import SystemClock
from kernel.domain.ids import ConnectionId
from kernel.fence import Fence
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.store.port import GatewayOpener, PutHeader, SecretKind, SecretRef, Session
from tests.support import runner_world
from tests.support.buckets import s3_blobs
from tests.support.grounds import chosen, ground_in
from tests.support.model_site import HOST
from tests.support.runner_world import ORGANIZATION, PARTITIONS, SLOTS, sealer_over, services_over

OWNER = GatewayOpener(ORGANIZATION)


@dataclass(kw_only=True)
class World(runner_world.World):
    """With the gateway's hands in the store."""

    blobs: BlobStore
    poll_seconds: float = 0.02

    async def keep(self, value: bytes, kind: SecretKind = SecretKind.INPUT) -> SecretRef:
        """A secret of the subject, as a person gives it; its name in inputs and answers."""
        return await self.services.vault.put_secret(ORGANIZATION, self.subject, kind, value)

    async def put_blob(self, value: bytes) -> str:
        """A blob of the subject; its digest."""
        return (await self.services.store.put_bytes(value, PutHeader(self.subject, OWNER))).sha256

    async def blob(self, sha256: str) -> bytes:
        """What was kept."""
        return await self.services.store.get_bytes(sha256)

    async def session(self, connection: ConnectionId) -> Session | None:
        """The saved login."""
        return await self.services.vault.load_session(connection, OWNER)

    async def all_blobs(self) -> list[bytes]:
        """Everything that was kept."""
        digests = [digest async for page in self.blobs.digests() for digest in page]
        return [await self.blob(digest) for digest in digests]


@asynccontextmanager
async def grounded(
    folder: Path, browsers: BrowserPool, form: tuple[str, str] = ("", ""), *, host: str = HOST, run: bool = True
) -> AsyncIterator[World]:
    """A runner that is up, or, with `run=False`, about to be started; `form` as in `FORMS`, or what pytest was told."""
    clock, (database, log_kind) = SystemClock(), form
    async with AsyncExitStack() as stack:
        ground = ground_in(folder, clock, database=database, log=log_kind, partitions=PARTITIONS)
        db, log = await stack.enter_async_context(ground)
        if chosen("DATABASE", database) == "postgres":
            blobs: BlobStore = await stack.enter_async_context(s3_blobs(clock=clock))
        else:
            blobs = await open_local(folder / "bytes")
        fence = Fence(log, decode, clock)
        store = await open_store(blobs, folder / "keyring.json", db, fence, clock=clock, entropy=SystemEntropy())
        services = services_over(
            log=log, store=store.bytes, vault=store.vault, fence=fence, browsers=browsers, clock=clock
        )
        world = World(
            services=services, runner=Runner(services, SLOTS), sealer=sealer_over(services), fence=fence,
            subject=await store.vault.subject_for(ORGANIZATION), hosts=(host,), blobs=blobs,
        )  # fmt: skip
        stack.push_async_callback(world.stop)
        if run:
            world.start()
        yield world
