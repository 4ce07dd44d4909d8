"""Why a request about a definition is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code` is stable, `path` a JSON Pointer into what the caller sent; empty when the whole request is meant."""

    code: str
    message: str
    path: str = ""
    in_use_by: tuple[str, ...] = ()
    """Ids of what stands in the way, the first few of them."""


NAME_LENGTH_MAX = 200


def name_refusal(name: str) -> Refusal | None:
    """A name has 1 to 200 characters."""
    if 1 <= len(name) <= NAME_LENGTH_MAX:
        return None
    return Refusal("validation_failed", f"a name has 1 to {NAME_LENGTH_MAX} characters", "/name")


def version_refusal(expected_sequence: int, sequence: int) -> Refusal | None:
    """A request that names a version is meant for the entity as its last fact left it; of two such, one wins."""
    if expected_sequence in {0, sequence}:
        return None
    return Refusal("precondition_failed", "it has changed since it was read")
