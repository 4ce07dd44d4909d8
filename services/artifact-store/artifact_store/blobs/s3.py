"""Blobs in a bucket of an S3-compatible store, shared by any number of processes.

    <prefix>uploads/<upload id>/<segment>     what came so far of a long upload: objects of 5 MiB, the last one shorter
    <prefix>blobs/<2 hex>/<name>              whole blobs

All state lies in the bucket, so an upload that broke here goes on at another process. What is shorter than a segment is
published by one conditional write; what is longer is joined from its segments inside the store. Both check that the
name is free, and an object is whole or not there. Memory is bounded: a segment for each upload, a window for each read.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from artifact_store.blobs.bucket import (
    Bucket,
    BucketSettings,
    Listed,
    ObjectExistsError,
    ObjectMissingError,
    Window,
    open_bucket,
)
from artifact_store.blobs.port import Uploaded, digest_of, is_digest, name_of
from artifact_store.blobs.segments import Segment, chain, segment_of
from artifact_store.blobs.sniff import HEAD_BYTES
from kernel.clock import Clock
from kernel.errors import Permanent, Rejected, Temporary
from kernel.ids import Entropy
from kernel.store.port import CHUNK_BYTES

SEGMENT_BYTES = 5 * 1024 * 1024
"""The least that may be joined, and the most that an upload holds in memory."""
UPLOADS_MAX = 32
"""Uploads at once, of one process; who comes later waits, and so does its line."""
_WINDOW_BYTES = 4 * 1024 * 1024
_READ_DELAYS_SECONDS = (0.1, 0.2, 0.4)
_KEEP_SECONDS = 10.0
_AT_ONCE = 16

_log = structlog.get_logger("artifact_store.s3")


@dataclass(frozen=True, slots=True)
class S3Uploaded(Uploaded):
    """An upload with what makes it a blob: its segments, or all of its bytes while they are few."""

    segments: tuple[Segment, ...]
    value: bytes
    began_ms: int
    left: bool
    """Whether it left segments that are to be deleted."""


class S3Blobs:
    """`BlobStore` over a bucket."""

    def __init__(self, bucket: Bucket, clock: Clock, entropy: Entropy) -> None:
        self._bucket = bucket
        self._clock = clock
        self._entropy = entropy
        self._busy: set[str] = set()
        self._room = asyncio.Semaphore(UPLOADS_MAX)

    # ---------------------------------------------------------------- uploads

    async def committed(self, upload_id: str) -> int:
        kept = chain(await _Folder(self._bucket, upload_id).segments())
        return kept[-1].end if kept else 0

    async def upload(
        self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], bytes_max: int, now_ms: int
    ) -> S3Uploaded:
        if upload_id in self._busy:
            raise Temporary("upload_busy", "another call writes this upload", delay_seconds=1.0)
        self._busy.add(upload_id)
        try:
            async with self._room:
                return await self._upload(upload_id, offset, chunks, bytes_max, now_ms)
        finally:
            self._busy.discard(upload_id)

    async def _upload(
        self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], bytes_max: int, now_ms: int
    ) -> S3Uploaded:
        folder = _Folder(self._bucket, upload_id)
        writer = _Writer(folder, bytes_max, now_ms, self._entropy.nonce())
        if offset:
            await self._take_up(writer, folder, offset)
        try:
            async for chunk in chunks:
                await writer.write(chunk)
        except BaseException:
            await _to_the_end(self._keep(writer))
            raise
        return await writer.finish()

    async def _take_up(self, writer: _Writer, folder: _Folder, offset: int) -> None:
        """Go on at `offset`: the digest of what is kept is made anew from the kept bytes themselves."""
        kept = chain(await folder.segments())
        end = kept[-1].end if kept else 0
        if offset != end:
            raise Rejected("offset_mismatch", f"the upload stands at {end}, not at {offset}")
        for segment in kept:
            writer.take_back(segment, await self._whole(folder.key(segment)))

    async def _whole(self, key: str) -> bytes:
        try:
            return (await self._window(key, 0, SEGMENT_BYTES)).data
        except ObjectMissingError:
            raise Temporary("store_unavailable", "parts of the upload went meanwhile", delay_seconds=1.0) from None

    async def _keep(self, writer: _Writer) -> None:
        try:
            async with asyncio.timeout(_KEEP_SECONDS):
                await writer.keep()
        except (Temporary, TimeoutError) as error:
            # The stream is broken anyway; `committed` tells how much of it is there.
            _log.warning("s3.upload_not_kept", error=str(error))

    async def publish(self, uploaded: Uploaded, mark: str = "") -> None:
        assert isinstance(uploaded, S3Uploaded), "only what this store's `upload` returned"
        key = _key(name_of(uploaded.sha256, mark))
        try:
            if uploaded.segments:
                await self._join(uploaded, key)
            else:
                digest = bytes.fromhex(uploaded.sha256)
                await self._bucket.put(key, uploaded.value, digest, began_ms=uploaded.began_ms, fresh=True)
        except ObjectExistsError:
            pass
        if uploaded.left:
            await self.discard(uploaded.upload_id)

    async def _join(self, uploaded: S3Uploaded, key: str) -> None:
        folder = _Folder(self._bucket, uploaded.upload_id)
        try:
            await self._bucket.head(key)
        except ObjectMissingError:
            sources = [folder.key(segment) for segment in uploaded.segments]
            await self._bucket.join(sources, key, uploaded.size, began_ms=uploaded.began_ms)

    async def discard(self, upload_id: str) -> None:
        await _Folder(self._bucket, upload_id).clear()

    async def uploads(self) -> list[str]:
        return sorted(await self._bucket.folders("uploads/"))

    async def discard_older_than(self, before_ms: int) -> None:
        newest: dict[str, int] = {}
        async for page in self._bucket.pages("uploads/"):
            for listed in page:
                _, upload_id, name = listed.key.split("/")
                newest[upload_id] = max(newest.get(upload_id, 0), segment_of(name).written_ms)
        for upload_id, written_ms in newest.items():
            if written_ms < before_ms and upload_id not in self._busy:
                await self.discard(upload_id)
        await self._bucket.abort_older_than(datetime.fromtimestamp(before_ms / 1000, UTC))

    # ---------------------------------------------------------------- blobs

    async def read(self, sha256: str, offset: int, length: int | None) -> AsyncIterator[bytes]:
        if not is_digest(sha256):
            raise Permanent("blob_missing", "a blob is named by 64 hex digits")
        key, end = _key(sha256), None if length is None else offset + length
        while True:
            wanted = _WINDOW_BYTES if end is None else min(_WINDOW_BYTES, end - offset)
            try:
                window = await self._window(key, offset, wanted)
            except ObjectMissingError:
                key = await self._other_key(sha256, key)
                continue
            for start in range(0, len(window.data), CHUNK_BYTES):
                yield window.data[start : start + CHUNK_BYTES]
            offset += len(window.data)
            if offset >= window.total or (end is not None and offset >= end):
                return

    async def _window(self, key: str, offset: int, length: int) -> Window:
        """One part of an object, asked for again while its line breaks."""
        for delay_seconds in _READ_DELAYS_SECONDS:
            try:
                return await self._bucket.get(key, offset, length)
            except Temporary:
                await self._clock.sleep(delay_seconds * (0.5 + self._entropy.fraction()))
        return await self._bucket.get(key, offset, length)

    async def _other_key(self, sha256: str, missed: str) -> str:
        for listed in await self._listed(sha256):
            if listed.key != missed:
                return listed.key
        raise Permanent("blob_missing", "there is no such blob")

    async def size(self, sha256: str) -> int | None:
        if not is_digest(sha256):
            return None
        try:
            return (await self._bucket.head(_key(sha256)))[0]
        except ObjectMissingError:
            others = await self._listed(sha256)
            return others[0].size if others else None

    async def began_ms(self, sha256: str) -> int | None:
        for listed in await self._listed(sha256):
            try:
                return (await self._bucket.head(listed.key))[1]
            except ObjectMissingError:
                continue
        return None

    async def names(self, sha256s: Sequence[str]) -> list[str]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def names_of(sha256: str) -> list[str]:
            async with room:
                return [_name(listed.key) for listed in await self._listed(sha256)]

        found = await asyncio.gather(*(names_of(sha256) for sha256 in sha256s))
        return [name for names in found for name in names]

    async def remove(self, names: Sequence[str]) -> None:
        await self._bucket.remove([_key(name) for name in names])

    async def digests(self) -> AsyncIterator[list[str]]:
        async for page in self._bucket.pages("blobs/"):
            yield [digest_of(_name(listed.key)) for listed in page]

    async def _listed(self, sha256: str) -> list[Listed]:
        return [listed async for page in self._bucket.pages(_key(sha256)) for listed in page]


async def open_s3(settings: BucketSettings, stack: AsyncExitStack, clock: Clock, entropy: Entropy) -> S3Blobs:
    """Blobs in an open bucket; `stack` closes it. Errors as `open_bucket`."""
    return S3Blobs(await open_bucket(settings, stack), clock, entropy)


class _Folder:
    """Where the segments of one upload lie."""

    def __init__(self, bucket: Bucket, upload_id: str) -> None:
        self.upload_id = upload_id
        self._bucket = bucket
        self._prefix = f"uploads/{upload_id}/"

    def key(self, segment: Segment) -> str:
        return self._prefix + segment.name

    async def segments(self) -> list[Segment]:
        start = len(self._prefix)
        return [segment_of(at.key[start:]) async for page in self._bucket.pages(self._prefix) for at in page]

    async def clear(self) -> None:
        await self._bucket.remove([self.key(segment) for segment in await self.segments()])

    async def put(self, segment: Segment, data: bytes, sha256: bytes) -> None:
        await self._bucket.put(self.key(segment), data, sha256, began_ms=segment.written_ms)


class _Writer:
    """An upload being written: the segment that is filling, the digest of all, the segments that are full."""

    def __init__(self, folder: _Folder, bytes_max: int, now_ms: int, call: str) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._now_ms = now_ms
        self._call = call
        self._digest = hashlib.sha256()
        self._head = b""
        self._size = 0
        self._full: list[Segment] = []
        self._filling = bytearray()
        self._begins_anew = True
        self._left = False

    def take_back(self, segment: Segment, data: bytes) -> None:
        """Count a kept segment. Only the last one is short: it is filled up under another name."""
        self._begins_anew, self._left = False, True
        self._count(data)
        if segment.size == SEGMENT_BYTES:
            self._full.append(segment)
        else:
            self._filling += data

    async def write(self, chunk: bytes) -> None:
        """Take a chunk; a segment that is full is durable when this returns."""
        if self._size + len(chunk) > self._bytes_max:
            raise Rejected("blob_too_large", f"more than {self._bytes_max} bytes")
        self._count(chunk)
        self._filling += chunk
        while len(self._filling) >= SEGMENT_BYTES:
            await self._put(bytes(self._filling[:SEGMENT_BYTES]))

    def _count(self, data: bytes) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self._digest.update(data)
        self._size += len(data)

    async def keep(self) -> None:
        """Make durable what came, for whoever goes on."""
        while self._filling:
            await self._put(bytes(self._filling[:SEGMENT_BYTES]))

    async def finish(self) -> S3Uploaded:
        """What came is all."""
        if self._full and self._filling:
            await self._put(bytes(self._filling))
        uploaded = (self._folder.upload_id, self._digest.hexdigest(), self._size, self._head)
        return S3Uploaded(*uploaded, tuple(self._full), bytes(self._filling), self._now_ms, self._left)

    async def _put(self, data: bytes) -> None:
        if self._begins_anew:
            await self._folder.clear()
            self._begins_anew = False
        offset = self._full[-1].end if self._full else 0
        segment = Segment(offset, len(data), self._now_ms, self._call)
        self._left = True
        await self._folder.put(segment, data, await asyncio.to_thread(_sha256, data))
        self._full.append(segment)
        del self._filling[: len(data)]


async def _to_the_end(work: Awaitable[None]) -> None:
    """Wait for short work though the caller is being cancelled."""
    running = asyncio.ensure_future(work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _key(name: str) -> str:
    return f"blobs/{name[:2]}/{name}"


def _name(key: str) -> str:
    return key.rpartition("/")[2]
