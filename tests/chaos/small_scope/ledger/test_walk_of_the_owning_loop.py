"""The real owning loop under every interleaving of two owners and a few faults, on the small instances of the model.

`make walk` walks the larger ones, too; they take minutes.
"""

from __future__ import annotations

import pytest

from kernel.log.envelope import Source
from kernel.log.port import Record
from tests.support.ledger_walk import Budget, Instance, Walk
from tests.support.toy_decider import ObjectCodec, asked

CODEC = ObjectCodec()


def _inputs(*whats: str, sources: tuple[int, ...] = ()) -> tuple[Record, ...]:
    """`"signal B"` is a signal for key B, key A is the default."""
    records = []
    for number, text in enumerate(whats):
        what, _, key = text.partition(" ")
        source = Source("elsewhere", 0, sources[number], 0) if sources else None
        records.append(asked(CODEC, what, key or "A", source=source))
    return tuple(records)


SMALL = _inputs("start", "signal")
LONG = _inputs("start", "signal", "signal")
TOMB = _inputs("start", "end", "start")
GONE = _inputs("start", "end", "forget")
FUZZY = _inputs("start", "start B", "signal B")
FUZZY_GONE = _inputs("start", "start B", "end B", "forget B")
REPEATED = _inputs("start", "signal", "signal", sources=(1, 2, 2))
NOTHING = _inputs("signal", "start", "signal", sources=(1, 2, 1))

INSTANCES = {
    "two owners and a crash": Instance(LONG, Budget(crashes=1)),
    "three owners": Instance(SMALL, Budget(claims=3, crashes=0)),
    "a lost answer": Instance(SMALL, Budget(lost=1, crashes=0)),
    "two lost answers": Instance(SMALL, Budget(lost=2, crashes=0, claims=1)),
    "a late append": Instance(SMALL, Budget(late=1, crashes=1, claims=1)),
    "late derived records": Instance(SMALL, Budget(late_derived=2, crashes=0, claims=1)),
    "batches of two": Instance(LONG, Budget(lost=1, crashes=0), batch_records=2),
    "a checkpoint": Instance(SMALL, Budget(checkpoints=1, crashes=1)),
    "a tombstone": Instance(TOMB, Budget(crashes=0, claims=2)),
    "a snapshot": Instance(SMALL, Budget(snapshots=1, crashes=1, claims=1)),
    "two snapshots": Instance(SMALL, Budget(snapshots=2, crashes=0, claims=1)),
    "a snapshot while another owner claims": Instance(SMALL, Budget(snapshots=1, crashes=0)),
    "a snapshot, a late append": Instance(_inputs("start"), Budget(snapshots=1, late=1, crashes=0, claims=1)),
    "a snapshot and a key that goes": Instance(GONE, Budget(snapshots=1, crashes=0, claims=1)),
    "a fuzzy snapshot": Instance(FUZZY, Budget(snapshots=1, crashes=0, claims=1)),
    "a repeated derived input": Instance(REPEATED, Budget(checkpoints=1, crashes=1, claims=1)),
    "a repeated input that led to nothing": Instance(NOTHING, Budget(checkpoints=1, crashes=1, claims=1)),
}

LARGE = {
    "a late append, two owners": Instance(SMALL, Budget(late=1, crashes=0)),
    "late appends": Instance(SMALL, Budget(late=2, crashes=0, claims=1)),
    "a lost answer, a late append": Instance(SMALL, Budget(lost=1, late=1, crashes=0)),
    "a long snapshot, a late append": Instance(SMALL, Budget(snapshots=1, late=1, crashes=0, claims=1)),
    "a fuzzy snapshot and a crash": Instance(FUZZY, Budget(snapshots=1, crashes=1, claims=1)),
    "three owners, late appends": Instance(SMALL, Budget(claims=3, late=2, crashes=0)),
    "everything": Instance(SMALL, Budget(snapshots=1, checkpoints=1, late=1, late_derived=1, crashes=0)),
    "two snapshots, two owners": Instance(SMALL, Budget(snapshots=2, crashes=0)),
    "three snapshots and a late append": Instance(SMALL, Budget(snapshots=3, late=1, crashes=0, claims=1)),
    "a fuzzy snapshot and a key that goes": Instance(FUZZY_GONE, Budget(snapshots=1, crashes=0)),
    "four inputs": Instance(_inputs("start", "signal", "end", "start"), Budget(late=1, lost=1, crashes=0)),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_no_interleaving_of_small_instances_breaks_a_promise(name: str) -> None:
    Walk(INSTANCES[name], CODEC).run()


@pytest.mark.timeout(3600)
@pytest.mark.large
@pytest.mark.parametrize("name", LARGE)
def test_no_interleaving_of_large_instances_breaks_a_promise(name: str) -> None:
    Walk(LARGE[name], CODEC).run(states_max=5_000_000)
