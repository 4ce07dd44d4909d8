"""What became of a request that may be asked again?

Only request ids that are derived (UUIDv5, from an idempotency key) can come twice; nobody else knows a random one.
"""

from __future__ import annotations

from api_gateway.projections.change import Cell, Change, Fact, Kind, Table

TABLE = Table("request_outcomes", ("request_id",))
_VERSION_DIGIT = 14


def is_derived(request_id: str) -> bool:
    """Whether `request_id` is a UUIDv5."""
    return request_id[_VERSION_DIGIT : _VERSION_DIGIT + 1] == "5"


def outcome(fact: Fact) -> Change | None:
    """The first outcome of a derived request, kept as the fact it is."""
    request_id = getattr(fact.event, "request_id", "")
    if not request_id or not is_derived(request_id):
        return None
    columns: dict[str, Cell] = {
        "stream": fact.key,
        "sequence": fact.sequence,
        "wire": fact.wire,
        "time_ms": fact.time_ms,
        "value": fact.value,
    }
    return Change(Kind.KEEP, TABLE, (request_id,), columns)
