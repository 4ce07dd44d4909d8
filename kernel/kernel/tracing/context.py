"""W3C trace context, as far as it travels with records: `traceparent` in, `traceparent` out. Pure.

    00-<trace id: 32 hex digits>-<span id: 16>-<flags: 2, of which the last bit says: sampled>

A run has a trace of its own, because it may last for days and is caused by more than the request that asked for it. Its
ids are derived from the id of the root run, so that every process that knows the run adds to the same trace, and nobody
has to hand the trace on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span as others name it."""

    trace_id: int
    span_id: int
    is_sampled: bool = True

    @property
    def trace(self) -> str:
        """The trace's id as people and collectors write it."""
        return f"{self.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.is_sampled:02x}"


def parse(traceparent: str) -> TraceContext | None:
    """The span that is named; None for nothing, and for what is malformed, which the standard wants to be ignored."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    if not trace_id or not span_id or (traceparent.startswith("00-") and len(traceparent) != 55):
        return None
    return TraceContext(trace_id, span_id, bool(flags & _SAMPLED))


def trace_id_of(traceparent: str) -> str:
    """The trace of a span that is well formed, 32 hex digits; empty for none."""
    return traceparent[3:35]


def of_run(root_run_id: str) -> TraceContext:
    """The first span of a run's own trace. Hashed, because samplers take the bits of an id for random ones."""
    digest = hashlib.sha256(root_run_id.encode()).digest()
    return TraceContext(int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big"))
