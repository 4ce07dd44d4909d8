"""The API key of a fresh folder: made once, printed once by the launcher, kept in `api-key` with mode 0600."""

from __future__ import annotations

import asyncio

from api_gateway.key_store import KeyStore, NewKey
from api_gateway.principal import Level
from embedded.folder import kept_uuid, write_private
from embedded.settings import Settings
from kernel.clock import Clock
from kernel.domain.ids import OrganizationId
from kernel.ids import Entropy
from kernel.sql.port import Database


async def first_api_key(settings: Settings, db: Database, pepper: bytes, clock: Clock, entropy: Entropy) -> None:
    """Make the key when the folder has none. A crash in between leaves a key that nobody knows, which opens nothing."""
    if settings.api_key.exists():
        return
    organization = OrganizationId(await asyncio.to_thread(kept_uuid, settings.data / "organization-id", entropy))
    new = NewKey(Level.ADMIN, "made at the first start")
    key = await KeyStore(db, pepper, clock, entropy).create(organization, new)
    await asyncio.to_thread(write_private, settings.api_key, key.text + "\n")
