"""`ByteStore` over blobs and a table of owners: who staged what, and whether a fact has named it since.

A blob lives as long as it has an owner. The owner's row comes before the blob, and goes before it (`removals` tells why
a put and a removal of equal bytes never take each other's blob, at however many processes). A crash in between leaves a
row without bytes, which nobody was told of, or bytes without a row, which the sweep finds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from artifact_store.admission import Admission
from artifact_store.batches import batches, marks
from artifact_store.blobs.port import BlobStore, Uploaded
from artifact_store.blobs.sniff import sniff
from artifact_store.removals import Removals
from artifact_store.tables import HELD
from kernel.clock import Clock
from kernel.domain.ids import SubjectId
from kernel.errors import Rejected, SecretUnavailable
from kernel.ids import Entropy
from kernel.sql.port import Database
from kernel.store.port import CHUNK_BYTES, PutHeader, Staged

STAGED_MS_MAX = 24 * 3600 * 1000
"""How long bytes wait for a fact that names them."""

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_IS_SUBJECT = "SELECT 1 FROM subjects WHERE subject_id = ? AND organization_id = ?"
_OWN = """
INSERT INTO blob_owners (sha256, subject_id, organization_id, created_ms, named)
SELECT ?, subject_id, organization_id, ?, 0 FROM subjects WHERE subject_id = ? AND organization_id = ? {held}
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
        self._own_sql = _OWN.replace("{held}", HELD[db.dialect])
        self._removals = Removals(blobs, db, clock, entropy)

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        if header.upload_id and not _UPLOAD_ID.fullmatch(header.upload_id):
            raise Rejected("upload_id_malformed", "an upload id has 1 to 64 letters, digits, - or _")
        await self._admit(header)
        upload_id = f"{header.subject_id}.{header.upload_id or self._entropy.nonce()}"
        try:
            uploaded = await self._blobs.upload(upload_id, header.offset, chunks, self._bytes_max, self._clock.now_ms())
            return await self._stage(uploaded, header)
        except BaseException:
            if not header.upload_id:
                await self._blobs.discard(upload_id)
            raise

    async def _admit(self, header: PutHeader) -> None:
        await self._admission.admit(header.opener)
        if await self._db.fetch_one(_IS_SUBJECT, (header.subject_id, header.opener.organization_id)) is None:
            raise SecretUnavailable("no such subject in this organization")

    async def _stage(self, uploaded: Uploaded, header: PutHeader) -> Staged:
        """Check what was declared, and the token once more after a long stream; then make it a blob with an owner."""
        try:
            _check_declared(uploaded, header)
            await self._admission.admit(header.opener)
            await self._own(uploaded, header)
        except (Rejected, SecretUnavailable):
            await self._blobs.discard(uploaded.upload_id)
            raise
        await self._blobs.publish(uploaded, await self._removals.mark_of(uploaded.sha256))
        mime_type = sniff(uploaded.head, name=header.name, hint=header.mime_hint)
        return Staged(uploaded.sha256, uploaded.size, mime_type)

    async def _own(self, uploaded: Uploaded, header: PutHeader) -> None:
        owner = (uploaded.sha256, self._clock.now_ms(), header.subject_id, header.opener.organization_id)
        if await self._db.execute(self._own_sql, owner) == 0:
            raise SecretUnavailable("the subject was erased meanwhile")

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
        for batch in batches(sha256s):
            await self._db.execute(
                f"UPDATE blob_owners SET named = 1 WHERE sha256 IN ({marks(batch)})",  # noqa: S608 (marks only)
                tuple(batch),
            )

    async def unname(self, names: Sequence[str]) -> None:
        await self._db.executemany(
            "INSERT INTO names_to_forget (name) VALUES (?) ON CONFLICT DO NOTHING", [(name,) for name in names]
        )

    async def names_to_forget(self) -> list[str]:
        """What `unname` has noted and nobody carried out yet."""
        return [row[0] for row in await self._db.fetch_all("SELECT name FROM names_to_forget", ())]

    async def unnamed(self, names: Sequence[str]) -> None:
        """What was noted of these is carried out. Repeatable."""
        for batch in batches(names):
            await self._db.execute(f"DELETE FROM names_to_forget WHERE name IN ({marks(batch)})", tuple(batch))  # noqa: S608 (marks only)

    async def forget_names(self, sha256s: Sequence[str]) -> None:
        """No fact names these blobs any more: they are staged bytes again, swept in 24 h unless one does. Repeatable.

        The day is for who has read of them just before, and is about to name them anew.
        """
        for batch in batches(sha256s):
            await self._db.execute(
                f"UPDATE blob_owners SET named = 0, created_ms = ? WHERE sha256 IN ({marks(batch)})",  # noqa: S608 (marks only)
                (self._clock.now_ms(), *batch),
            )

    async def sweep(self, now_ms: int) -> int:
        """Delete what was staged 24 h before `now_ms` or earlier and never named; returns how many blobs went.

        Facts that were appended before the call must have been read by whoever calls `mark_named`.
        """
        before_ms = now_ms - STAGED_MS_MAX
        rows = await self._db.fetch_all(
            f"SELECT DISTINCT sha256 FROM blob_owners WHERE {_OVERDUE}",  # noqa: S608 (a constant)
            (before_ms,),
        )
        swept = 0
        for batch in batches([row[0] for row in rows]):
            await self._disown(batch, _OVERDUE, before_ms)
            swept += await self._removals.remove(batch)
        swept += await self._removals.finish_stale()
        await self._blobs.discard_older_than(before_ms)
        return swept

    async def sweep_orphans(self, now_ms: int) -> int:
        """Delete the blobs without any owner that were put 24 h before `now_ms` or earlier; how many. Reads all names.

        There are some after a crash in the middle of a removal, and after a restore of the database alone.
        """
        before_ms = now_ms - STAGED_MS_MAX
        swept = 0
        async for page in self._blobs.digests():
            for batch in batches(sorted(set(page))):
                old = [at for at in await self._removals.unowned(batch) if await self._began_before(at, before_ms)]
                swept += await self._removals.remove(old)
        return swept

    async def _began_before(self, sha256: str, before_ms: int) -> bool:
        began_ms = await self._blobs.began_ms(sha256)
        return began_ms is not None and began_ms < before_ms

    async def disown_subject(self, subject_id: SubjectId) -> None:
        """Drop everything the subject owns or was uploading; its row in `subjects` is gone already. Repeatable."""
        rows = await self._db.fetch_all("SELECT sha256 FROM blob_owners WHERE subject_id = ?", (subject_id,))
        for batch in batches([row[0] for row in rows]):
            await self._disown(batch, "subject_id = ?", subject_id)
            await self._removals.remove_all(batch)
        for upload_id in await self._blobs.uploads():
            if upload_id.startswith(f"{subject_id}."):
                await self._blobs.discard(upload_id)

    async def _disown(self, sha256s: Sequence[str], condition: str, value: str | int) -> None:
        await self._db.execute(
            f"DELETE FROM blob_owners WHERE sha256 IN ({marks(sha256s)}) AND {condition}",  # noqa: S608 (constants of this module)
            (*sha256s, value),
        )


def _check_declared(uploaded: Uploaded, header: PutHeader) -> None:
    if header.size is not None and header.size != uploaded.size:
        raise Rejected("size_mismatch", f"{header.size} bytes were declared, {uploaded.size} came")
    if header.sha256 and header.sha256 != uploaded.sha256:
        raise Rejected("hash_mismatch", "the bytes have another digest than was declared")


async def _chunks(value: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(value), CHUNK_BYTES):
        yield value[start : start + CHUNK_BYTES]
