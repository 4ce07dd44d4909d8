"""A process that is killed in the middle of an upload leaves nothing visible, and another one goes on."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

from artifact_store.blobs.local import LocalBlobs
from artifact_store.blobs.port import BlobStore
from artifact_store.blobs.s3 import SEGMENT_BYTES
from tests.support.buckets import make_bucket, s3_blobs
from tests.support.components import needs_s3
from tests.support.stores import stream

CHUNK_BYTES = 64 * 1024
WRITER = """
import asyncio, sys
from contextlib import AsyncExitStack
from pathlib import Path
from artifact_store.blobs.bucket import BucketSettings
from artifact_store.blobs.local import LocalBlobs
from artifact_store.blobs.s3 import open_s3
from kernel.clock import SystemClock
from kernel.ids import SystemEntropy

async def endless():
    chunk = bytes(range(256)) * 256
    while True:
        yield chunk
        print("chunk", flush=True)

async def main():
    async with AsyncExitStack() as stack:
        if sys.argv[1] == "local":
            blobs = LocalBlobs(Path(sys.argv[2]))
            blobs.open()
        else:
            settings = BucketSettings(*sys.argv[2:])
            blobs = await open_s3(settings, stack, SystemClock(), SystemEntropy())
        await blobs.upload("upload-1", 0, endless(), 1 << 40, 1_800_000_000_000)

asyncio.run(main())
"""


def kill_after(chunks: int, where: list[str]) -> None:
    """Let a process upload without end, and kill it behind `chunks` chunks."""
    command = [sys.executable, "-c", WRITER, *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as writer:
        assert writer.stdout is not None
        for _ in range(chunks):
            assert writer.stdout.readline() == b"chunk\n"
        writer.send_signal(signal.SIGKILL)


async def goes_on(blobs: BlobStore, at_least: int) -> None:
    """Another process finds what is kept, and brings the rest."""
    assert [page async for page in blobs.digests() if page] == []
    committed = await blobs.committed("upload-1")
    assert committed >= at_least
    uploaded = await blobs.upload("upload-1", committed, stream(b"the end"), 1 << 40, 1000)
    await blobs.publish(uploaded)
    content = b"".join([chunk async for chunk in blobs.read(uploaded.sha256, 0, None)])
    pattern = bytes(range(256)) * (committed // 256 + 1)
    assert content == pattern[:committed] + b"the end"
    assert hashlib.sha256(content).hexdigest() == uploaded.sha256
    assert await blobs.uploads() == []


async def test_an_upload_of_a_killed_process_goes_on_in_the_folder(tmp_path: Path) -> None:
    kill_after(20, ["local", str(tmp_path)])
    blobs = LocalBlobs(tmp_path)
    blobs.open()
    await goes_on(blobs, 20 * CHUNK_BYTES)


@needs_s3
async def test_an_upload_of_a_killed_process_goes_on_in_the_bucket() -> None:
    settings = await make_bucket()
    kill_after(2 * SEGMENT_BYTES // CHUNK_BYTES + 5, ["s3", *map(str, astuple(settings)[:6])])
    async with s3_blobs(settings) as blobs:
        await goes_on(blobs, 2 * SEGMENT_BYTES)
