"""What every decider is: decide, evolve, derive, all pure (design 4). The owning loop is `kernel.processor`.

A partition's state is a keyed map; `evolve` of a key reads that key's own old value only, so a restore may fold each
key from its own snapshot chunk. Beside the map a state may keep indexes, which are a pure function of its puts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct

Event = Any
"""A frozen dataclass that the topic table (`kernel.log.topics`) knows."""


class Input(Struct, frozen=True):
    """One record of an input topic, decoded."""

    topic: str
    key: str
    event: Event
    organization_id: str
    correlation_id: str
    appended_ms: int


@dataclass(frozen=True, slots=True)
class Wake:
    """A due time has come, and the inputs were read to the high watermark as it stood at `Context.now_ms`."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A new owner has restored; the first thing it decides on."""


class Context(Struct, frozen=True):
    """What a decision may use beside the state: time, ids and chance as arguments.

    `now_ms` never falls below the last one. `derived_id(*parts)` is UUIDv5 of the input's position and `parts`: the
    same on every replay. `nonce()` gives 128 random bits in hex, recorded in the decision.
    """

    now_ms: int
    derived_id: Callable[..., str]
    nonce: Callable[[], str]


class Decision(Struct, frozen=True):
    """One fact of a ledger.

    `key` is the aggregate (root run, task, organization …); `sequence` is the gapless number of the public record that
    is derived from it under that key and topic, 0 when none is. `subject` is the entity the fact is about.
    """

    event: Event
    key: str
    sequence: int = 0
    subject: str = ""
    organization_id: str = ""
    correlation_id: str = ""


class Derived(Struct, frozen=True):
    """A record for another topic, made from an effective decision. `partition` None: computed from the key."""

    topic: str
    key: str
    event: Event
    partition: int | None = None


class State(Protocol):
    """A partition's keyed map with the decider's own indexes."""

    def get(self, key: str) -> Any | None:
        """The value of `key`, or None."""
        ...

    def put(self, key: str, value: Any | None) -> None:
        """Set or (None) remove `key`, indexes included."""
        ...

    def items(self) -> Iterator[tuple[str, Any]]:
        """All keys with their values, in any order."""
        ...

    def due_ms(self) -> int | None:
        """The earliest due time in the map, None when nothing waits for time."""
        ...


class Decider(Protocol):
    """A pure decider.

    `name` names it in logs; `ledger` is its ledger topic; `inputs` its input topics, all with the ledger's partition
    count; `told` a topic that is told of what it decides from the first on, so that others know when a ledger is gone.
    Values of the state map are frozen dataclasses that `kernel.processor` stores by msgspec under the class
    name; `value_types` lists these classes.
    """

    name: str
    ledger: str
    inputs: tuple[str, ...]
    told: str
    value_types: tuple[type, ...]

    def empty(self) -> State:
        """The state of a partition that has seen nothing."""
        ...

    def decide(self, state: State, cause: Input | Wake | TakenOver, context: Context) -> Sequence[Decision]:
        """Decide one input. Never raises for business reasons; must not change `state`.

        For `Wake` it decides what is due at `context.now_ms`, at most 500 decisions; the loop wakes it again at once
        while `state.due_ms()` is not in the future.
        """
        ...

    def touches(self, decision: Decision) -> Sequence[str]:
        """The keys that `decision` changes."""
        ...

    def evolve(self, key: str, old: Any | None, decision: Decision) -> Any | None:
        """The new value of `key`; None removes it. Reads nothing but its arguments."""
        ...

    def derive(self, decision: Decision) -> Sequence[Derived]:
        """What other topics are told. Pure; the position in the returned sequence is the index in the source."""
        ...
