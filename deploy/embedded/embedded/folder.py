"""Small secrets and identities that live as files of their own in the data folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kernel.ids import Entropy


def kept_bytes(path: Path, count: int, entropy: Entropy) -> bytes:
    """`count` random bytes, made once and kept in `path` as hex, mode 0600. Blocks."""
    return bytes.fromhex(kept_text(path, lambda: entropy.bytes(count).hex()))


def kept_uuid(path: Path, entropy: Entropy) -> str:
    """A random id, made once and kept in `path`. Blocks."""
    return kept_text(path, entropy.uuid)


def kept_text(path: Path, make: Callable[[], str]) -> str:
    """What `path` holds, or what `make()` gives the first time. Durable before it returns; mode 0600."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        text = make()
    write_private(path, text + "\n")
    return text


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all. Blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
