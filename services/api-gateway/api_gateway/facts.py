"""Records of the public topics as the facts that they tell."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from api_gateway.projections.change import Fact
from kernel.errors import UnknownType
from kernel.log.codec import decode
from kernel.log.port import Stored
from kernel.log.topics import TYPES

_log = structlog.get_logger("api_gateway.facts")


def facts_of(stored: Iterable[Stored]) -> list[Fact]:
    """The facts, in order; a type that this version does not know is logged and left out. `LogRefused`: damaged."""
    facts = []
    for one in stored:
        try:
            message = decode(one)
        except UnknownType as error:
            _log.warning("facts.unknown_type", type=str(error), topic=one.record.topic, offset=one.offset)
            continue
        envelope = message.envelope
        wire = TYPES[type(message.event)].wire
        facts.append(
            Fact(
                message.key,
                envelope.sequence,
                wire,
                envelope.time_ms,
                message.event,
                one.record.value,
                envelope.traceparent,
            )
        )
    return facts
