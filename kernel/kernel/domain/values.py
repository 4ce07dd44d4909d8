"""Values that several aggregates share: sealed fields, bodies, tokens, failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kernel.domain.ids import SubjectId


@dataclass(frozen=True, slots=True)
class Sealed:
    """A personal value under the data key of its subject (design 11); `box` is what `kernel.sealing` made.

    An empty box stands for an absent value.
    """

    subject_id: SubjectId = SubjectId("")
    box: bytes = b""


@dataclass(frozen=True, slots=True)
class SealedBody:
    """A sealed JSON value of any size: inline as `box`, or staged in the artifact store as blob `sha256` of the box.

    Exactly one of `box` and `blob` is set, or neither when there is no value. `size` is the length of the box in bytes.
    """

    subject_id: SubjectId = SubjectId("")
    box: bytes = b""
    blob: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """A `stepsJson` snapshot: inline JSON text, or blob `sha256` when longer than 16 KiB. It holds no personal data."""

    inline: str = ""
    blob: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """What fences one attempt: its number (from 1) and 128 random bits in hex. Each is assigned at most once."""

    attempt: int = 0
    nonce: str = ""


class FailureKind(StrEnum):
    """Whether trying again can help."""

    PERMANENT = "permanent"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: a stable code, a sealed text for people, and where."""

    code: str = ""
    kind: FailureKind = FailureKind.PERMANENT
    message: Sealed = field(default_factory=Sealed)
    step_id: str = ""
    step_name: str = ""


class Effect(StrEnum):
    """What a crashed step may repeat (browser-automation 2.4)."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


class Pool(StrEnum):
    """Kind of slot a task needs."""

    BROWSER = "browser"
    LIGHT = "light"


def pool_key(pool: Pool) -> str:
    """Key of a pool's only shard in `dispatch`."""
    return f"{pool}/0"
