"""What stands around an event in a record: CloudEvents attributes and the engine's own (design 3.4, 4)."""

from __future__ import annotations

from msgspec import Struct

from kernel.domain.decider import Event


class Cause(Struct, frozen=True, gc=False):
    """The input that a decision answers. An empty `topic`: a due time or a takeover."""

    topic: str
    partition: int
    offset: int


class Source(Struct, frozen=True, gc=False):
    """The decision that a record was derived from; `index` is its place among that decision's derived records."""

    topic_id: str
    partition: int
    offset: int
    index: int


class Envelope(Struct, frozen=True, gc=False):
    """The attributes of one record.

    `id` is `ce_id`; `time_ms` is `ce_time`; `claim` and `cause` stand in ledger records only; `source` in derived
    records only; `sequence` is gapless per key and public topic and 0 elsewhere; `causation_id` is the id of the record
    that caused this one. `traceparent` and `tracestate` are W3C trace context; the second never stands alone.
    """

    id: str
    time_ms: int
    subject: str = ""
    sequence: int = 0
    organization_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""
    claim: str = ""
    cause: Cause | None = None
    source: Source | None = None
    tracestate: str = ""


class Message(Struct, frozen=True):
    """One record of the log, decoded."""

    topic: str
    partition: int
    offset: int
    key: str
    event: Event
    envelope: Envelope
    appended_ms: int
