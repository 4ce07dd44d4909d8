"""Deleting blobs that nobody owns, beside others that may be putting equal bytes at this moment, at any process.

Whoever puts writes its owner row first, then looks for a mark, then publishes. Whoever removes writes its mark first,
then reads the names of the blob, then looks for owners, and deletes those names only if there is none and its mark
still stands. So one of the two always sees the other. A put that sees a mark publishes under a name that this removal
does not know. A mark stays for a day after its removal, so a removal that was paused in the middle finds nothing to
harm when it goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from artifact_store.batches import batches, marks
from artifact_store.blobs.port import BlobStore, digest_of, name_of
from kernel.clock import Clock
from kernel.ids import Entropy
from kernel.sql.port import Database

STALE_MS = 60_000
"""A removal that has not ended by then is another's to carry out."""
KEPT_MS = 24 * 3600 * 1000
"""How long a mark outlives its removal."""
_PAUSE_SECONDS = 0.1

_BEGIN = """
INSERT INTO blob_removals (sha256, mark, begun_ms, done) VALUES (?, ?, ?, 0)
ON CONFLICT (sha256) DO UPDATE SET mark = excluded.mark, begun_ms = excluded.begun_ms, done = 0
WHERE blob_removals.done = 1 OR blob_removals.begun_ms < ?
"""


class Removals:
    """Rows of `blob_removals`, and the blobs behind them."""

    def __init__(self, blobs: BlobStore, db: Database, clock: Clock, entropy: Entropy) -> None:
        self._blobs = blobs
        self._db = db
        self._clock = clock
        self._entropy = entropy

    async def mark_of(self, sha256: str) -> str:
        """The mark of the newest removal of these bytes, empty without one. Asked once the owner's row is durable."""
        row = await self._db.fetch_one("SELECT mark FROM blob_removals WHERE sha256 = ?", (sha256,))
        return "" if row is None else str(row[0])

    async def remove(self, sha256s: Collection[str]) -> int:
        """Delete those of these blobs that nobody owns; how many. What another process is removing is left to it."""
        return sum([await self._remove(part) for part in batches(sorted(sha256s))])

    async def remove_all(self, sha256s: Collection[str]) -> None:
        """`remove`, and wait until no removal of these blobs is under way anywhere."""
        left = set(sha256s)
        while left:
            await self.remove(left)
            left = await self._under_way(left)
            if left:
                await self._clock.sleep(_PAUSE_SECONDS)

    async def finish_stale(self) -> int:
        """Carry out what other processes have begun and not ended, and forget old marks; how many blobs went."""
        now_ms = self._clock.now_ms()
        rows = await self._db.fetch_all(
            "SELECT sha256 FROM blob_removals WHERE done = 0 AND begun_ms < ?", (now_ms - STALE_MS,)
        )
        removed = await self.remove([row[0] for row in rows])
        await self._db.execute("DELETE FROM blob_removals WHERE done = 1 AND begun_ms < ?", (now_ms - KEPT_MS,))
        return removed

    async def _remove(self, sha256s: Sequence[str]) -> int:
        unowned = await self.unowned(sha256s)
        if not unowned:
            return 0
        mark, now_ms = self._entropy.nonce(), self._clock.now_ms()
        await self._db.executemany(_BEGIN, [(sha256, mark, now_ms, now_ms - STALE_MS) for sha256 in unowned])
        names = await self._blobs.names(unowned)
        cleared = await self._cleared(mark)
        gone = [name for name in names if digest_of(name) in cleared and name != name_of(digest_of(name), mark)]
        await self._blobs.remove(gone)
        await self._db.execute("UPDATE blob_removals SET done = 1 WHERE mark = ?", (mark,))
        return len({digest_of(name) for name in gone})

    async def unowned(self, sha256s: Sequence[str]) -> list[str]:
        """Those of a batch of digests that nobody owns now."""
        rows = await self._db.fetch_all(
            f"SELECT DISTINCT sha256 FROM blob_owners WHERE sha256 IN ({marks(sha256s)})",  # noqa: S608 (marks only)
            tuple(sha256s),
        )
        owned = {row[0] for row in rows}
        return [sha256 for sha256 in sha256s if sha256 not in owned]

    async def _cleared(self, mark: str) -> set[str]:
        """The digests where our mark stands and no owner: seen in one glance."""
        rows = await self._db.fetch_all(
            "SELECT sha256 FROM blob_removals WHERE mark = ?"
            " AND NOT EXISTS (SELECT 1 FROM blob_owners WHERE blob_owners.sha256 = blob_removals.sha256)",
            (mark,),
        )
        return {row[0] for row in rows}

    async def _under_way(self, sha256s: Collection[str]) -> set[str]:
        found: set[str] = set()
        for part in batches(sorted(sha256s)):
            rows = await self._db.fetch_all(
                f"SELECT sha256 FROM blob_removals WHERE done = 0 AND sha256 IN ({marks(part)})",  # noqa: S608 (marks only)
                tuple(part),
            )
            found.update(row[0] for row in rows)
        return found
