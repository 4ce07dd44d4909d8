"""What an unfinished upload left in an object store: segments, each an object that is written once.

A segment's key says where it begins, how long it is, when it was written and by which call, so that a listing tells
everything, and a call that goes on beside its successor overwrites nothing. All calls of one upload bring the same
bytes; where segments overlap, the longest counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """One object below `uploads/<upload id>/`."""

    offset: int
    size: int
    written_ms: int
    call: str
    """Random: the call that wrote it."""

    @property
    def name(self) -> str:
        """The last part of its key."""
        return f"{self.offset:015d}.{self.size}.{self.written_ms}.{self.call}"

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.offset + self.size


def segment_of(name: str) -> Segment:
    """The segment of such a name; `ValueError` for anything else."""
    offset, size, written_ms, call = name.split(".")
    return Segment(int(offset), int(size), int(written_ms), call)


def chain(segments: Iterable[Segment]) -> list[Segment]:
    """The segments that follow each other without a gap from offset 0 on."""
    longest: dict[int, Segment] = {}
    for segment in segments:
        known = longest.get(segment.offset)
        if known is None or (segment.size, segment.name) > (known.size, known.name):
            longest[segment.offset] = segment
    found: list[Segment] = []
    while (following := longest.get(found[-1].end if found else 0)) is not None and following.size:
        found.append(following)
    return found
