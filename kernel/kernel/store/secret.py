"""A secret in memory: it shows itself to nobody but the one who calls `reveal`."""

from __future__ import annotations

import hmac
from typing import NoReturn

HIDDEN = "[redacted]"


class Secret:
    """A value from the vault. Printing, formatting and logging show `[redacted]`; it is no JSON and no pickle.

    Equality takes constant time. `bytes(secret)` and `str(secret)` do not reveal it either.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself; call it where it is typed or sent, and keep no copy."""
        return self._value

    def reveal_text(self) -> str:
        """The value as UTF-8 text."""
        return self._value.decode()

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, format_spec: str) -> str:
        return HIDDEN

    def __bytes__(self) -> bytes:
        return HIDDEN.encode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would put the value's trace into sets and keys

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")
