"""State values as bytes: msgpack beside the name of the class, as the decider lists it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kernel.errors import LogRefused

GONE = ""
"""The kind of a chunk that says: at that offset the key is not in the map."""


class StateValues:
    """Writes and reads the values of one decider's state map."""

    def __init__(self, value_types: Iterable[type]) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
            cls.__name__: msgspec.msgpack.Decoder(cls) for cls in value_types
        }

    def write(self, value: Any | None) -> tuple[str, bytes]:
        """(kind, bytes) of a value; None is `GONE`. Raises `LogRefused` for a class that the decider does not list."""
        if value is None:
            return GONE, b""
        kind = type(value).__name__
        if kind not in self._decoders:
            raise LogRefused(f"{kind} is not among the decider's value types")
        return kind, self._encode(value)

    def read(self, kind: str, value: bytes) -> Any | None:
        """The value that `write` was given. Raises `LogRefused` for an unknown kind or damaged bytes."""
        if kind == GONE:
            return None
        decoder = self._decoders.get(kind)
        if decoder is None:
            raise LogRefused(f"the snapshot holds a {kind}, which this decider does not know")
        try:
            return decoder.decode(value)
        except msgspec.DecodeError as error:
            raise LogRefused(f"the snapshot of a {kind} does not read") from error
