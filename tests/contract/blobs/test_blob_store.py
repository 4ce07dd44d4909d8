"""The contract of `BlobStore`: uploads become blobs in one step, whatever dies on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from artifact_store.blobs.local import LocalBlobs
from artifact_store.blobs.port import BlobStore
from kernel.errors import Permanent, Rejected, Temporary
from kernel.store.port import CHUNK_BYTES
from tests.support.buckets import s3_blobs
from tests.support.components import needs_s3
from tests.support.stores import BrokenLineError, broken_after, stream

MIB = 1024 * 1024


@pytest.fixture(params=["local", pytest.param("s3", marks=needs_s3)])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    if request.param == "s3":
        async with s3_blobs() as in_bucket:
            yield in_bucket
        return
    local = LocalBlobs(tmp_path)
    local.open()
    yield local


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


async def all_digests(blobs: BlobStore) -> list[str]:
    return sorted([sha256 async for page in blobs.digests() for sha256 in page])


async def test_an_equal_blob_stays(blobs: BlobStore) -> None:
    sha256 = await put(blobs, b"same", now_ms=1000)
    assert await blobs.began_ms(sha256) == 1000
    assert await put(blobs, b"same", "upload-2", now_ms=5000) == sha256
    assert await all_digests(blobs) == [sha256]
    assert await blobs.uploads() == []


async def test_every_blob_is_listed_with_its_time(blobs: BlobStore) -> None:
    kept = sorted([await put(blobs, word, now_ms=3000 + at) for at, word in enumerate((b"one", b"two", b"three"))])
    assert await all_digests(blobs) == kept
    assert sorted([await blobs.began_ms(sha256) or 0 for sha256 in kept]) == [3000, 3001, 3002]
    assert await blobs.began_ms("0" * 64) is None


async def test_a_blob_put_during_a_removal_outlives_it_however_late_it_ends(blobs: BlobStore) -> None:
    sha256 = await put(blobs, b"the same bytes")
    before = await blobs.names([sha256, "0" * 64])
    assert before == [sha256]
    again = await blobs.upload("upload-2", 0, stream(b"the same bytes"), MIB, 2000)
    await blobs.publish(again, mark="a" * 32)
    await blobs.remove(before)
    assert await whole(blobs, sha256) == b"the same bytes"
    assert await blobs.size(sha256) == 14
    assert await blobs.began_ms(sha256) == 2000
    assert await blobs.names([sha256]) == [f"{sha256}.{'a' * 32}"]
    assert await all_digests(blobs) == [sha256]
    await blobs.remove(await blobs.names([sha256]))
    assert await blobs.size(sha256) is None


async def test_a_deleted_blob_is_missing(blobs: BlobStore) -> None:
    sha256 = await put(blobs, b"gone")
    await blobs.remove([sha256])
    await blobs.remove([sha256])
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


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 5), (7, None), (3, 300_000), (MIB - 1, 4), (MIB + 5, 4)])
async def test_a_range_is_read_from_any_place(blobs: BlobStore, offset: int, length: int | None) -> None:
    value = bytes(range(256)) * (MIB // 256)
    sha256 = await put(blobs, value)
    end = None if length is None else offset + length
    assert b"".join([chunk async for chunk in blobs.read(sha256, offset, length)]) == value[offset:end]


async def test_nothing_is_a_blob(blobs: BlobStore) -> None:
    sha256 = await put(blobs, b"")
    assert await whole(blobs, sha256) == b""
    assert await blobs.size(sha256) == 0


async def test_a_blob_is_as_long_as_it_may_be_and_no_longer(blobs: BlobStore) -> None:
    await blobs.upload("upload-1", 0, stream(bytes(MIB)), MIB, 1000)
    with pytest.raises(Rejected, match="blob_too_large"):
        await blobs.upload("upload-2", 0, stream(bytes(MIB), b"x"), MIB, 1000)


async def test_chunks_are_of_the_agreed_size(blobs: BlobStore) -> None:
    sha256 = await put(blobs, bytes(CHUNK_BYTES * 2 + 1))
    assert [len(chunk) async for chunk in blobs.read(sha256, 0, None)] == [CHUNK_BYTES, CHUNK_BYTES, 1]


def test_only_the_owner_may_read_the_folder(tmp_path: Path) -> None:
    LocalBlobs(tmp_path).open()
    for folder in (tmp_path / "blobs", tmp_path / "staging", tmp_path / "blobs" / "ff"):
        assert folder.stat().st_mode & 0o077 == 0
