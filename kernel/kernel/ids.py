"""The only file that makes identifiers and draws random bytes."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from typing import Protocol

NAMESPACE = uuid.UUID("6f1d2a54-3f0b-5d0e-9a53-7d0c0f6c9a11")
_NAMESPACE_HASH = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = dict(zip("0123456789abcdef", "89ab89ab89ab89ab", strict=True))


def derived_id(*parts: str) -> str:
    """UUIDv5 of `parts`: the same cause and position make the same id on every replay."""
    hashed = _NAMESPACE_HASH.copy()  # faster than another hash
    hashed.update("\x1f".join(parts).encode())
    return _uuid_of(hashed.hexdigest(), version=5)


def _uuid_of(digits: str, *, version: int) -> str:
    """A UUID out of 32 hex digits or more: written out, for `uuid.UUID` takes longer than to hash or draw them."""
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"


class Entropy(Protocol):
    """Chance, handed in at the composition root; seeded in tests and in the simulator."""

    def uuid(self) -> str:
        """A random UUIDv4 as text."""
        ...

    def nonce(self) -> str:
        """128 random bits as 32 hex digits."""
        ...

    def bytes(self, count: int) -> bytes:
        """`count` random bytes, fit for keys."""
        ...

    def fraction(self) -> float:
        """A number in [0, 1), for jitter."""
        ...


class SystemEntropy:
    """The operating system's randomness."""

    def uuid(self) -> str:
        return _uuid_of(secrets.token_hex(16), version=4)

    def nonce(self) -> str:
        return secrets.token_hex(16)

    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def fraction(self) -> float:
        return secrets.randbelow(1 << 53) / (1 << 53)
