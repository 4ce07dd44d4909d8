"""Buckets of tests on the S3 server of the run: each test has its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiobotocore.session import get_session

from artifact_store.blobs.bucket import BucketSettings
from artifact_store.blobs.s3 import S3Blobs, open_s3
from kernel.clock import Clock, SystemClock
from kernel.ids import SystemEntropy
from tests.support.components import S3Server, s3_server, unique_name


async def make_bucket(server: S3Server | None = None) -> BucketSettings:
    """A new bucket on the run's server, or on `server`."""
    at = server or s3_server()
    settings = BucketSettings(unique_name("b"), at.endpoint, "us-east-1", "kept/here/", at.access_key, at.secret_key)
    async with get_session().create_client(
        "s3",
        endpoint_url=at.endpoint,
        region_name=settings.region,
        aws_access_key_id=at.access_key,
        aws_secret_access_key=at.secret_key,
    ) as client:
        await client.create_bucket(Bucket=settings.bucket)
    return settings


@asynccontextmanager
async def s3_blobs(settings: BucketSettings | None = None, clock: Clock | None = None) -> AsyncIterator[S3Blobs]:
    """The blobs of a bucket, by default of a new one; emptied afterwards when it was made here."""
    async with AsyncExitStack() as stack:
        blobs = await open_s3(settings or await make_bucket(), stack, clock or SystemClock(), SystemEntropy())
        yield blobs
        if settings is None:
            await blobs._bucket.remove([found.key async for page in blobs._bucket.pages("") for found in page])


def s3_environ(bucket: BucketSettings, keys: Path) -> dict[str, str]:
    """What the store is told of its bucket; its secrets are written into `keys`."""
    for name, text in (("s3-access", bucket.access_key), ("s3-secret", bucket.secret_key)):
        (keys / name).write_text(text or "")
    return {
        "ARTIFACT_STORE_FOLDER": "",
        "ARTIFACT_STORE_S3_BUCKET": bucket.bucket,
        "ARTIFACT_STORE_S3_ENDPOINT": bucket.endpoint or "",
        "ARTIFACT_STORE_S3_PREFIX": bucket.prefix,
        "ARTIFACT_STORE_S3_ACCESS_KEY_PATH": str(keys / "s3-access"),
        "ARTIFACT_STORE_S3_SECRET_KEY_PATH": str(keys / "s3-secret"),
    }
