"""Open the blobs that the settings name, and prove that they can be written and read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from artifact_store.blobs.bucket import BucketSettings
from artifact_store.blobs.port import BlobStore
from artifact_store.blobs.s3 import open_s3
from artifact_store.inprocess import open_local
from artifact_store.settings import Settings
from kernel.clock import Clock
from kernel.errors import Permanent, Temporary
from kernel.ids import Entropy

_PROBE_BYTES = 1024


async def open_blobs(settings: Settings, stack: AsyncExitStack, clock: Clock, entropy: Entropy) -> BlobStore:
    """The folder or the bucket, open; `stack` closes it.

    `Permanent("store_refused")` for credentials or a bucket that cannot serve, `Temporary("store_unavailable")` when
    nobody answers, `Permanent("setting_malformed")` for a key file that cannot be read.
    """
    if settings.folder is not None:
        return await open_local(settings.folder)
    return await open_s3(bucket_settings(settings), stack, clock, entropy)


def bucket_settings(settings: Settings) -> BucketSettings:
    """What of the settings concerns the bucket, with the keys read from their files."""
    assert settings.s3_bucket is not None, "settings without a folder name a bucket"
    prefix = settings.s3_prefix.strip("/")
    return BucketSettings(
        settings.s3_bucket,
        settings.s3_endpoint,
        settings.s3_region,
        f"{prefix}/" if prefix else "",
        _read(settings.s3_access_key_path),
        _read(settings.s3_secret_key_path),
    )


async def round_trip(blobs: BlobStore, clock: Clock, entropy: Entropy) -> float:
    """Write a small blob, read it, delete it; how many seconds that took.

    `Permanent("store_refused")` when other bytes come back, `Temporary("store_unavailable")` when it does not serve.
    """
    began_ms, value = clock.boot_ms(), entropy.bytes(_PROBE_BYTES)
    uploaded = await blobs.upload(f"probe.{entropy.nonce()}", 0, _one(value), _PROBE_BYTES, clock.now_ms())
    await blobs.publish(uploaded)
    try:
        came = b"".join([chunk async for chunk in blobs.read(uploaded.sha256, 0, None)])
    except Permanent as error:
        raise Temporary("store_unavailable", f"what was written is not there: {error}") from None
    finally:
        await blobs.remove(await blobs.names([uploaded.sha256]))
    if came != value:
        raise Permanent("store_refused", "other bytes came back than were written")
    return (clock.boot_ms() - began_ms) / 1000


async def _one(value: bytes) -> AsyncIterator[bytes]:
    yield value


def _read(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Permanent("setting_malformed", f"{path} cannot be read: {error.strerror}") from None
