"""A decider small enough to know by heart, whose fold notices when its base is wrong, and a codec without bytes.

Every decision raises its thing's number by one and tells two topics: a public fact with the number as its sequence
(index 0), and a nudge (index 1). So an outside reader can see any loss, doubling or wrong order.

    start    makes a thing, unless it is there or has ended (its tombstone stays until it is forgotten)
    signal   counts, if the thing is live            sleep   waits until `due_ms`, then wakes
    end      leaves a tombstone                      forget  removes the tombstone
    burst    decides `times` signals at once         fail    makes `decide` raise
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from kernel.domain.decider import Context, Decision, Derived, Event, Input, TakenOver, Wake
from kernel.log.envelope import Cause, Envelope, Message, Source
from kernel.log.port import Record, Stored

LEDGER = "run_ledger"
ASKED = "run_requests"
REPORTED = "task_reports"
FACTS = "job_runs"
NUDGES = "dispatch"
TOPICS = (LEDGER, ASKED, REPORTED, FACTS, NUDGES)


@dataclass(frozen=True, slots=True)
class Asked:
    """An input."""

    what: str
    due_ms: int = 0
    times: int = 1
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Did:
    """A decision, and the record derived from it."""

    what: str
    number: int
    due_ms: int = 0
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Thing:
    """The value of a key: live, waiting or ended, and how many decisions made it so."""

    number: int
    status: str
    due_ms: int = 0


class Things:
    """The state map; the earliest due time is searched, which is fine for a handful of keys."""

    def __init__(self, things: dict[str, Thing] | None = None) -> None:
        self._things = dict(things or {})

    def __copy__(self) -> Things:
        return Things(self._things)

    def get(self, key: str) -> Thing | None:
        return self._things.get(key)

    def put(self, key: str, value: Thing | None) -> None:
        if value is None:
            self._things.pop(key, None)
        else:
            self._things[key] = value

    def items(self) -> Iterator[tuple[str, Thing]]:
        return iter(list(self._things.items()))

    def due_ms(self) -> int | None:
        return min((thing.due_ms for thing in self._things.values() if thing.due_ms), default=None)


class ToyDecider:
    """See the module."""

    name = "toy"
    ledger = LEDGER
    told = FACTS
    value_types: tuple[type, ...] = (Thing,)

    def __init__(self, *inputs: str, greets: bool = False) -> None:
        self.inputs: tuple[str, ...] = inputs or (ASKED, REPORTED)
        self.greets = greets

    def empty(self) -> Things:
        return Things()

    def decide(self, state: Any, cause: Input | Wake | TakenOver, context: Context) -> Sequence[Decision]:
        match cause:
            case TakenOver():
                return [_did("greeting", "greeted", state.get("greeting"))] if self.greets else []
            case Wake():
                due = sorted(key for key, thing in state.items() if thing.due_ms and thing.due_ms <= context.now_ms)
                return [_did(key, "woke", state.get(key)) for key in due]
            case Input(key=key, event=event):
                return _answer(key, event, state.get(key))

    def touches(self, decision: Decision) -> Sequence[str]:
        return [decision.key]

    def evolve(self, key: str, old: Any | None, decision: Decision) -> Thing | None:
        event = decision.event
        number = old.number if old is not None else 0
        if event.number != number + 1:
            raise AssertionError(f"{key}: number {event.number} is folded onto {number}")
        if event.what == "forgot":
            return None
        return Thing(event.number, "ended" if event.what == "ended" else "live", event.due_ms)

    def derive(self, decision: Decision) -> Sequence[Derived]:
        return [Derived(FACTS, decision.key, decision.event), Derived(NUDGES, decision.key, decision.event, 0)]


def _answer(key: str, event: Asked, old: Thing | None) -> list[Decision]:
    match event.what, old.status if old else None:
        case "fail", _:
            raise RuntimeError("the toy fails on demand")
        case "start", None:
            return [_did(key, "started", old, event)]
        case "signal", "live":
            return [_did(key, "signalled", old, event)]
        case "sleep", "live":
            return [_did(key, "slept", old, event)]
        case "burst", "live":
            first = _did(key, "signalled", old, event)
            return [
                structs.replace(
                    first, event=replace(first.event, number=first.event.number + more), sequence=first.sequence + more
                )
                for more in range(event.times)
            ]
        case "end", "live":
            return [_did(key, "ended", old, event)]
        case "forget", "ended":
            return [_did(key, "forgot", old, event)]
        case _:
            return []


def _did(key: str, what: str, old: Thing | None, event: Asked | None = None) -> Decision:
    number = old.number + 1 if old else 1
    asked = event or Asked(what)
    return Decision(Did(what, number, asked.due_ms, asked.padding), key, number, subject=key)


class ObjectCodec:
    """Keeps events as objects and writes their number; equal records get equal numbers, whatever their id and time."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], int] = {}
        self._messages: list[tuple[Event, Envelope]] = []

    def encode(
        self, event: Event, *, topic: str, key: str, envelope: Envelope, partition: int, value: bytes = b""
    ) -> Record:
        content = (topic, key, event, envelope.claim, envelope.cause, envelope.source, envelope.sequence)
        number = self._known.get(content)
        if number is None:
            number = self._known[content] = len(self._messages)
            self._messages.append((event, envelope))
        padding = getattr(event, "padding", 0)
        return Record(topic, partition, key, (), str(number).encode() + b" " * padding)

    def decode(self, stored: Stored) -> Message:
        record = stored.record
        event, envelope = self._messages[int(record.value)]
        return Message(
            record.topic, record.partition, stored.offset, record.key, event, envelope, stored.appended_ms
        )  # fmt: skip


def asked(
    codec: ObjectCodec, what: Asked | str, key: str = "A", *, topic: str = ASKED, source: Source | None = None
) -> Record:
    """An input record in partition 0."""
    event = Asked(what) if isinstance(what, str) else what
    envelope = Envelope(id=f"{key} {event.what}", time_ms=0, source=source, cause=Cause("", 0, 0))
    return codec.encode(event, topic=topic, key=key, envelope=envelope, partition=0)
