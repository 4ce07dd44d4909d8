"""The claim rule and the fold of a ledger, on ledgers written by hand."""

from __future__ import annotations

import pytest

from kernel.errors import LogRefused
from kernel.log.envelope import Source
from kernel.processor.ledger import is_effective, is_new
from kernel.processor.values import GONE, StateValues
from kernel.tracing.context import TraceHeaders
from tests.support.hand_ledgers import (
    HandLedger,
    check_that_a_late_checkpoint_is_not_trusted,
    check_that_a_late_completion_is_not_trusted,
    check_that_the_newest_chunk_of_a_key_is_taken,
)
from tests.support.toy_decider import ASKED, Thing


def test_a_record_is_effective_only_under_the_last_claim_before_it() -> None:
    assert is_effective("mine", "mine")
    assert not is_effective("mine", "yours")
    assert not is_effective("", None)


def test_a_derived_record_is_new_above_the_offset_and_index_of_its_mark() -> None:
    assert is_new(Source("ledger", 0, 3, 0), None)
    assert is_new(Source("ledger", 0, 3, 1), (3, 0))
    assert not is_new(Source("ledger", 0, 3, 1), (3, 1))
    assert not is_new(Source("ledger", 0, 2, 9), (3, 0))


def test_a_late_checkpoint_is_not_trusted() -> None:
    check_that_a_late_checkpoint_is_not_trusted()


def test_a_late_completion_is_not_trusted() -> None:
    check_that_a_late_completion_is_not_trusted()


def test_the_newest_chunk_of_a_key_is_taken() -> None:
    check_that_the_newest_chunk_of_a_key_is_taken()


def test_an_empty_ledger_is_an_empty_partition() -> None:
    ledger = HandLedger()
    ledger.claim("first")
    restored = ledger.restored()
    assert (restored.values, restored.positions, restored.underived) == ({}, {}, ())
    assert restored.records == 1


def test_a_key_that_went_before_the_last_snapshot_is_not_revived_by_an_older_chunk() -> None:
    ledger = HandLedger()
    first = ledger.claim("one")
    ledger.chunk("one", 0, Thing(1, "ended"))
    ledger.completed("one", first, position=1)
    ledger.did("one", "forgot", 2, cause=1)
    second = ledger.claim("two")
    ledger.completed("two", second, position=2)
    assert ledger.restored().values == {}


def test_a_key_that_went_while_the_snapshot_was_made_is_not_folded_from_nothing() -> None:
    ledger = HandLedger(base=50)
    start = ledger.claim("two")
    ledger.did("two", "signalled", 7, cause=6)
    last = ledger.did("two", "forgot", 8, cause=7)
    ledger.chunk("two", last, None)
    ledger.completed("two", start, position=6)
    restored = ledger.restored()
    assert restored.values == {}
    assert restored.positions == {ASKED: 8}


def test_deriving_goes_on_where_the_checkpoint_says() -> None:
    ledger = HandLedger()
    ledger.claim("one")
    ledger.did("one", "started", 1, cause=0)
    second = ledger.did("one", "signalled", 2, cause=1)
    ledger.checkpoint("one", position=2, derived_below=second)
    third = ledger.did("one", "signalled", 3, cause=4)
    restored = ledger.restored()
    assert [effective.offset for effective in restored.underived] == [second, third]
    assert restored.positions == {ASKED: 5}
    assert restored.carried.positions == {ASKED: 2}


def test_what_is_derived_after_a_restore_names_the_span_that_asked_for_it() -> None:
    ledger = HandLedger()
    ledger.claim("one")
    ledger.did("one", "started", 1, trace=TraceHeaders("parent", "state"))
    (effective,) = ledger.restored().underived
    assert (effective.traceparent, effective.tracestate) == ("parent", "state")


def test_now_is_the_latest_time_of_an_effective_decision() -> None:
    ledger = HandLedger()
    ledger.claim("one")
    ledger.did("one", "started", 1, time_ms=70)
    ledger.claim("two")
    ledger.did("one", "signalled", 2, time_ms=900)
    assert ledger.restored().now_ms == 70


def test_reading_from_a_record_that_begins_no_snapshot_leads_to_nothing() -> None:
    ledger = HandLedger()
    ledger.claim("one")
    middle = ledger.did("one", "started", 1)
    assert ledger.restore(middle) is None


def test_positions_of_two_topics_of_one_name_are_refused() -> None:
    ledger = HandLedger()
    ledger.claim("one")
    ledger.checkpoint("one", position=1)
    ledger.checkpoint("one", position=2, topic_id="recreated")
    with pytest.raises(LogRefused):
        ledger.restore()


def test_state_values_come_back_as_they_were() -> None:
    values = StateValues((Thing,))
    kind, data, shape = values.write(Thing(3, "live", 9))
    assert (kind, shape) == ("Thing", 0)
    assert values.read(kind, data, shape) == Thing(3, "live", 9)
    assert values.write(None) == (GONE, b"", 0)
    assert values.read(GONE, b"", 0) is None


@pytest.mark.parametrize(("kind", "data"), [("Other", b"\x80"), ("Thing", b"\xff\xff"), ("Thing", b"\x80")])
def test_values_that_do_not_read_are_refused(kind: str, data: bytes) -> None:
    with pytest.raises(LogRefused):
        StateValues((Thing,)).read(kind, data, 0)


def test_a_value_of_a_class_that_is_not_listed_is_refused() -> None:
    with pytest.raises(LogRefused):
        StateValues(()).write(Thing(1, "live"))
