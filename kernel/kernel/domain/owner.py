"""What an owner writes into its ledger beside decisions (design 4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputPosition:
    """Inputs of `topic` below `offset` are decided. `topic_id` refuses a recreated topic."""

    topic: str
    topic_id: str
    offset: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """The highest (offset, index) accepted from one source ledger partition through one input topic.

    Derived records land in ledger order per target only, so two input topics fed by one ledger need one mark each.
    """

    input_topic: str
    topic_id: str
    partition: int
    offset: int
    index: int


@dataclass(frozen=True, slots=True)
class OwnerClaimed:
    """From here on only records that name `claim_id` are effective, until the next claim."""

    claim_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class OwnerCheckpointed:
    """Every decision below ledger offset `derived_below` was derived and acknowledged for all targets."""

    derived_below: int
    positions: tuple[InputPosition, ...]
    watermarks: tuple[Watermark, ...]
    now_ms: int


@dataclass(frozen=True, slots=True)
class OwnerSnapshotChunked:
    """One key of the state map, as it reflects the ledger up to `offset`. `value` is msgpack of the class `kind`."""

    key: str
    offset: int
    kind: str
    value: bytes
    shape: int = 0
    """Which shape of that class; an older build than the one that wrote it may not know it."""


@dataclass(frozen=True, slots=True)
class OwnerSnapshotCompleted:
    """The snapshot that began at the claim at ledger offset `start` is whole."""

    start: int
    positions: tuple[InputPosition, ...]
    watermarks: tuple[Watermark, ...]
    now_ms: int
