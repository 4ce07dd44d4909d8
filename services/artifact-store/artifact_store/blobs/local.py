"""Blobs in a local folder, owned by one process.

    <root>/staging/<upload id>      what came so far; appended, hashed, synced
    <root>/blobs/<2 hex>/<name>     whole blobs: renamed into place, folder synced

A file appears under `blobs` by one rename after its bytes are on disk, so a crash at any point leaves either the whole
blob or an upload that may go on. All disk work runs in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from artifact_store.blobs.port import Uploaded, digest_of, is_digest, name_of
from artifact_store.blobs.sniff import HEAD_BYTES
from kernel.errors import Permanent, Rejected, Temporary
from kernel.store.port import CHUNK_BYTES

P = ParamSpec("P")
T = TypeVar("T")

_REHASH_BYTES = 1024 * 1024


class LocalBlobs:
    """`BlobStore` over a folder. `open` makes the folders; a second process must not use them."""

    def __init__(self, root: Path) -> None:
        self._staging = root / "staging"
        self._blobs = root / "blobs"
        self._busy: set[str] = set()

    def open(self) -> None:
        """Make the folders, readable by the owner only. Blocks; repeatable."""
        for folder in (self._staging, self._blobs, *(self._blobs / f"{shard:02x}" for shard in range(256))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(self._blobs)

    async def committed(self, upload_id: str) -> int:
        return await _in_thread(_size_of, self._staging / upload_id) or 0

    async def upload(
        self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], bytes_max: int, now_ms: int
    ) -> Uploaded:
        if upload_id in self._busy:
            raise Temporary("upload_busy", "another call writes this upload", delay_seconds=1.0)
        self._busy.add(upload_id)
        try:
            part = _Part(self._staging / upload_id, bytes_max)
            try:
                await _in_thread(part.take_up, offset)
                async for chunk in chunks:
                    await _in_thread(part.write, chunk)
                await _in_thread(part.finish)
            finally:
                # On a broken stream the call itself may be cancelled: closing is short and must happen.
                part.close(now_ms)
        finally:
            self._busy.discard(upload_id)
        return Uploaded(upload_id, part.digest.hexdigest(), part.size, part.head)

    async def publish(self, uploaded: Uploaded, mark: str = "") -> None:
        await _in_thread(self._publish, uploaded, mark)

    def _publish(self, uploaded: Uploaded, mark: str) -> None:
        source, target = self._staging / uploaded.upload_id, self._path(name_of(uploaded.sha256, mark))
        if target.exists():
            # Blobs without owner go by age: bytes that were put again are young again.
            status = source.stat()
            os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
            source.unlink()
            return
        source.rename(target)
        _sync_folder(target.parent)

    async def discard(self, upload_id: str) -> None:
        await _in_thread((self._staging / upload_id).unlink, missing_ok=True)

    async def read(self, sha256: str, offset: int, length: int | None) -> AsyncIterator[bytes]:
        file = await _in_thread(self._open, sha256, offset)
        try:
            left = length
            while left is None or left > 0:
                chunk = await _in_thread(file.read, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk
        finally:
            file.close()

    def _open(self, sha256: str, offset: int) -> BinaryIO:
        for path in self._paths(sha256):
            with contextlib.suppress(FileNotFoundError):
                file = path.open("rb")
                file.seek(offset)
                return file
        raise Permanent("blob_missing", "there is no such blob")

    async def size(self, sha256: str) -> int | None:
        status = await _in_thread(self._status, sha256)
        return None if status is None else status.st_size

    async def began_ms(self, sha256: str) -> int | None:
        status = await _in_thread(self._status, sha256)
        return None if status is None else status.st_mtime_ns // 1_000_000

    def _status(self, sha256: str) -> os.stat_result | None:
        for path in self._paths(sha256):
            with contextlib.suppress(FileNotFoundError):
                return path.stat()
        return None

    async def names(self, sha256s: Sequence[str]) -> list[str]:
        return await _in_thread(
            lambda: [path.name for sha256 in sha256s for path in self._paths(sha256) if path.exists()]
        )

    async def remove(self, names: Sequence[str]) -> None:
        await _in_thread(self._remove, names)

    def _remove(self, names: Sequence[str]) -> None:
        paths = [self._path(name) for name in names]
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            _sync_folder(folder)

    async def digests(self) -> AsyncIterator[list[str]]:
        for shard in await _in_thread(lambda: sorted(self._blobs.iterdir())):
            yield await _in_thread(lambda at: [digest_of(path.name) for path in at.iterdir()], shard)

    async def uploads(self) -> list[str]:
        return await _in_thread(lambda: sorted(path.name for path in self._staging.iterdir()))

    async def discard_older_than(self, before_ms: int) -> None:
        for path in await _in_thread(lambda: list(_old_files(self._staging, before_ms))):
            if path.name not in self._busy:
                await _in_thread(path.unlink, missing_ok=True)

    def _paths(self, sha256: str) -> Iterator[Path]:
        """Where a blob may lie: nearly always under its digest alone."""
        if not is_digest(sha256):
            return
        path = self._path(sha256)
        yield path
        yield from path.parent.glob(f"{sha256}.*")

    def _path(self, name: str) -> Path:
        return self._blobs / name[:2] / name


class _Part:
    """An upload being written: the file, its running digest, its size. Every method blocks."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.digest = hashlib.sha256()
        self.head = b""
        self.size = 0
        self._path = path
        self._bytes_max = bytes_max
        self._file: FileIO | None = None

    def take_up(self, offset: int) -> None:
        """Open the file and stand at the end of what is there; offset 0 begins anew."""
        self._file = FileIO(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        kept = os.fstat(self._file.fileno()).st_size
        if offset == 0:
            self._file.truncate(0)
            return
        if offset != kept:
            if not kept:
                self._path.unlink()
            raise Rejected("offset_mismatch", f"the upload stands at {kept}, not at {offset}")
        while block := self._file.read(_REHASH_BYTES):
            self._count(block)

    def write(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self._bytes_max:
            raise Rejected("blob_too_large", f"more than {self._bytes_max} bytes")
        assert self._file is not None
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self._count(chunk)

    def _count(self, chunk: bytes) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += chunk[: HEAD_BYTES - len(self.head)]
        self.digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())

    def close(self, now_ms: int) -> None:
        if self._file is None:
            return
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._path, ns=(now_ms * 1_000_000, now_ms * 1_000_000))


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run disk work in a thread, to its end even when the caller is cancelled; no room is a temporary failure."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # A write that goes on in its thread must not meet a closed file or a second writer.
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise Temporary("store_unavailable", os.strerror(error.errno), delay_seconds=5.0) from error
        raise


def _old_files(folder: Path, before_ms: int) -> Iterator[Path]:
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime_ns < before_ms * 1_000_000:
                yield path


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
