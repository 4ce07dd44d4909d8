"""The artifact store as objects: what the service puts behind gRPC, and what the embedded platform uses as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artifact_store.admission import Admission
from artifact_store.blobs.local import LocalBlobs
from artifact_store.blobs.port import BlobStore
from artifact_store.owned_bytes import OwnedBytes
from artifact_store.tables import migrations
from artifact_store.vault.keyring import Keyring, open_keyring
from artifact_store.vault.rotation import check_complete, kek_ids_in_use
from artifact_store.vault.sql import SqlVault
from kernel.clock import Clock
from kernel.ids import Entropy
from kernel.sql.port import Database, migrate
from kernel.store.port import TokenCheck

BLOB_BYTES_MAX = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Store:
    """The ports of one artifact store, and what its upkeep needs. Whoever opened the database closes it."""

    bytes: OwnedBytes
    vault: SqlVault
    keyring: Keyring

    async def sweep(self, now_ms: int, *, orphans: bool = True) -> int:
        """Delete what has expired or was never named; returns how many things went. Call it once an hour.

        With `orphans` all names of blobs are read.
        """
        swept = await self.bytes.sweep(now_ms) + await self.vault.sweep(now_ms)
        return swept + (await self.bytes.sweep_orphans(now_ms) if orphans else 0)


async def open_local(folder: Path) -> LocalBlobs:
    """Blobs in a folder, which is made; no second process may use it."""
    blobs = LocalBlobs(folder)
    await asyncio.to_thread(blobs.open)
    return blobs


async def open_store(
    blobs: BlobStore,
    keyring_path: Path,
    db: Database,
    token_check: TokenCheck,
    *,
    clock: Clock,
    entropy: Entropy,
    blob_bytes_max: int = BLOB_BYTES_MAX,
    used: Callable[[str], None] = lambda _: None,
) -> Store:
    """Migrate the tables and, at the very first start, make the keyring. `blobs` are open; their opener closes them.

    `used` is told the kind of each secret that may be opened.
    `Permanent` when the keyring is missing beside existing rows, exposed, damaged, or lacks a key that some row needs.
    """
    await migrate(db, migrations(db.dialect))
    in_use = await kek_ids_in_use(db)
    keyring = await asyncio.to_thread(open_keyring, keyring_path, entropy, create=not in_use)
    check_complete(keyring, in_use)
    admission = Admission(token_check, db, clock, entropy, used)
    owned = OwnedBytes(blobs, db, admission, clock=clock, entropy=entropy, bytes_max=blob_bytes_max)
    return Store(owned, SqlVault(db, keyring, admission, owned, clock=clock, entropy=entropy), keyring)
