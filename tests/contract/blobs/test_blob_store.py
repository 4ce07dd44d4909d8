"""The contract of `BlobStore`: uploads become blobs in one step, whatever dies on the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from artifact_store.blobs.local import LocalBlobs
from artifact_store.blobs.port import BlobStore
from kernel.errors import Permanent, Rejected, Temporary
from kernel.store.port import CHUNK_BYTES
from tests.support.stores import BrokenLineError, broken_after, stream

MIB = 1024 * 1024
WRITER = """
import asyncio, sys
from pathlib import Path
from artifact_store.blobs.local import LocalBlobs

async def endless():
    chunk = bytes(range(256)) * 256
    while True:
        yield chunk
        print("chunk", flush=True)

async def main():
    blobs = LocalBlobs(Path(sys.argv[1]))
    blobs.open()
    await blobs.upload("upload-1", 0, endless(), 1 << 40, 1_800_000_000_000)

asyncio.run(main())
"""


@pytest.fixture(params=["local"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    local = LocalBlobs(tmp_path)
    local.open()
    return local


async def put(blobs: BlobStore, value: bytes, upload_id: str = "upload-1", now_ms: int = 1000) -> str:
    uploaded = await blobs.upload(upload_id, 0, stream(value), MIB, now_ms)
    await blobs.publish(uploaded)
    return uploaded.sha256


async def whole(blobs: BlobStore, sha256: str) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(sha256, 0, None)])


async def test_an_upload_is_invisible_until_it_is_published(blobs: BlobStore) -> None:
    uploaded = await blobs.upload("upload-1", 0, stream(b"one", b"two"), MIB, 1000)
    assert (uploaded.sha256, uploaded.size, uploaded.head) == (hashlib.sha256(b"onetwo").hexdigest(), 6, b"onetwo")
    assert await blobs.size(uploaded.sha256) is None
    await blobs.publish(uploaded)
    assert await whole(blobs, uploaded.sha256) == b"onetwo"
    assert await blobs.uploads() == []


async def test_an_upload_goes_on_where_it_stopped(blobs: BlobStore) -> None:
    with pytest.raises(BrokenLineError):
        await blobs.upload("upload-1", 0, broken_after(b"one"), MIB, 1000)
    assert await blobs.committed("upload-1") == 3
    for wrong in (1, 2, 4):
        with pytest.raises(Rejected, match="offset_mismatch"):
            await blobs.upload("upload-1", wrong, stream(b"two"), MIB, 1000)
    uploaded = await blobs.upload("upload-1", 3, stream(b"two"), MIB, 1000)
    assert uploaded.sha256 == hashlib.sha256(b"onetwo").hexdigest()


async def test_an_upload_at_offset_zero_begins_anew(blobs: BlobStore) -> None:
    with pytest.raises(BrokenLineError):
        await blobs.upload("upload-1", 0, broken_after(b"wrong start"), MIB, 1000)
    assert await whole(blobs, await put(blobs, b"right")) == b"right"


async def test_two_writers_of_one_upload_do_not_mix(blobs: BlobStore) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await go_on.wait()

    first = asyncio.create_task(blobs.upload("upload-1", 0, slow(), MIB, 1000))
    await begun.wait()
    with pytest.raises(Temporary, match="upload_busy"):
        await blobs.upload("upload-1", 0, stream(b"second"), MIB, 1000)
    go_on.set()
    assert (await first).sha256 == hashlib.sha256(b"first").hexdigest()


async def test_a_cancelled_upload_keeps_what_came(blobs: BlobStore) -> None:
    begun = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"came"
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(blobs.upload("upload-1", 0, stuck(), MIB, 1000))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await blobs.committed("upload-1") == 4
    assert (await blobs.upload("upload-1", 4, stream(b" more"), MIB, 1000)).size == 9


async def test_an_equal_blob_stays_and_is_young_again(blobs: BlobStore) -> None:
    sha256 = await put(blobs, b"same", now_ms=1000)
    assert await blobs.older_than(1001) == [sha256]
    await put(blobs, b"same", "upload-2", now_ms=5000)
    assert await blobs.older_than(5000) == []
    assert await blobs.uploads() == []


async def test_a_deleted_blob_is_missing(blobs: BlobStore) -> None:
    sha256 = await put(blobs, b"gone")
    await blobs.delete(sha256)
    await blobs.delete(sha256)
    assert await blobs.size(sha256) is None
    with pytest.raises(Permanent, match="blob_missing"):
        await whole(blobs, sha256)


async def test_old_uploads_go_and_young_ones_stay(blobs: BlobStore) -> None:
    for upload_id, now_ms in (("old", 1000), ("young", 2000)):
        with pytest.raises(BrokenLineError):
            await blobs.upload(upload_id, 0, broken_after(b"half"), MIB, now_ms)
    await blobs.discard_older_than(2000)
    assert await blobs.uploads() == ["young"]
    await blobs.discard("young")
    await blobs.discard("young")
    assert await blobs.uploads() == []


async def test_a_process_killed_in_the_middle_leaves_nothing_visible_and_can_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as writer:  # noqa: ASYNC220 (its output is read at once)
        assert writer.stdout is not None
        for _ in range(20):
            assert writer.stdout.readline() == b"chunk\n"
        writer.send_signal(signal.SIGKILL)
    blobs = LocalBlobs(tmp_path)
    blobs.open()
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    committed = await blobs.committed("upload-1")
    assert committed >= 20 * 65536
    uploaded = await blobs.upload("upload-1", committed, stream(b"the end"), 1 << 40, 1000)
    await blobs.publish(uploaded)
    content = await whole(blobs, uploaded.sha256)
    pattern = bytes(range(256)) * (committed // 256 + 1)
    assert content == pattern[:committed] + b"the end"
    assert hashlib.sha256(content).hexdigest() == uploaded.sha256


async def test_chunks_are_of_the_agreed_size(blobs: BlobStore) -> None:
    sha256 = await put(blobs, bytes(CHUNK_BYTES * 2 + 1))
    assert [len(chunk) async for chunk in blobs.read(sha256, 0, None)] == [CHUNK_BYTES, CHUNK_BYTES, 1]


def test_only_the_owner_may_read_the_folder(tmp_path: Path) -> None:
    LocalBlobs(tmp_path).open()
    for folder in (tmp_path / "blobs", tmp_path / "staging", tmp_path / "blobs" / "ff"):
        assert folder.stat().st_mode & 0o077 == 0
