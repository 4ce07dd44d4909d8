"""Lists of digests and keys, in parts that one statement takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

BATCH = 200


def batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """`values` in order, in parts of at most `BATCH`."""
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]


def marks(values: Sequence[str]) -> str:
    """A question mark for each of `values`."""
    return ", ".join("?" * len(values))
