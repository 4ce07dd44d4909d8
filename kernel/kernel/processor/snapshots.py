"""A snapshot in the making: which keys are still to be written, and their chunks. Pure (design 4.6).

A chunk holds its key as it stands when the chunk is appended, and says up to which ledger offset that is. A key that
has gone since the snapshot began gets a chunk, too, so that no decision is ever folded onto a value that was not there.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.domain.decider import State
from kernel.domain.owner import OwnerSnapshotChunked
from kernel.processor.values import StateValues


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One that began at the claim at ledger offset `start`; keys from `done` on are to be written."""

    start: int
    keys: tuple[str, ...]
    done: int = 0

    @property
    def is_written(self) -> bool:
        return self.done >= len(self.keys)

    def after(self, chunks: int) -> Snapshot:
        """The same with that many more chunks read back."""
        return Snapshot(self.start, self.keys, self.done + chunks)


def begin(start: int, state: State) -> Snapshot:
    return Snapshot(start, tuple(key for key, _ in state.items()))


def next_chunks(
    snapshot: Snapshot, state: State, values: StateValues, *, reflects: int, records_max: int, bytes_max: int
) -> list[OwnerSnapshotChunked]:
    """The next chunks within the bounds, at least one. `reflects`: the ledger offset up to which `state` is folded."""
    chunks: list[OwnerSnapshotChunked] = []
    size = 0
    for key in snapshot.keys[snapshot.done : snapshot.done + records_max]:
        kind, value, shape = values.write(state.get(key))
        size += len(value) + 2 * len(key) + 400
        if chunks and size > bytes_max:
            break
        chunks.append(OwnerSnapshotChunked(key, reflects, kind, value, shape))
    return chunks


def may_complete(start: int, derived_below: int) -> bool:
    """Whether everything before `start` is derived and acknowledged, as the end of a snapshot promises."""
    return derived_below >= start
