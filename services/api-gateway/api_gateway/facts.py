"""Records of the public topics as the facts that they tell."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from api_gateway.projections.change import Fact
from kernel.errors import UnknownType
from kernel.log.codec import decode, read_envelope
from kernel.log.port import Stored
from kernel.log.topics import TYPES

_log = structlog.get_logger("api_gateway.facts")


def facts_of(stored: Iterable[Stored]) -> list[Fact]:
    """The facts, in order; one that this version does not know is logged and has no event. `LogRefused`: damaged."""
    return [_fact_of(one) for one in stored]


def _fact_of(stored: Stored) -> Fact:
    record = stored.record
    try:
        message = decode(stored)
    except UnknownType as error:
        _log.warning("facts.unknown_type", type=str(error), topic=record.topic, offset=stored.offset, key=record.key)
        envelope, wire, event = read_envelope(stored), str(error), None
    else:
        envelope, wire, event = message.envelope, TYPES[type(message.event)].wire, message.event
    traced = envelope.traceparent, envelope.tracestate
    return Fact(record.key, envelope.sequence, wire, envelope.time_ms, event, record.value, *traced)
