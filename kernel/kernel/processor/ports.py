"""What an owner stands on, and how far it goes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kernel.clock import Clock
from kernel.domain.decider import Event
from kernel.ids import Entropy
from kernel.log.envelope import Envelope, Message
from kernel.log.port import AppendsAtEnd, EventLog, Record, Stored
from kernel.tracing.context import TraceHeaders


class Codec(Protocol):
    """Between events and records; the module `kernel.log.codec` is one."""

    def encode(
        self, event: Event, *, topic: str, key: str, envelope: Envelope, partition: int, value: bytes = b""
    ) -> Record:
        """The record of `event`. Pure. Whatever it raises is a fault of the event.

        `value` is that of a record that was made of the same event before; empty: there is none.
        """
        ...

    def decode(self, stored: Stored) -> Message:
        """The message of a record. Pure. Whatever it raises parks an input and stops a restore."""
        ...


class SnapshotHint(Protocol):
    """Where the last complete snapshot of a ledger partition starts. Only the speed of a restore depends on it.

    A lost, old or wrong hint costs time and nothing else: a restore that it misleads begins again at the first record.
    Both calls may be made twice and by a former owner; what they raise stops the owner, so answer None when in doubt.
    """

    async def get(self, ledger: str, partition: int) -> int | None:
        """The offset that was set last, None when there is none."""
        ...

    async def set(self, ledger: str, partition: int, start: int) -> None:
        """Remember the offset `start` of the claim that begins the snapshot."""
        ...


class NoHint:
    """Remembers nothing: every restore reads the ledger from its first kept record, at most two snapshots back."""

    async def get(self, ledger: str, partition: int) -> int | None:  # noqa: ARG002 (shaped by the port)
        return None

    async def set(self, ledger: str, partition: int, start: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Parked:
    """An input that no decision can answer, because it cannot be decoded or because deciding it fails.

    The bytes stay in the log at `topic`, `partition`, `offset`; `sha256` (hex) identifies them. `error` names what was
    raised, without its text, which may hold personal values. `type` is the record's `ce_type`, also one that this
    version does not know; empty when the record names none.
    """

    topic: str
    partition: int
    offset: int
    sha256: str
    error: str
    type: str = ""


class ProcessorObserver(Protocol):
    """Told what happens, for metrics, logs and alerts. Called inside the loop: must return at once and never raise."""

    def claimed(self, decider: str, partition: int) -> None:
        """A claim was appended."""
        ...

    def restored(self, decider: str, partition: int, records: int, took_ms: float, clock_step_ms: int) -> None:
        """The ledger was read and folded. `clock_step_ms`: how far our clock is behind the last decision, 0 if not."""
        ...

    def stood_down(self, decider: str, partition: int) -> None:
        """Another claim was read."""
        ...

    def append_unknown(self, decider: str, partition: int, what: str) -> None:
        """An append had an unknown outcome; `what` is claim, decisions, checkpoint, snapshot or derived."""
        ...

    def committed(self, decider: str, partition: int, inputs: int, decisions: int, commit_ms: float) -> None:
        """A batch of `inputs` transitions was read back as effective, `commit_ms` after its append began."""
        ...

    def traced(self, decider: str, partition: int, asked: Sequence[TraceHeaders], commit_ms: float) -> None:
        """As `committed`, for batches that answer inputs of callers who trace: `asked`, some of them more than once."""
        ...

    def checkpointed(self, decider: str, partition: int, positions: Mapping[str, int]) -> None:
        """A checkpoint is effective: no owner will read an input topic below its position again."""
        ...

    def derived(self, decider: str, partition: int, records: int) -> None:
        """That many derived records were acknowledged."""
        ...

    def woken(self, decider: str, partition: int, late_ms: int) -> None:
        """A due time was decided, so late."""
        ...

    def parked(self, decider: str, partition: int, record: Parked) -> None:
        """An input was set aside: count it and alert."""
        ...

    def failed(self, decider: str, partition: int, what: str, error: str) -> None:
        """Our own fault, to be looked at: alert. The loop goes on as the caller of this says in `what`."""
        ...


class QuietObserver:
    """Watches nothing."""

    def claimed(self, decider: str, partition: int) -> None:
        pass

    def restored(self, decider: str, partition: int, records: int, took_ms: float, clock_step_ms: int) -> None:
        pass

    def stood_down(self, decider: str, partition: int) -> None:
        pass

    def append_unknown(self, decider: str, partition: int, what: str) -> None:
        pass

    def committed(self, decider: str, partition: int, inputs: int, decisions: int, commit_ms: float) -> None:
        pass

    def traced(self, decider: str, partition: int, asked: Sequence[TraceHeaders], commit_ms: float) -> None:
        pass

    def checkpointed(self, decider: str, partition: int, positions: Mapping[str, int]) -> None:
        pass

    def derived(self, decider: str, partition: int, records: int) -> None:
        pass

    def woken(self, decider: str, partition: int, late_ms: int) -> None:
        pass

    def parked(self, decider: str, partition: int, record: Parked) -> None:
        pass

    def failed(self, decider: str, partition: int, what: str, error: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an owner does at once.

    Batches follow design 9. A checkpoint pays when it saves a takeover more reading than it costs: after
    `checkpoint_records` ledger records or inputs, or at the first work after `checkpoint_seconds`. A snapshot is made
    when the tail since the last one is longer than the map and than `snapshot_records`; its steps are small, because
    inputs wait for them; after a restore none is begun for `snapshot_rest_seconds`, while there is most to do.
    `end_wait_seconds`: how long an input topic may lag behind what was decided from it (a new leader of a partition
    knows its high watermark late) before it is refused.
    """

    batch_records: int = 500
    batch_bytes: int = 1_000_000
    checkpoint_records: int = 2000
    checkpoint_seconds: float = 30.0
    snapshot_records: int = 5000
    snapshot_step_records: int = 256
    snapshot_step_bytes: int = 262_144
    snapshot_rest_seconds: float = 0.0
    derive_records: int = 2000
    end_wait_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything an owner is handed at the composition root. `owner` names this process in its claims."""

    log: EventLog
    codec: Codec
    clock: Clock
    entropy: Entropy
    owner: str = ""
    hint: SnapshotHint = field(default_factory=NoHint)
    observer: ProcessorObserver = field(default_factory=QuietObserver)
    bounds: Bounds = field(default_factory=Bounds)
    at_end: AppendsAtEnd | None = None
    """The same log, where it can append decisions and what is derived from them as one; None: each by itself."""
