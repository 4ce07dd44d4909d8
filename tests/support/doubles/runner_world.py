"""A runner with everything around it in memory: log, fence, vault, store, a model site; time by hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from browser_runner.login import half_login_of
from browser_runner.ports import BrowserPool
from browser_runner.runner import Runner
from kernel.domain.ids import SubjectId
from kernel.errors import Rejected, SecretUnavailable, Temporary
from kernel.fence import Fence
from kernel.log.codec import decode
from kernel.log.memory import MemoryLog
from kernel.store.port import ByteStore, PutHeader, RunOpener, Session, Staged, Vault
from kernel.store.secret import Secret
from tests.support import runner_world
from tests.support.model_site import ModelBrowsers, Site
from tests.support.processing import HandClock
from tests.support.runner_world import PARTITIONS, RUN, SLOTS, sealer_over, services_over

SUBJECT = SubjectId("subject-1")


@dataclass
class MemoryBytes:
    """Blobs in a dictionary."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        return await self.put_bytes(b"".join([chunk async for chunk in chunks]), header)

    async def put_bytes(self, value: bytes, header: PutHeader) -> Staged:
        sha256 = hashlib.sha256(value).hexdigest()
        self.blobs[sha256] = value
        return Staged(sha256, len(value), header.mime_hint or "application/octet-stream")

    async def get_bytes(self, sha256: str) -> bytes:
        return self.blobs[sha256]

    async def get(self, sha256: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        yield self.blobs[sha256][offset:]


@dataclass
class MemoryVault:
    """Keys, secrets and sessions in dictionaries."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    codes: list[str | float] = field(default_factory=list)
    session: Session | None = None
    """The saved login of whatever connection."""
    halves: dict[str, Session] = field(default_factory=dict)
    """Half-finished logins, by where they are kept."""
    proven: int = 0
    refuses: SecretUnavailable | None = None
    """What every opening is answered with."""
    away: int = 0
    """How many of a run's calls for a key nobody answers."""

    async def subject_key(self, subject_id: SubjectId, opener: object) -> bytes:
        if self.away and isinstance(opener, RunOpener):
            self.away -= 1
            raise Temporary("store_unavailable", "nobody answers")
        return hashlib.sha256(subject_id.encode()).digest()

    async def open_secret(self, ref: str, opener: object, connection_id: str = "") -> Secret:
        if self.refuses is not None:
            raise self.refuses
        if ref not in self.secrets:
            raise SecretUnavailable("no such secret")
        return Secret(self.secrets[ref])

    async def totp_code(self, ref: str, opener: object, connection_id: str = "") -> Secret:
        """The next of `codes`; a number among them is a wait, in seconds, as between two windows of time."""
        code = self.codes.pop(0)
        if isinstance(code, str):
            return Secret(code.encode())
        raise Temporary("totp_window_used", "the next window of time makes the next code", code)

    async def load_session(self, connection_id: str, opener: object) -> Session | None:
        return self.halves.get(connection_id) if connection_id == half_login_of(RUN) else self.session

    async def save_session(
        self,
        connection_id: str,
        subject_id: str,
        opener: object,
        *,
        expected_version: int,
        state: bytes,
        expires_ms: int,
    ) -> int:
        kept = await self.load_session(connection_id, opener)
        version = kept.version if kept else 0
        if expected_version != version:
            raise Rejected("session_version_mismatch", "saved meanwhile")
        saved = Session(version + 1, state)
        if connection_id == half_login_of(RUN):
            self.halves[connection_id] = saved
        else:
            self.session = saved
        return version + 1

    async def forget_session(self, connection_id: str, opener: object) -> None:
        if connection_id == half_login_of(RUN):
            self.halves.pop(connection_id, None)
        else:
            self.session = None

    async def credentials_proven(self, connection_id: str, opener: object) -> None:
        self.proven += 1


@dataclass(kw_only=True)
class World(runner_world.World):
    """With the test's hands in log, store, vault and time."""

    clock: HandClock
    log: MemoryLog
    site: Site
    store: MemoryBytes
    vault: MemoryVault

    async def tick(self, milliseconds: int = 500, times: int = 1) -> None:
        """Let time pass in small steps, and everybody run between them."""
        for _ in range(times):
            self.clock.advance(milliseconds)
            for _ in range(20):
                await asyncio.sleep(0)


@asynccontextmanager
async def a_world(
    site: Site | None = None, *, browsers: BrowserPool | None = None, run: bool = True
) -> AsyncIterator[World]:
    """A runner that is up, or, with `run=False`, about to be started."""
    clock, site = HandClock(), site or Site()
    log, store, vault = MemoryLog(PARTITIONS, clock), MemoryBytes(), MemoryVault()
    fence = Fence(log, decode, clock)
    services = services_over(
        log=log, store=cast("ByteStore", store), vault=cast("Vault", vault), fence=fence, clock=clock,
        browsers=browsers or ModelBrowsers(site),
    )  # fmt: skip
    world = World(
        services=services, runner=Runner(services, SLOTS), sealer=sealer_over(services), fence=fence, subject=SUBJECT,
        clock=clock, log=log, site=site, store=store, vault=vault,
    )  # fmt: skip
    if run:
        world.start()
        for _ in range(20):
            await asyncio.sleep(0)
    try:
        yield world
    finally:
        await world.stop()
