"""The port to a place that keeps bytes under their digest: a local folder, or an object store.

It knows nothing of owners, tokens and organizations; `artifact_store.owned_bytes.OwnedBytes` adds them. One contract
suite runs over every implementation. Failures of the medium are `Temporary("store_unavailable")`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A finished upload that is not published yet."""

    upload_id: str
    sha256: str
    size: int
    head: bytes
    """Its first 1024 bytes, for sniffing."""


class BlobStore(Protocol):
    """Uploads become blobs in one step; a blob is whole or not there."""

    async def committed(self, upload_id: str) -> int:
        """How many bytes of this upload are kept; 0 when it is unknown."""
        ...

    async def upload(
        self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], bytes_max: int, now_ms: int
    ) -> Uploaded:
        """Take the chunks from `offset` to their end; durable, not visible. What a broken stream brought is kept.

        `Rejected` (`offset_mismatch`, `blob_too_large`), `Temporary("upload_busy")` while another call writes it.
        """
        ...

    async def publish(self, uploaded: Uploaded) -> None:
        """Make an upload the blob of its digest, durably and at once; an equal blob that is there stays."""
        ...

    async def discard(self, upload_id: str) -> None:
        """Forget an upload. Repeatable."""
        ...

    def read(self, sha256: str, offset: int, length: int | None) -> AsyncIterator[bytes]:
        """Bytes in chunks of at most 256 KiB; `Permanent("blob_missing")`."""
        ...

    async def size(self, sha256: str) -> int | None:
        """Length of a blob in bytes, None when there is none."""
        ...

    async def delete(self, sha256: str) -> None:
        """Remove a blob, durably. Repeatable."""
        ...

    async def older_than(self, before_ms: int) -> list[str]:
        """Digests of the blobs whose upload began before `before_ms`."""
        ...

    async def uploads(self) -> list[str]:
        """Ids of all unfinished uploads."""
        ...

    async def discard_older_than(self, before_ms: int) -> None:
        """Forget uploads that were last written before `before_ms`."""
        ...
