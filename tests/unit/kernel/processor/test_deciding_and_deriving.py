"""Batches, transitions, the outbox and the carried clock, without a log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.domain.decider import Input
from kernel.log.envelope import Cause
from kernel.log.port import Record
from kernel.processor.deciding import Decided, Deciding, Transition, Trigger, Undecidable, batches
from kernel.processor.deriving import Outbox
from kernel.processor.partition import MonotonicNow
from tests.support.processing import START_MS, HandClock
from tests.support.toy_decider import ASKED, Asked, Did, ObjectCodec, Thing, Things, ToyDecider


def _transition(decisions: int, size: int) -> Transition:
    decided: Any = tuple(object() for _ in range(decisions))
    return Transition(decided, size)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 90)), max_size=40))
def test_batches_keep_transitions_whole_and_in_order_within_the_bounds(shape: list[tuple[int, int]]) -> None:
    transitions = [_transition(count, size) for count, size in shape]
    made = batches(transitions, records_max=5, bytes_max=100)
    flat: list[Decided] = [item for batch in made for item in batch.decided]
    assert flat == [item for transition in transitions for item in transition.decided]
    assert sum(batch.transitions for batch in made) == sum(1 for count, _ in shape if count)
    assert all(len(batch.decided) <= 5 or batch.transitions == 1 for batch in made)


def _deciding() -> Deciding:
    return Deciding(ToyDecider(), 0, ObjectCodec(), lambda: "nonce", claim="claim", partitions=lambda _: 1)


def _trigger(event: Asked) -> Trigger:
    cause = Input(ASKED, "A", event, "organization", "correlation", 0)
    return Trigger(cause, Cause(ASKED, 0, 3), "topic/0/3", "caused by", "trace", "organization", "correlation", "state")


def test_a_decision_inherits_organization_correlation_and_trace_of_its_cause() -> None:
    things = Things()
    [decided] = _deciding().decide(things, _trigger(Asked("start")), 42).decided
    assert decided.decision.organization_id == "organization"
    assert decided.decision.correlation_id == "correlation"
    assert (decided.traceparent, decided.tracestate, decided.time_ms) == ("trace", "state", 42)
    assert things.get("A") == Thing(1, "live")


def test_the_same_cause_makes_the_same_ids() -> None:
    ids = {_deciding().decide(Things(), _trigger(Asked("start")), 42).decided[0].id for _ in range(2)}
    assert len(ids) == 1


def test_a_decider_that_fails_in_the_middle_leaves_the_map_as_it_was() -> None:
    things = Things({"A": Thing(1, "live")})
    broken = ToyDecider()

    def second_fails(key: str, old: Any | None, decision: Any) -> Thing:
        if decision.event.number == 3:
            raise ValueError("second")
        return Thing(decision.event.number, "live")

    broken.evolve = second_fails  # type: ignore[method-assign]  # the one thing that changes
    deciding = Deciding(broken, 0, ObjectCodec(), lambda: "nonce", claim="claim", partitions=lambda _: 1)
    with pytest.raises(Undecidable, match="ValueError"):
        deciding.decide(things, _trigger(Asked("burst", times=2)), 42)
    assert things.get("A") == Thing(1, "live")


def _record(number: int) -> Record:
    return Record("job_runs", 0, "A", (), bytes(number))


def test_an_outbox_gives_its_front_until_it_is_acknowledged() -> None:
    outbox = Outbox()
    outbox.put(4, [_record(1), _record(2)])
    outbox.put(6, [_record(3)])
    assert outbox.front(2, 1000) == [_record(1), _record(2)]
    assert outbox.front(2, 1000) == [_record(1), _record(2)]
    assert outbox.derived_below(9) == 4
    outbox.acknowledge(1)
    assert outbox.derived_below(9) == 4
    outbox.acknowledge(1)
    assert outbox.derived_below(9) == 6
    outbox.acknowledge(1)
    assert outbox.derived_below(9) == 9
    assert not outbox


def test_a_front_is_bounded_by_bytes_and_never_empty() -> None:
    outbox = Outbox([(0, _record(500)), (0, _record(10))])
    assert outbox.front(10, 100) == [_record(500)]


def test_now_goes_on_with_the_boot_clock_and_never_falls() -> None:
    clock = HandClock()
    now = MonotonicNow(clock, START_MS + 500)
    assert (now.now_ms(), now.behind_ms) == (START_MS + 500, 500)
    clock.advance(20)
    clock.wall_ms = 0
    assert now.now_ms() == START_MS + 520
    assert MonotonicNow(clock, 0).behind_ms == 0


def test_did_is_what_the_toy_tells() -> None:
    [fact, nudge] = ToyDecider().derive(_deciding().decide(Things(), _trigger(Asked("start")), 1).decided[0].decision)
    assert fact.event == nudge.event == Did("started", 1)
