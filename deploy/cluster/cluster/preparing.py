"""What a local cluster needs before its services start: topics, tables, keys. It changes nothing that is there.

A process of its own, so that the launcher does not carry the clients of Kafka and PostgreSQL around.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from api_gateway.migrations import migrations as gateway_migrations
from artifact_store.tables import migrations as store_migrations
from artifact_store.vault.keyring import open_keyring
from artifact_store.vault.rotation import kek_ids_in_use
from cluster.layout import PARTITIONS, Layout, read_layout
from embedded.folder import kept_bytes, kept_text
from embedded.keys import first_api_key
from kernel.clock import SystemClock
from kernel.errors import TowpathError
from kernel.ids import Entropy, SystemEntropy
from kernel.log.kafka.settings import kafka_settings
from kernel.log.kafka.topics import create_topics
from kernel.sql.port import migrate
from kernel.sql.postgres.settings import postgres_settings


def prepare() -> int:
    """Make what is missing; the exit code. The servers run, and the environment says where."""
    try:
        asyncio.run(_prepare(read_layout()))
    except (TowpathError, OSError, ValueError) as error:
        print(f"towpath: {error}", file=sys.stderr)
        return 1
    return 0


async def _prepare(layout: Layout) -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    pepper = make_keys(layout.keys, entropy)
    await create_topics(kafka_settings(os.environ), partitions=PARTITIONS)
    db = await postgres_settings(os.environ).open()
    try:
        await migrate(db, [*gateway_migrations(db.dialect), *store_migrations(db.dialect)])
        open_keyring(layout.keys / "keyring.json", entropy, create=not await kek_ids_in_use(db))
        await first_api_key(layout.settings, db, pepper, clock, entropy)
    finally:
        await db.close()


def make_keys(folder: Path, entropy: Entropy) -> bytes:
    """Make the secrets of the services but the keyring that are not in `folder` yet; the pepper of API keys. Blocks."""
    kept_text(folder / "gateway-key", lambda: entropy.bytes(32).hex())
    kept_text(folder / "runner-key", lambda: entropy.bytes(32).hex())
    kept_text(folder / "signing-keys", lambda: f"k1 {entropy.bytes(32).hex()}")
    return kept_bytes(folder / "pepper", 32, entropy)
