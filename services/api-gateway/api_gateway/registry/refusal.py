"""Why a request about a definition is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code` is stable, `path` a JSON Pointer into what the caller sent; empty when the whole request is meant."""

    code: str
    message: str
    path: str = ""


NAME_LENGTH_MAX = 200


def name_refusal(name: str) -> Refusal | None:
    """A name has 1 to 200 characters."""
    if 1 <= len(name) <= NAME_LENGTH_MAX:
        return None
    return Refusal("validation_failed", f"a name has 1 to {NAME_LENGTH_MAX} characters", "/name")
