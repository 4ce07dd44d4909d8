"""What a cluster needs before its services start: keys, topics, tables, a bucket. It changes nothing that is there.

A process of its own, so that the launcher does not carry the clients of Kafka, PostgreSQL and S3 around; in the compose
file it is a service that runs once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from api_gateway.migrations import migrations as gateway_migrations
from artifact_store.blobs.bucket import make_bucket
from artifact_store.blobs.opening import bucket_settings
from artifact_store.settings import settings_from as store_settings
from artifact_store.tables import migrations as store_migrations
from artifact_store.vault.keyring import open_keyring
from artifact_store.vault.rotation import kek_ids_in_use
from cluster.layout import PARTITIONS, Layout, read_layout
from embedded.keys import first_api_key
from kernel.clock import SystemClock
from kernel.errors import TowpathError
from kernel.ids import SystemEntropy
from kernel.log.kafka.settings import kafka_settings
from kernel.log.kafka.topics import create_topics
from kernel.sql.port import migrate
from kernel.sql.postgres.settings import postgres_settings

_POSTGRES = "postgres:5432/towpath"
"""Where PostgreSQL is for services in containers."""


def prepare() -> int:
    """Make what is missing; the exit code. The servers run, and the environment says where; the API key is printed."""
    return _told(lambda layout: asyncio.run(_prepare(layout)))


def make_keys() -> int:
    """Make the secrets that servers in containers are given before they start, and those of the services."""

    def make(layout: Layout) -> None:
        layout.keys.make(SystemEntropy())
        layout.keys.make_for_servers(SystemEntropy(), _POSTGRES)

    return _told(make)


def _told(work: Callable[[Layout], None]) -> int:
    try:
        work(read_layout())
    except (TowpathError, OSError, ValueError) as error:
        print(f"towpath: {error}", file=sys.stderr)
        return 1
    return 0


async def _prepare(layout: Layout) -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    pepper = layout.keys.make(entropy)
    await create_topics(kafka_settings(os.environ), partitions=PARTITIONS)
    await make_bucket(bucket_settings(store_settings(os.environ)))
    db = await postgres_settings(os.environ).open()
    try:
        await migrate(db, [*gateway_migrations(db.dialect), *store_migrations(db.dialect)])
        open_keyring(layout.keys.keyring, entropy, create=not await kek_ids_in_use(db))
        is_new = not layout.settings.api_key.exists()
        await first_api_key(layout.settings, db, pepper, clock, entropy)
    finally:
        await db.close()
    if is_new:
        print(
            f"API key  {layout.settings.api_key.read_text().strip()}   (told once, kept in {layout.settings.api_key})"
        )
