"""W3C trace context, as far as it travels with records: `traceparent` and `tracestate` in, both out. Pure.

    traceparent  00-<trace id: 32 hex digits>-<span id: 16>-<flags: 2, of which the last bit says: sampled>
    tracestate   <vendor>=<what only it understands>,<another vendor>=...

A `tracestate` means nothing to us. It travels beside its `traceparent`, each member as it came, and nowhere else: it
comes from callers, so it is bounded, printable, and stands in no line of a log.

A run has a trace of its own, because it may last for days and is caused by more than the request that asked for it. Its
ids are derived from the id of the root run, so that every process that knows the run adds to the same trace, and nobody
has to hand the trace on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1
TRACESTATE_CHARS_MAX = 512
"""What the standard wants to be passed on at least; a longer one is not."""
TRACESTATE_MEMBERS_MAX = 32
_MEMBER = re.compile(
    r"([a-z][_0-9a-z*/-]{0,255}|[a-z0-9][_0-9a-z*/-]{0,240}@[a-z][_0-9a-z*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class TraceHeaders(NamedTuple):
    """What names a span where it is carried: both headers, empty where there is none."""

    traceparent: str = ""
    tracestate: str = ""


NOBODY = TraceHeaders()


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span as others name it."""

    trace_id: int
    span_id: int
    is_sampled: bool = True
    tracestate: str = ""

    @property
    def trace(self) -> str:
        """The trace's id as people and collectors write it."""
        return f"{self.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.is_sampled:02x}"

    @property
    def headers(self) -> TraceHeaders:
        return TraceHeaders(self.traceparent, self.tracestate)


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """The span that is named; None for nothing, and for what is malformed, which the standard wants to be ignored.

    A malformed `tracestate` is left out, and the span is named all the same.
    """
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    if not trace_id or not span_id or (traceparent.startswith("00-") and len(traceparent) != 55):
        return None
    return TraceContext(trace_id, span_id, bool(flags & _SAMPLED), well_formed(tracestate) if tracestate else "")


def well_formed(tracestate: str) -> str:
    """Its members as they are, without the space that may stand around them; empty when anything of it is malformed."""
    if len(tracestate) > TRACESTATE_CHARS_MAX:
        return ""
    members = [member for part in tracestate.split(",") if (member := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    vendors = {member[1] for member in found if member is not None}
    # A malformed member and a vendor who is named twice both leave fewer names than members.
    if len(vendors) < len(members) or len(members) > TRACESTATE_MEMBERS_MAX:
        return ""
    return ",".join(members)


def trace_id_of(traceparent: str) -> str:
    """The trace of a span that is well formed, 32 hex digits; empty for none."""
    return traceparent[3:35]


def of_run(root_run_id: str) -> TraceContext:
    """The first span of a run's own trace. Hashed, because samplers take the bits of an id for random ones."""
    digest = hashlib.sha256(root_run_id.encode()).digest()
    return TraceContext(int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big"))
