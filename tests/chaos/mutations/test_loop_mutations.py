"""Each rule of the owning loop switched off once: the net (crash points or small-scope walk) must tear.

A mutation that nothing notices is either a rule that is not needed or a hole in the net; both would be worth knowing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from kernel.domain.owner import OwnerSnapshotChunked, OwnerSnapshotCompleted
from kernel.log.envelope import Message, Source
from kernel.log.port import Record
from kernel.processor import Owner, deriving, ledger, owner, partition, snapshots
from kernel.processor.appending import Kind
from kernel.processor.ledger import LedgerFold, Mark
from kernel.processor.values import GONE
from tests.support.benches import LOGS, benches_over
from tests.support.components import needs_kafka
from tests.support.crash_points import every_crash_point
from tests.support.hand_ledgers import (
    check_that_a_late_checkpoint_is_not_trusted,
    check_that_a_late_completion_is_not_trusted,
    check_that_the_newest_chunk_of_a_key_is_taken,
)
from tests.support.ledger_walk import Budget, Instance, Violation, Walk
from tests.support.toy_decider import ObjectCodec, asked

CODEC = ObjectCodec()
Patch = Callable[[pytest.MonkeyPatch], None]


def _inputs(*whats: str) -> tuple[Record, ...]:
    return tuple(asked(CODEC, *text.split()) for text in whats)


SMALL = _inputs("start", "signal")
TWO_OWNERS = Instance(SMALL, Budget(crashes=0))
THREE_OWNERS = Instance(_inputs("start", "signal", "signal"), Budget(claims=3, crashes=0))
LATE = Instance(SMALL, Budget(late=1, crashes=0, claims=1))
CHECKPOINT = Instance(SMALL, Budget(checkpoints=1, crashes=1, claims=1))
SNAPSHOT = Instance(SMALL, Budget(snapshots=1, crashes=1, claims=1))
TWO_SNAPSHOTS = Instance(SMALL, Budget(snapshots=2, crashes=1, claims=1))
SNAPSHOT_OF_A_KEY_THAT_GOES = Instance(_inputs("start", "end", "forget"), Budget(snapshots=1, crashes=1, claims=1))
SNAPSHOT_OF_TWO = Instance(SMALL, Budget(snapshots=1, crashes=0))


# the rules, switched off


def act_before_reading_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "_is_superseded", lambda *_: False)


def restore_ignores_claims(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "is_effective", lambda *_: True)


def position_from_ineffective_records(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "moves_positions", lambda _: True)


def ineffective_checkpoint_trusted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "carries_progress", lambda _: True)


def older_chunk_preferred(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "replaces", lambda new, old: new < old)


def decisions_below_the_chunk_folded_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "is_above_chunk", lambda *_: True)


def unknown_outcome_repeated_without_a_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "_after_unknown_outcome", lambda _: None)


def derived_order_broken(patch: pytest.MonkeyPatch) -> None:
    def backwards(records: list[Record]) -> list[Record]:
        return records[::-1]

    patch.setattr(deriving, "in_ledger_order", backwards)


def derived_in_flight_not_sent_again(patch: pytest.MonkeyPatch) -> None:
    derive_next = Owner.derive_next

    async def forget_what_was_sent(self: Owner) -> owner.Action:
        waiting = len(self._outbox)
        action = await derive_next(self)
        if len(self._outbox) == waiting:
            self._outbox.acknowledge(waiting)
        return action

    patch.setattr(Owner, "derive_next", forget_what_was_sent)


def index_ignored_in_watermark(patch: pytest.MonkeyPatch) -> None:
    def on_the_offset(source: Source, mark: Mark | None) -> bool:
        return mark is None or source.offset > mark[0]

    patch.setattr(partition, "is_new", on_the_offset)


def repeated_derived_input_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(partition, "is_new", lambda *_: True)


def checkpoint_too_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "_derived_below", lambda self: self._tail)


def snapshot_completed_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshots, "may_complete", lambda *_: True)


def snapshot_without_a_claim(patch: pytest.MonkeyPatch) -> None:
    async def begin(self: Owner) -> None:
        self._snapshot = snapshots.begin(self._tail, self.partition.state)

    patch.setattr(Owner, "_begin_snapshot", begin)


def snapshot_claim_after_a_foreign_one_not_restored(patch: pytest.MonkeyPatch) -> None:
    superseded = Owner._is_superseded

    def blind(self: Owner, foreign: Sequence[Message]) -> bool:
        assert self._sent is not None
        return self._sent.kind is not Kind.SNAPSHOT_CLAIM and superseded(self, foreign)

    patch.setattr(Owner, "_is_superseded", blind)


def snapshot_carries_no_positions(patch: pytest.MonkeyPatch) -> None:
    add = LedgerFold.add

    def without(self: LedgerFold, message: Message) -> None:
        event = message.event
        if isinstance(event, OwnerSnapshotCompleted):
            message = structs.replace(message, event=replace(event, positions=()))
            self._positions.clear()
        add(self, message)

    patch.setattr(LedgerFold, "add", without)


def gone_keys_left_out_of_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    add_chunk = LedgerFold._add_chunk

    def living_keys_only(self: LedgerFold, at: int, event: OwnerSnapshotChunked) -> None:
        if event.kind != GONE:
            add_chunk(self, at, event)

    patch.setattr(LedgerFold, "_add_chunk", living_keys_only)


WALKED: list[tuple[Patch, Instance]] = [
    (act_before_reading_back, TWO_OWNERS),
    (restore_ignores_claims, THREE_OWNERS),
    (position_from_ineffective_records, THREE_OWNERS),
    (decisions_below_the_chunk_folded_again, SNAPSHOT),
    (unknown_outcome_repeated_without_a_claim, LATE),
    (derived_order_broken, Instance(SMALL, Budget(crashes=0, claims=1), batch_records=2)),
    (derived_in_flight_not_sent_again, Instance(SMALL, Budget(late_derived=1, crashes=0, claims=1))),
    (checkpoint_too_early, CHECKPOINT),
    (snapshot_completed_early, SNAPSHOT),
    (snapshot_without_a_claim, TWO_SNAPSHOTS),
    (snapshot_claim_after_a_foreign_one_not_restored, SNAPSHOT_OF_TWO),
    (snapshot_carries_no_positions, SNAPSHOT),
    (gone_keys_left_out_of_the_snapshot, SNAPSHOT_OF_A_KEY_THAT_GOES),
]


@pytest.mark.parametrize(("mutate", "instance"), WALKED, ids=[mutate.__name__ for mutate, _ in WALKED])
def test_the_walk_notices_a_rule_that_is_switched_off(
    mutate: Patch, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Violation):
        Walk(instance, CODEC).run()


STEPPED: list[Patch] = [
    act_before_reading_back,
    restore_ignores_claims,
    unknown_outcome_repeated_without_a_claim,
    derived_order_broken,
    index_ignored_in_watermark,
    repeated_derived_input_accepted,
    snapshot_carries_no_positions,
]


@pytest.mark.parametrize("log", [pytest.param("kafka", marks=needs_kafka), "sqlite"])
@pytest.mark.parametrize("mutate", STEPPED, ids=[mutate.__name__ for mutate in STEPPED])
async def test_the_crash_points_notice_a_rule_that_is_switched_off(
    mutate: Patch, log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LOGS[log](tmp_path) as open_log:
        mutate(monkeypatch)
        with pytest.raises(AssertionError):
            await every_crash_point(benches_over(open_log))


HAND_WRITTEN: list[tuple[Patch, Callable[[], None]]] = [
    (ineffective_checkpoint_trusted, check_that_a_late_checkpoint_is_not_trusted),
    (ineffective_checkpoint_trusted, check_that_a_late_completion_is_not_trusted),
    (older_chunk_preferred, check_that_the_newest_chunk_of_a_key_is_taken),
]


@pytest.mark.parametrize(("mutate", "check"), HAND_WRITTEN)
def test_ledgers_written_by_hand_notice_what_the_loop_never_writes_or_a_hint_hides(
    mutate: Patch, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check()
