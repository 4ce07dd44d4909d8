"""Back-pressure before the log: the limit of appends in flight falls while the log is slow, and recovers by itself."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.commit_limits import GROWTH_PER_MS, LEAST, MOST, TARGET_MS, CommitLimit
from api_gateway.committing import TICK_MS, Commits, OwnTime
from kernel.errors import LogRefused, LogUnavailable, Rejected, TowpathError, UnknownOutcome
from kernel.log.topics import Topic
from kernel.metrics import Metrics
from tests.support.processing import HandClock

QUICK_MS, SLOW_MS = 5.0, TARGET_MS + 200
FULL_GROWTH_MS = (MOST - LEAST) / GROWTH_PER_MS


def enter_all(limit: CommitLimit, now_ms: float) -> int:
    """As many as may."""
    entered = 0
    while limit.enter(now_ms):
        entered += 1
    return entered


def slow_rounds(limit: CommitLimit, rounds: int, now_ms: float = 0.0) -> float:
    """So many appends, one after another, each acknowledged late; the time behind them."""
    for _ in range(rounds):
        assert limit.enter(now_ms)
        limit.acknowledged(now_ms, now_ms := now_ms + SLOW_MS)
    return now_ms


def test_a_thousand_callers_of_a_healthy_log_never_meet_the_limit() -> None:
    limit = CommitLimit()
    for now_ms in range(0, 10_000, 100):
        assert all(limit.enter(now_ms) for _ in range(1000))
        for _ in range(1000):
            limit.acknowledged(now_ms, now_ms + 95)
    assert limit.most == MOST
    assert limit.in_flight == 0


def test_what_was_under_way_together_and_comes_late_halves_the_limit_once() -> None:
    limit = CommitLimit()
    assert all(limit.enter(0.0) for _ in range(500))
    for number in range(500):
        limit.acknowledged(0.0, SLOW_MS + number)
    assert limit.most == MOST / 2


def test_a_log_that_stays_slow_is_asked_by_few_and_never_by_none() -> None:
    limit = CommitLimit()
    now_ms = slow_rounds(limit, 20)
    assert limit.most == LEAST
    assert enter_all(limit, now_ms) == LEAST


@pytest.mark.parametrize("after_ms", [QUICK_MS, SLOW_MS])
def test_an_append_that_fails_halves_the_limit_however_soon(after_ms: float) -> None:
    limit = CommitLimit()
    assert limit.enter(0.0)
    limit.failed(0.0, after_ms)
    assert limit.most == MOST / 2


def test_who_gives_up_says_something_of_the_log_only_after_a_while() -> None:
    limit = CommitLimit()
    assert limit.enter(0.0)
    limit.given_up(0.0, QUICK_MS)
    assert limit.most == MOST
    assert limit.enter(QUICK_MS)
    limit.given_up(QUICK_MS, QUICK_MS + SLOW_MS)
    assert limit.most == MOST / 2
    assert limit.in_flight == 0


def test_a_log_that_says_nothing_is_noticed_before_anything_is_acknowledged() -> None:
    limit = CommitLimit()
    entered = [limit.enter(float(now_ms)) for now_ms in range(0, 12_000, 20)]
    assert limit.most == LEAST
    assert not entered[-1]
    assert limit.in_flight == sum(entered) < 350


def test_silence_while_nobody_asks_is_no_fault_of_the_log() -> None:
    limit = CommitLimit()
    assert limit.enter(0.0)
    limit.acknowledged(0.0, QUICK_MS)
    assert limit.enter(60_000.0)
    assert limit.enter(60_000.0 + QUICK_MS)
    assert limit.most == MOST


def test_the_limit_comes_back_by_itself_while_acknowledgements_are_quick() -> None:
    limit = CommitLimit()
    now_ms = began_ms = slow_rounds(limit, 20)
    grown = [limit.most]
    while limit.most < MOST:
        assert limit.enter(now_ms)
        limit.acknowledged(now_ms, now_ms := now_ms + QUICK_MS)
        grown.append(limit.most)
    assert grown == sorted(grown)
    assert now_ms - began_ms == pytest.approx(FULL_GROWTH_MS, abs=2 * QUICK_MS)


MOVES = st.sampled_from(["enter", "many", "acknowledged", "failed", "given_up"])


@given(st.lists(st.tuples(MOVES, st.floats(0, 3000), st.integers(0, 10_000)), max_size=200))
def test_nobody_enters_above_the_limit_and_everybody_who_left_is_forgotten(
    moves: list[tuple[str, float, int]],
) -> None:
    limit, now_ms, inside = CommitLimit(), 0.0, list[float]()
    for move, pause_ms, which in moves:
        now_ms += pause_ms
        if move in {"enter", "many"}:
            for _ in range(300 if move == "many" else 1):
                before = limit.in_flight
                if limit.enter(now_ms):
                    inside.append(now_ms)
                    assert limit.in_flight <= limit.most
                else:
                    assert limit.in_flight == before > limit.most - 1
        elif inside:
            getattr(limit, move)(inside.pop(which % len(inside)), now_ms)
        assert limit.in_flight == len(inside) <= MOST
        assert LEAST <= limit.most <= MOST


# ---------------------------------------------------------------- the shell around it


def refuse(error: BaseException) -> NoReturn:
    raise error


async def test_beyond_the_limit_nothing_is_appended_and_the_refusal_is_counted() -> None:
    metrics = Metrics()
    commits, clock = Commits(metrics), HandClock()
    commits.limit(Topic.RUN_REQUESTS, 1).most = 1.0
    with commits.append(clock, Topic.RUN_REQUESTS, 1):
        with pytest.raises(Rejected, match="rate_limited"), commits.append(clock, Topic.RUN_REQUESTS, 1):
            pytest.fail("it was let in")
        with commits.append(clock, Topic.RUN_REQUESTS, 2):
            """Another partition has a limit of its own."""
    with commits.append(clock, Topic.RUN_REQUESTS, 1):
        """There is room again."""
    assert b'appends_refused_total{topic="run_requests"} 1.0' in metrics.text()


@pytest.mark.parametrize(
    ("error", "share"),
    [
        (LogUnavailable("away"), 0.5),
        (UnknownOutcome("who knows"), 0.5),
        (LogRefused("disk full"), 1.0),
        (ValueError("too long"), 1.0),
    ],
)
async def test_only_what_tells_of_the_logs_speed_moves_the_limit(
    error: TowpathError | ValueError, share: float
) -> None:
    commits, clock = Commits(), HandClock()
    with pytest.raises(type(error)), commits.append(clock, Topic.RUN_REQUESTS, 0):
        refuse(error)
    limit = commits.limit(Topic.RUN_REQUESTS, 0)
    assert (limit.most, limit.in_flight) == (MOST * share, 0)


async def test_time_stands_still_while_the_loop_is_behind_and_goes_on_while_it_waits() -> None:
    time, clock = OwnTime(), HandClock()
    began_ms = time.look(clock)
    clock.advance(10_000)
    assert time.now_ms(clock) - began_ms == TICK_MS, "the loop has not come round since"
    await asyncio.sleep(2 * TICK_MS / 1000)
    assert time.look_away(clock) - began_ms == TICK_MS
    await asyncio.sleep(2 * TICK_MS / 1000)
    clock.advance(10_000)
    assert time.now_ms(clock) - began_ms == TICK_MS + 10_000, "nobody looked, so nothing was late"


async def test_an_acknowledgement_that_only_the_loop_is_late_with_does_not_lower_the_limit() -> None:
    commits, clock = Commits(), HandClock()
    with commits.append(clock, Topic.RUN_REQUESTS, 0):
        clock.advance(10_000)
    assert commits.limit(Topic.RUN_REQUESTS, 0).most == MOST
