"""State values as bytes: msgpack by names of fields, beside the name of the class and the number of its shape.

Two builds may work on one ledger, one after the other and back, so either reads what the other wrote:

    a field more, with a default    the older build leaves it out, the newer one fills it in; no other number
    any other change                a new number: `SHAPE` of the class, which keeps what was before in `FORMER`

A class without `SHAPE` is in shape 0. `FORMER[n]` is a frozen dataclass of shape n whose `raised()` gives the value in
shape n + 1. A shape that is newer than this build is refused in one line, and the partition is left to a newer build.

A new shape takes two releases, so that either can be taken back. The first one works in it and writes the one before:
`WRITES` of the class names that, and `FORMER[n].lowered(value)`, a class method, makes it of a value in shape n + 1.
The second one has no `WRITES`; what it writes the first one reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kernel.errors import LogRefused

GONE = ""
"""The kind of a chunk that says: at that offset the key is not in the map."""
_WAY_OUT = "run the build that wrote it, or a newer one"


class StateValues:
    """Writes and reads the values of one decider's state map."""

    def __init__(self, value_types: Iterable[type]) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        shapes = {cls.__name__: _shapes(cls) for cls in value_types}
        self._decoders: dict[str, list[msgspec.msgpack.Decoder[Any]]] = {
            name: [msgspec.msgpack.Decoder(shape) for shape in found] for name, found in shapes.items()
        }
        self._lowering: dict[str, Sequence[Any]] = {
            name: found[_written(found) : -1][::-1] for name, found in shapes.items()
        }

    def write(self, value: Any | None) -> tuple[str, bytes, int]:
        """(kind, bytes, shape) of a value, in the shape that this build writes; None is `GONE`.

        Raises `LogRefused` for a class that the decider does not list.
        """
        if value is None:
            return GONE, b"", 0
        kind = type(value).__name__
        if kind not in self._decoders:
            raise LogRefused(f"{kind} is not among the decider's value types")
        lowering = self._lowering[kind]
        for former in lowering:
            value = former.lowered(value)
        return kind, self._encode(value), len(self._decoders[kind]) - 1 - len(lowering)

    def read(self, kind: str, value: bytes, shape: int) -> Any | None:
        """The value that `write` was given, in today's shape.

        Raises `LogRefused` for a kind or a shape that this build does not know, and for damaged bytes.
        """
        if kind == GONE:
            return None
        decoders = self._decoders.get(kind)
        if decoders is None:
            raise LogRefused(f"the snapshot holds a {kind}, which this build does not know: {_WAY_OUT}")
        if shape >= len(decoders):
            raise LogRefused(
                f"the snapshot holds a {kind} of shape {shape}, and this build knows them up to {len(decoders) - 1}:"
                f" {_WAY_OUT}"
            )
        try:
            found = decoders[shape].decode(value)
        except msgspec.DecodeError as error:
            raise LogRefused(f"the snapshot of a {kind} does not read: it is damaged, or {_WAY_OUT}") from error
        for _ in range(shape, len(decoders) - 1):
            found = found.raised()
        return found


def _shapes(cls: type) -> list[type]:
    """The class of each shape, oldest first. `TypeError` unless every former one is kept."""
    former: tuple[type, ...] = getattr(cls, "FORMER", ())
    if len(former) != getattr(cls, "SHAPE", 0):
        raise TypeError(f"{cls.__name__} is in shape {getattr(cls, 'SHAPE', 0)} and keeps {len(former)} former ones")
    return [*former, cls]


def _written(shapes: list[type]) -> int:
    """The number of the shape that is written. `TypeError` unless every one from there on can be lowered to it."""
    cls, newest = shapes[-1], len(shapes) - 1
    written: int = getattr(cls, "WRITES", newest)
    if not 0 <= written <= newest or not all(hasattr(shape, "lowered") for shape in shapes[written:-1]):
        raise TypeError(f"{cls.__name__} is written in shape {written}, to which it cannot be lowered")
    return written
