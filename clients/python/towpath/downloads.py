"""Bytes of artifacts: streamed to a file, checked against size and SHA-256, resumed after a break.

The bytes so far live in a hidden file beside the destination that is named by the content's hash, so a resume
can never mix two artifacts. The destination appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import httpx

from towpath.errors import ApiError, BadAnswer, DamagedDownload, Unreachable
from towpath.resources import Artifact
from towpath.transport import Transport, delay_seconds

CHUNK_BYTES = 256 * 1024
_EXPIRED = 410
_NOT_SATISFIABLE = 416

Fetch = Callable[[], Artifact]
OnProgress = Callable[[int, int], None]


def read(transport: Transport, artifact: Artifact, bytes_max: int) -> bytes:
    """All bytes of a small artifact, checked; DamagedDownload when they differ or are more than `bytes_max`."""
    if artifact.file_size > bytes_max:
        raise DamagedDownload(f"{artifact.display_name} has {artifact.file_size} bytes, more than {bytes_max}.")
    content = bytearray()
    try:
        with transport.stream_signed(_signed_url(artifact), {}) as response:
            for chunk in response.iter_bytes(CHUNK_BYTES):
                content += chunk
                if len(content) > artifact.file_size:
                    break
    except httpx.TransportError as error:
        raise Unreachable(transport.url, str(error) or type(error).__name__) from error
    _check(artifact, len(content), hashlib.sha256(content).hexdigest())
    return bytes(content)


def save(transport: Transport, fetch: Fetch, destination: Path, on_progress: OnProgress) -> Artifact:
    """Write the artifact that `fetch` reads to `destination`, replacing a file there; returns it.

    Goes on where an earlier call was cut off; `fetch` is called again when the signed URL has expired.
    `on_progress` gets bytes so far and bytes in all. ApiError, Unreachable, DamagedDownload, OSError.
    """
    artifact = fetch()
    part = destination.with_name(f".{destination.name}.{artifact.file_hash[:16]}.part")
    destination.parent.mkdir(parents=True, exist_ok=True)
    tries, minted_anew = 0, False
    while True:
        had = part.stat().st_size if part.exists() else 0
        tries += 1
        try:
            _append(transport, artifact, part, on_progress)
            break
        except ApiError as error:
            if error.status not in {_EXPIRED, _NOT_SATISFIABLE} or minted_anew:
                raise
            minted_anew = True
            if error.status == _NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
            artifact = fetch()
        except httpx.TransportError as error:
            # Bytes that arrived since are progress: only breaks without any count towards giving up.
            if part.exists() and part.stat().st_size > had:
                tries, minted_anew = 0, False
            delay = delay_seconds(max(tries, 1), None, transport.surroundings.fraction())
            if delay is None:
                raise Unreachable(transport.url, str(error) or type(error).__name__) from error
            transport.surroundings.sleep(delay)
    part.replace(destination)
    return artifact


def _append(transport: Transport, artifact: Artifact, part: Path, on_progress: OnProgress) -> None:
    """Bring `part` to the whole content and check it; a wrong one is deleted."""
    with part.open("a+b") as file:
        digest, size = _digest_of(part)
        if size < artifact.file_size or size == 0:
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
            with transport.stream_signed(_signed_url(artifact), headers) as response:
                if size and response.status_code != httpx.codes.PARTIAL_CONTENT:
                    file.truncate(0)
                    digest, size = hashlib.sha256(), 0
                on_progress(size, artifact.file_size)
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    on_progress(size, artifact.file_size)
        file.flush()
        os.fsync(file.fileno())
    try:
        _check(artifact, size, digest.hexdigest())
    except DamagedDownload:
        part.unlink(missing_ok=True)
        raise


def _digest_of(file: Path) -> tuple[hashlib._Hash, int]:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest, size


def _check(artifact: Artifact, size: int, sha256: str) -> None:
    if size != artifact.file_size:
        raise DamagedDownload(f"{artifact.display_name}: {size} bytes arrived, {artifact.file_size} were promised.")
    if sha256 != artifact.file_hash:
        raise DamagedDownload(f"{artifact.display_name}: SHA-256 is {sha256}, {artifact.file_hash} was promised.")


def _signed_url(artifact: Artifact) -> str:
    if not artifact.signed_url:
        raise BadAnswer(f"Artifact {artifact.id} came without a signed URL.")
    return artifact.signed_url
