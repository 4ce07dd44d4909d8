"""What an owner appends to its ledger, and what it must remember of it until it is read back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kernel.log.port import Record
from kernel.processor.deciding import Batch


class Kind(StrEnum):
    """What an append to the ledger holds."""

    CLAIM = "claim"
    DECISIONS = "decisions"
    CHECKPOINT = "checkpoint"
    SNAPSHOT_CLAIM = "snapshot_claim"
    CHUNKS = "chunks"
    COMPLETION = "completion"


@dataclass(frozen=True, slots=True)
class Append:
    """One append to the ledger; `offsets` once it is acknowledged. It counts when it is read back as effective."""

    kind: Kind
    records: tuple[Record, ...]
    claim: str
    batch: Batch | None = None
    offsets: tuple[int, ...] = ()
    began_ms: float = 0.0
