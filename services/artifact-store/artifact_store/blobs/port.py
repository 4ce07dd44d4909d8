"""The port to a place that keeps bytes under their digest: a local folder, or an object store.

It knows nothing of owners, tokens and organizations; `artifact_store.owned_bytes.OwnedBytes` adds them. One contract
suite runs over every implementation. Failures of the medium are `Temporary("store_unavailable")`.

A blob lies under a *name*: its digest, or its digest, a dot and the mark of a removal. Whoever puts bytes whose digest
is being removed publishes them under the name with that removal's mark. A removal deletes only names that it has read
before it looked for owners, and never the one with its own mark; so it may be late, or be carried out twice, and still
takes nothing that was put meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A finished upload that is not published yet. Implementations add what they need to publish it."""

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
        """Take the chunks from `offset` to their end; not visible. What a broken stream brought is kept.

        Of an upload whose process dies a part of at most 5 MiB may be lost; `committed` tells what is kept.
        `Rejected` (`offset_mismatch`, `blob_too_large`), `Temporary("upload_busy")` while another call writes it.
        """
        ...

    async def publish(self, uploaded: Uploaded, mark: str = "") -> None:
        """Make an upload the blob of its digest, durably and at once; an equal blob of that name stays.

        With `mark` a removal of this digest has begun; see the head of this module. Only what this object's `upload`
        returned, once.
        """
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

    async def names(self, sha256s: Sequence[str]) -> list[str]:
        """The names under which these blobs lie."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Delete what lies under these names, durably. Repeatable."""
        ...

    def digests(self) -> AsyncIterator[list[str]]:
        """The digests of all blobs, a page at a time; what comes or goes meanwhile may be missing or named."""
        ...

    async def began_ms(self, sha256: str) -> int | None:
        """When the upload of a blob was taken, as it was told; None when there is no such blob."""
        ...

    async def uploads(self) -> list[str]:
        """Ids of all unfinished uploads."""
        ...

    async def discard_older_than(self, before_ms: int) -> None:
        """Forget uploads that were last written before `before_ms`."""
        ...


def digest_of(name: str) -> str:
    """The digest of the blob that lies under `name`."""
    return name.partition(".")[0]


def name_of(sha256: str, mark: str) -> str:
    """The name of a blob that is put while a removal with `mark` has begun; its digest alone without one."""
    return f"{sha256}.{mark}" if mark else sha256


def is_digest(sha256: str) -> bool:
    """Whether it is 64 hex digits, which name a blob; anything else might be a path."""
    return len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")
