"""Where a cluster keeps what it knows: log, database and blobs, as the environment tells it to services, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from artifact_store.blobs.bucket import make_bucket
from artifact_store.blobs.opening import bucket_settings, open_blobs
from artifact_store.blobs.port import BlobStore
from artifact_store.settings import settings_from
from kernel.clock import Clock, SystemClock
from kernel.ids import Entropy, SystemEntropy
from kernel.log.kafka.settings import KafkaSettings, kafka_settings
from kernel.sql.postgres.settings import PostgresSettings, postgres_settings

_UNUSED = {f"ARTIFACT_STORE_{name}_PATH": "unused" for name in ("KEYRING", "GATEWAY_KEY", "RUNNER_KEY")}
"""The store's process needs its keys; who only copies sealed bytes does not."""


@dataclass(frozen=True, slots=True)
class Places:
    """One cluster."""

    kafka: KafkaSettings
    postgres: PostgresSettings
    blobs: BlobStore
    clock: Clock
    entropy: Entropy


async def make_place_of_blobs(environ: Mapping[str, str]) -> None:
    """Make the bucket unless it is there."""
    await make_bucket(bucket_settings(settings_from({**_UNUSED, **environ})))


@asynccontextmanager
async def open_places(environ: Mapping[str, str]) -> AsyncIterator[Places]:
    """The cluster that the environment names. `Permanent` names what is missing or wrong."""
    clock, entropy = SystemClock(), SystemEntropy()
    kafka, postgres = kafka_settings(environ), postgres_settings(environ)
    async with AsyncExitStack() as stack:
        blobs = await open_blobs(settings_from({**_UNUSED, **environ}), stack, clock, entropy)
        yield Places(kafka, postgres, blobs, clock, entropy)
