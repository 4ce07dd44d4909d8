"""Ledgers written by hand: what a crash, a pause or a late record can leave behind, record by record."""

from __future__ import annotations

from typing import TypeVar

from kernel.domain.decider import Event
from kernel.domain.owner import (
    InputPosition,
    OwnerCheckpointed,
    OwnerClaimed,
    OwnerSnapshotChunked,
    OwnerSnapshotCompleted,
)
from kernel.log.envelope import Cause, Envelope, Message
from kernel.processor.ledger import LedgerFold, Restored
from kernel.processor.turns import InTurns
from kernel.processor.values import StateValues
from kernel.tracing.context import NOBODY, TraceHeaders
from tests.support.toy_decider import ASKED, LEDGER, Did, Thing, ToyDecider

T = TypeVar("T")
_VALUES = StateValues((Thing,))


class HandLedger:
    """Each call appends one record in the name of a claim; offsets count from `base`."""

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.messages: list[Message] = []

    @property
    def end(self) -> int:
        return self.base + len(self.messages)

    def claim(self, claim: str) -> int:
        return self._append("", OwnerClaimed(claim, ""), claim)

    def did(
        self,
        claim: str,
        what: str,
        number: int,
        *,
        key: str = "A",
        cause: int = 0,
        time_ms: int = 0,
        trace: TraceHeaders = NOBODY,
    ) -> int:
        return self._append(key, Did(what, number), claim, Cause(ASKED, 0, cause), time_ms, trace=trace)

    def checkpoint(self, claim: str, *, position: int, derived_below: int = 0, topic_id: str = "asked") -> int:
        positions = (InputPosition(ASKED, topic_id, position),)
        return self._append("", OwnerCheckpointed(derived_below, positions, (), 0), claim)

    def chunk(self, claim: str, reflects: int, thing: Thing | None, *, key: str = "A") -> int:
        return self._append(key, OwnerSnapshotChunked(key, reflects, *_VALUES.write(thing)), claim)

    def completed(self, claim: str, start: int, *, position: int = 0) -> int:
        positions = (InputPosition(ASKED, "asked", position),)
        return self._append("", OwnerSnapshotCompleted(start, positions, (), 0), claim)

    def restore(self, base: int | None = None) -> Restored | None:
        """The fold from `base` on, by default from the first record; in one go."""
        return at_once(self.fold(base))

    def fold(self, base: int | None = None) -> InTurns[Restored | None]:
        """The same, for whoever gives way to others in between."""
        begin = self.base if base is None else base
        fold = LedgerFold(begin)
        for message in self.messages[begin - self.base :]:
            fold.add(message)
        return fold.finish(ToyDecider(ASKED), _VALUES)

    def restored(self, base: int | None = None) -> Restored:
        """`restore`, which must succeed."""
        found = self.restore(base)
        assert found is not None, "nothing to restore from"
        return found

    def _append(
        self,
        key: str,
        event: Event,
        claim: str,
        cause: Cause | None = None,
        time_ms: int = 0,
        *,
        trace: TraceHeaders = NOBODY,
    ) -> int:
        envelope = Envelope(f"record {self.end}", time_ms, claim=claim, cause=cause, **trace._asdict())
        self.messages.append(Message(LEDGER, 0, self.end, key, event, envelope, 0))
        return self.end - 1


def at_once(work: InTurns[T]) -> T:
    """What `work` returns, without a turn for anybody else."""
    try:
        while True:
            next(work)
    except StopIteration as end:
        result: T = end.value
        return result


def check_that_a_late_checkpoint_is_not_trusted() -> None:
    """A former owner's checkpoint lands under a later claim, and says more than was ever effective."""
    ledger = HandLedger()
    ledger.claim("old")
    ledger.did("old", "started", 1, cause=0)
    ledger.claim("new")
    ledger.checkpoint("old", position=7, derived_below=3)
    restored = ledger.restored()
    assert restored.positions == {ASKED: 1}
    assert [effective.offset for effective in restored.underived] == [1]


def check_that_a_late_completion_is_not_trusted() -> None:
    """A former owner ends its snapshot under a later claim: its chunks were not effective either."""
    ledger = HandLedger()
    ledger.claim("old")
    ledger.did("old", "started", 1, cause=0)
    start = ledger.claim("snapshot")
    ledger.claim("new")
    ledger.chunk("snapshot", 1, Thing(1, "live"))
    ledger.completed("snapshot", start, position=1)
    ledger.did("new", "signalled", 2, cause=1)
    restored = ledger.restored()
    assert restored.starts == ()
    assert restored.values == {"A": Thing(2, "live")}


def check_that_the_newest_chunk_of_a_key_is_taken() -> None:
    """Two whole snapshots are read, as without a hint: the second one's chunk stands for the key."""
    ledger = HandLedger()
    first = ledger.claim("one")
    ledger.chunk("one", 0, Thing(1, "live"))
    ledger.completed("one", first, position=1)
    reflects = ledger.did("one", "signalled", 2, cause=1)
    second = ledger.claim("two")
    ledger.chunk("two", reflects, Thing(2, "live"))
    ledger.completed("two", second, position=2)
    assert ledger.restored().values == {"A": Thing(2, "live")}
