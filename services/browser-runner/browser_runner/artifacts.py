"""What an attempt stages: files from the runner's disk, and the channel to the artifact store in a cluster.

Embedded, the runner holds the store itself; in a cluster it holds a `RemoteStore`. Both are the same ports.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from kernel.clock import Clock
from kernel.errors import Temporary
from kernel.ids import Entropy
from kernel.store.port import CHUNK_BYTES, ByteStore, PutHeader, Staged
from kernel.store.remote import RemoteStore

STAGE_TRIES = 4


def connect(
    target: str, service_key_path: Path, root_certificate_path: Path | None, clock: Clock, entropy: Entropy
) -> RemoteStore:
    """The store behind `target` (`host:port`); reads the key and the certificate from their files. Opens lazily."""
    return RemoteStore(
        target,
        service_key_path.read_text().strip(),
        clock=clock,
        entropy=entropy,
        root_certificate=None if root_certificate_path is None else root_certificate_path.read_bytes(),
    )


async def stage_file(store: ByteStore, path: Path, header: PutHeader, clock: Clock, entropy: Entropy) -> Staged:
    """Stage a file, going on where a broken line stopped; `path` stays and must not change meanwhile.

    Size and digest are declared, so a file that changes is refused (`Rejected`). Raises what `ByteStore.put` raises,
    `Temporary` only after four tries.
    """
    size, digest = await asyncio.to_thread(_measure, path)
    declared = replace(header, size=size, sha256=digest, upload_id=header.upload_id or entropy.nonce(), offset=0)
    for _ in range(STAGE_TRIES - 1):
        try:
            return await _put(store, path, declared)
        except Temporary as failure:
            await clock.sleep(max(failure.delay_seconds, 0.1))
            declared = replace(declared, offset=await _committed(store, declared.upload_id))
    return await _put(store, path, declared)


async def _put(store: ByteStore, path: Path, header: PutHeader) -> Staged:
    async with aclosing(_read(path, header.offset)) as chunks:
        return await store.put(chunks, header)


async def _committed(store: ByteStore, upload_id: str) -> int:
    try:
        return await store.query_put(upload_id)
    except Temporary:
        return 0


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


async def _read(path: Path, offset: int) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
