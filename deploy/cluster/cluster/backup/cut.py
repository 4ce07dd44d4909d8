"""One cut through all partitions of the log, while they grow: no effect without its cause, nothing half.

The ends of all partitions are read twice, first `begin`, then `end`; the second time those of ledgers before all the
others, so that what a ledger says to be done is seen. What all of them held at any instant in between is a cut in which
every effect has its cause. The greatest such cut at or below `end` is found here, so it lies behind that instant:
nothing that was in the log by then is left out. Only records between `begin` and `end` can break a rule, and a broken
rule cuts the partition before the record that breaks it, until none is broken:

    cause        a decision stays if the input that it answers does
    whole        the decisions of one input, or of one due time, stay together
    source       a derived record stays if the decision that it was derived from does
    checkpoint   what it says was decided and derived is there
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Partition = tuple[str, int]
"""Topic and number."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What the rules ask of one record between `begin` and `end`."""

    offset: int
    needs: Mapping[Partition, int] = field(default_factory=dict)
    """Partitions that must reach at least so far: causes, positions, the source."""
    derived_below: tuple[Partition, int] | None = None
    """Everything derived from this ledger partition below that offset was acknowledged when this was written."""
    source: tuple[Partition, int] | None = None
    """The decision that it was derived from."""
    joins_last: bool = False
    """It stays only together with the record before it."""


@dataclass(frozen=True, slots=True)
class Window:
    """One partition between the two readings."""

    begin: int
    end: int
    tails: Sequence[Tail]


def greatest_cut(windows: Mapping[Partition, Window]) -> dict[Partition, int]:
    """The end of each partition in the greatest cut that keeps the rules, at or above its `begin`."""
    cut = {where: window.end for where, window in windows.items()}
    derived = _derived(windows)
    shortened = True
    while shortened:
        shortened = any(_shorten(where, window, cut, derived) for where, window in windows.items())
    return cut


def _derived(windows: Mapping[Partition, Window]) -> dict[Partition, list[tuple[int, Partition, int]]]:
    """By ledger partition: offset of a decision, and where a record derived from it stands."""
    found: dict[Partition, list[tuple[int, Partition, int]]] = {}
    for where, window in windows.items():
        for tail in window.tails:
            if tail.source is not None:
                found.setdefault(tail.source[0], []).append((tail.source[1], where, tail.offset))
    return found


def _shorten(
    where: Partition,
    window: Window,
    cut: dict[Partition, int],
    derived: Mapping[Partition, Iterable[tuple[int, Partition, int]]],
) -> bool:
    """Cut one partition before the first record that breaks a rule; whether there was one."""
    for at, tail in enumerate(window.tails):
        if tail.offset >= cut[where]:
            return False
        if not _keeps(tail, cut, derived):
            cut[where] = _whole_before(window, at)
            return True
    return False


def _keeps(
    tail: Tail, cut: Mapping[Partition, int], derived: Mapping[Partition, Iterable[tuple[int, Partition, int]]]
) -> bool:
    if any(cut[needed] < least for needed, least in tail.needs.items() if needed in cut):
        return False
    if tail.derived_below is None:
        return True
    ledger, below = tail.derived_below
    return not any(decision < below and offset >= cut[where] for decision, where, offset in derived.get(ledger, ()))


def _whole_before(window: Window, at: int) -> int:
    """The end of the partition before the record at `at`, and before all that belong together with it."""
    while at > 0 and window.tails[at].joins_last:
        at -= 1
    return window.tails[at].offset
