from __future__ import annotations

import pytest

from api_gateway import waiting
from api_gateway.projections.change import Fact
from api_gateway.waiting import HELD_MAX, Waiters, Watch
from kernel.log.topics import Topic
from tests.support.eventually import until


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


async def test_who_follows_a_run_that_was_asked_for_here_is_handed_its_facts_from_the_first_one_on() -> None:
    waiters = Waiters()
    with waiters.outcome("q1", "r1") as outcome:
        waiters.told([fact(1), fact(1, "r2")])
    assert not outcome.done()
    waiters.told([fact(2)])
    with waiters.stream("r1") as watch, waiters.stream("r1") as second:
        waiters.told([fact(3)])
        assert numbers(watch, 0) == [1, 2, 3]
        assert numbers(second, 2) == [3]
    assert not waiters.is_anyone
    assert not waiters.awaits_fact("r1", "q1")


async def test_a_run_that_nobody_follows_is_kept_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "KEPT_SECONDS", 0.01)
    waiters = Waiters()
    with waiters.outcome("q1", "r1"), waiters.outcome("q2", "r1"):
        pass
    assert waiters.awaits(Topic.JOB_RUNS, 0)
    assert waiters.awaits_fact("r1", "")
    await until(lambda: not waiters.is_anyone)
    assert not waiters.awaits_fact("r1", "")


async def test_no_more_runs_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "KEPT_MAX", 1)
    waiters = Waiters()
    for run in ("r1", "r2"):
        with waiters.outcome(f"of {run}", run):
            waiters.told([fact(1, run)])
    with waiters.stream("r1") as first, waiters.stream("r2") as second:
        assert (numbers(first, 0), numbers(second, 0)) == ([1], [])
    assert not waiters.is_anyone
