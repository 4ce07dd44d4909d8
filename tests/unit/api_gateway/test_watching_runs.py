from __future__ import annotations

from api_gateway.projections.change import Fact
from api_gateway.waiting import HELD_MAX, Waiters, Watch


def fact(sequence: int, key: str = "r1") -> Fact:
    return Fact(key, sequence, "workflow_run.started", 0, None, b"")


def numbers(watch: Watch, after: int) -> list[int]:
    return [found.sequence for found in watch.behind(after)]


async def test_who_follows_a_run_is_handed_its_facts_once_and_those_of_no_other() -> None:
    waiters = Waiters()
    with waiters.stream("r1") as watch:
        waiters.told([fact(1), fact(1, "r2"), fact(2)])
        assert watch.is_set()
        assert numbers(watch, 0) == [1, 2]
        assert numbers(watch, 2) == []


async def test_facts_that_were_read_already_or_are_told_twice_are_passed_over() -> None:
    watch = Watch()
    for sequence in (1, 2, 2, 3, 2, 4):
        watch.told(fact(sequence))
    assert numbers(watch, 1) == [2, 3, 4]


async def test_nothing_is_handed_over_from_a_gap_on() -> None:
    watch = Watch()
    for sequence in (2, 3, 5):
        watch.told(fact(sequence))
    assert numbers(watch, 1) == [2, 3]
    watch.told(fact(7))
    assert numbers(watch, 5) == []


async def test_a_watch_that_is_not_looked_at_forgets_and_shows_the_gap() -> None:
    watch = Watch()
    for sequence in range(1, HELD_MAX + 3):
        watch.told(fact(sequence))
    assert numbers(watch, 0) == []
    assert watch.is_set()
