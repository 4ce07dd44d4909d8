"""`ByteStore` over blobs and a table of owners: who staged what, and whether a fact has named it since.

A blob lives as long as it has an owner. Publishing with its owner row, and dropping a row with its blob, happen under
one lock per digest, so that a put and an erasure of equal bytes never take each other's blob. The file comes before its
row: a crash between the two leaves an orphan, which the sweep finds by its age.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

from artifact_store.admission import Admission
from artifact_store.blobs.port import BlobStore, Uploaded
from artifact_store.blobs.sniff import sniff
from kernel.clock import Clock
from kernel.domain.ids import SubjectId
from kernel.errors import Rejected, SecretUnavailable
from kernel.ids import Entropy
from kernel.sql.port import Database
from kernel.store.port import CHUNK_BYTES, PutHeader, Staged

STAGED_MS_MAX = 24 * 3600 * 1000
"""How long bytes wait for a fact that names them."""

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOCKS = 64
_BATCH = 200

_IS_SUBJECT = "SELECT 1 FROM subjects WHERE subject_id = ? AND organization_id = ?"
_OWN = """
INSERT INTO blob_owners (sha256, subject_id, organization_id, created_ms, named)
SELECT ?, subject_id, organization_id, ?, 0 FROM subjects WHERE subject_id = ? AND organization_id = ?
ON CONFLICT (sha256, subject_id) DO UPDATE SET created_ms = excluded.created_ms
"""
_OVERDUE = "((named = 0 AND created_ms < ?) OR subject_id NOT IN (SELECT subject_id FROM subjects))"


class OwnedBytes:
    """`ByteStore` in process. Contract in `kernel.store.port`."""

    def __init__(
        self, blobs: BlobStore, db: Database, admission: Admission, *, clock: Clock, entropy: Entropy, bytes_max: int
    ) -> None:
        self._blobs = blobs
        self._db = db
        self._admission = admission
        self._clock = clock
        self._entropy = entropy
        self._bytes_max = bytes_max
        self._locks = [asyncio.Lock() for _ in range(_LOCKS)]

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        if header.upload_id and not _UPLOAD_ID.fullmatch(header.upload_id):
            raise Rejected("upload_id_malformed", "an upload id has 1 to 64 letters, digits, - or _")
        await self._admit(header)
        upload_id = f"{header.subject_id}.{header.upload_id or self._entropy.nonce()}"
        try:
            uploaded = await self._blobs.upload(upload_id, header.offset, chunks, self._bytes_max, self._clock.now_ms())
        except BaseException:
            if not header.upload_id:
                await self._blobs.discard(upload_id)
            raise
        return await self._stage(uploaded, header)

    async def _admit(self, header: PutHeader) -> None:
        await self._admission.admit(header.opener)
        if await self._db.fetch_one(_IS_SUBJECT, (header.subject_id, header.opener.organization_id)) is None:
            raise SecretUnavailable("no such subject in this organization")

    async def _stage(self, uploaded: Uploaded, header: PutHeader) -> Staged:
        """Check what was declared, and the token once more after a long stream; then make it a blob with an owner."""
        try:
            _check_declared(uploaded, header)
            await self._admission.admit(header.opener)
        except BaseException:
            await self._blobs.discard(uploaded.upload_id)
            raise
        async with self._lock(uploaded.sha256):
            await self._blobs.publish(uploaded)
            owner = (uploaded.sha256, self._clock.now_ms(), header.subject_id, header.opener.organization_id)
            if await self._db.execute(_OWN, owner) == 0:
                await self._delete_unowned(uploaded.sha256)
                raise SecretUnavailable("the subject was erased meanwhile")
        mime_type = sniff(uploaded.head, name=header.name, hint=header.mime_hint)
        return Staged(uploaded.sha256, uploaded.size, mime_type)

    def get(self, sha256: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        return self._blobs.read(sha256, offset, length)

    async def stat(self, sha256: str) -> int | None:
        return await self._blobs.size(sha256)

    async def query_put(self, upload_id: str) -> int:
        for known in await self._blobs.uploads():
            if known.endswith(f".{upload_id}"):
                return await self._blobs.committed(known)
        return 0

    async def put_bytes(self, value: bytes, header: PutHeader) -> Staged:
        declared = replace(header, size=len(value), sha256=hashlib.sha256(value).hexdigest())
        return await self.put(_chunks(value), declared)

    async def get_bytes(self, sha256: str) -> bytes:
        return b"".join([chunk async for chunk in self.get(sha256)])

    async def mark_named(self, sha256s: Sequence[str]) -> None:
        for batch in _batches(sha256s):
            await self._db.execute(
                f"UPDATE blob_owners SET named = 1 WHERE sha256 IN ({_marks(batch)})",  # noqa: S608 (marks only)
                tuple(batch),
            )

    async def forget_names(self, sha256s: Sequence[str]) -> None:
        """No fact names these blobs any more: they are staged bytes again, swept in 24 h unless one does. Repeatable.

        The day is for who has read of them just before, and is about to name them anew.
        """
        for batch in _batches(sha256s):
            await self._db.execute(
                f"UPDATE blob_owners SET named = 0, created_ms = ? WHERE sha256 IN ({_marks(batch)})",  # noqa: S608 (marks only)
                (self._clock.now_ms(), *batch),
            )

    async def sweep(self, now_ms: int) -> int:
        """Delete what was staged 24 h before `now_ms` or earlier and never named; returns how many blobs went."""
        before_ms = now_ms - STAGED_MS_MAX
        rows = await self._db.fetch_all(
            f"SELECT DISTINCT sha256 FROM blob_owners WHERE {_OVERDUE}",  # noqa: S608 (a constant)
            (before_ms,),
        )
        swept = 0
        for row in rows:
            swept += await self._disown(row[0], _OVERDUE, before_ms)
        for batch in _batches(await self._blobs.older_than(before_ms)):
            swept += await self._sweep_orphans(batch)
        await self._blobs.discard_older_than(before_ms)
        return swept

    async def disown_subject(self, subject_id: SubjectId) -> None:
        """Drop everything the subject owns or was uploading; its row in `subjects` is gone already. Repeatable."""
        rows = await self._db.fetch_all("SELECT sha256 FROM blob_owners WHERE subject_id = ?", (subject_id,))
        for row in rows:
            await self._disown(row[0], "subject_id = ?", subject_id)
        for upload_id in await self._blobs.uploads():
            if upload_id.startswith(f"{subject_id}."):
                await self._blobs.discard(upload_id)

    async def _disown(self, sha256: str, condition: str, value: str | int) -> int:
        async with self._lock(sha256):
            await self._db.execute(
                f"DELETE FROM blob_owners WHERE sha256 = ? AND {condition}",  # noqa: S608 (constants of this module)
                (sha256, value),
            )
            return await self._delete_unowned(sha256)

    async def _sweep_orphans(self, sha256s: Sequence[str]) -> int:
        rows = await self._db.fetch_all(
            f"SELECT DISTINCT sha256 FROM blob_owners WHERE sha256 IN ({_marks(sha256s)})",  # noqa: S608 (marks only)
            tuple(sha256s),
        )
        swept = 0
        for sha256 in set(sha256s) - {row[0] for row in rows}:
            async with self._lock(sha256):
                swept += await self._delete_unowned(sha256)
        return swept

    async def _delete_unowned(self, sha256: str) -> int:
        if await self._db.fetch_one("SELECT 1 FROM blob_owners WHERE sha256 = ?", (sha256,)) is not None:
            return 0
        await self._blobs.delete(sha256)
        return 1

    def _lock(self, sha256: str) -> asyncio.Lock:
        return self._locks[int(sha256[:2], 16) % _LOCKS]


def _check_declared(uploaded: Uploaded, header: PutHeader) -> None:
    if header.size is not None and header.size != uploaded.size:
        raise Rejected("size_mismatch", f"{header.size} bytes were declared, {uploaded.size} came")
    if header.sha256 and header.sha256 != uploaded.sha256:
        raise Rejected("hash_mismatch", "the bytes have another digest than was declared")


async def _chunks(value: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(value), CHUNK_BYTES):
        yield value[start : start + CHUNK_BYTES]


def _batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
