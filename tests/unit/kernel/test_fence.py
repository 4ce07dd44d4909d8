"""The fence opens by reading alone, and shuts by time, lapse, settling or a newer attempt (design 6.5, 6.6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.domain.task import TaskAssigned, TaskLeaseLapsed, TaskSettled
from kernel.domain.values import Token
from kernel.errors import LogUnavailable, TokenNotSeen
from kernel.fence import ARRIVES_MS, Fence
from kernel.log.codec import decode
from kernel.log.topics import partition_of
from tests.support.doubles.reports_log import ReportsLog
from tests.support.eventually import idle, until
from tests.support.reports import FIRST, ROOT, RUN, SECOND, TestClock, assigned, lapsed, settled, started


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
async def log(clock: TestClock) -> ReportsLog:
    return ReportsLog(clock)


@pytest.fixture
async def fence(log: ReportsLog, clock: TestClock) -> AsyncIterator[Fence]:
    fence = Fence(log, decode, clock)
    yield fence
    log.release()
    await fence.close()


async def test_an_assigned_token_is_open_for_two_seconds_after_the_sending(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    log.put(assigned(FIRST))
    assert not fence.is_open(ROOT, RUN, FIRST)
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    clock.ms += 1999
    assert fence.is_open(ROOT, RUN, FIRST)
    clock.ms += 1
    assert not fence.is_open(ROOT, RUN, FIRST)


async def test_what_ends_in_the_marks_of_foreign_transactions_is_read_to_its_end(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    log.marks = 2
    assert await fence.ensure_open(ROOT, RUN, FIRST)


async def test_the_end_that_nobody_confirms_opens_nothing(fence: Fence, log: ReportsLog, clock: TestClock) -> None:
    log.put(assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    log.is_cut_off = True
    clock.ms += 1999
    assert await fence.ensure_open(ROOT, RUN, FIRST), "what was confirmed before still holds"
    clock.ms += 1
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    log.is_cut_off = False
    assert await fence.ensure_open(ROOT, RUN, FIRST)


async def test_the_window_is_counted_from_the_sending_and_not_from_the_answer(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    log.put(assigned(FIRST))
    log.hold()
    asking = asyncio.create_task(fence.ensure_open(ROOT, RUN, FIRST))
    await idle()
    clock.ms += 1500
    log.release()
    assert await asking
    clock.ms += 500
    assert not fence.is_open(ROOT, RUN, FIRST)


async def test_a_read_that_took_longer_than_the_window_opens_nothing(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    log.put(assigned(FIRST))
    log.hold()
    asking = asyncio.create_task(fence.ensure_open(ROOT, RUN, FIRST))
    await until(lambda: len(log.asked_ends) >= 1)
    clock.ms += 2000
    log.put(lapsed(FIRST))
    log.release()
    assert not await asking


async def test_a_paused_machine_that_wakes_up_late_reaches_nothing(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    log.put(assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    log.put(lapsed(FIRST))
    log.put(assigned(SECOND))
    clock.ms += 60_000
    assert not fence.is_open(ROOT, RUN, FIRST)
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    assert await fence.ensure_open(ROOT, RUN, SECOND)


@pytest.mark.parametrize("end", [lapsed(FIRST), settled(FIRST), assigned(SECOND)])
async def test_a_lapse_a_settling_and_a_newer_attempt_shut_as_soon_as_they_are_read(
    fence: Fence, log: ReportsLog, clock: TestClock, end: TaskLeaseLapsed | TaskSettled | TaskAssigned
) -> None:
    log.put(assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    log.put(end)
    clock.ms += 1000
    assert await fence.ensure_open(ROOT, RUN, FIRST), "half a window is left: it reads ahead"
    await until(lambda: not fence.is_open(ROOT, RUN, FIRST))
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    questions = len(log.asked_ends)
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    assert len(log.asked_ends) == questions, "what is over is never asked about again"


async def test_a_token_that_lapsed_never_opens_again_when_its_assignment_is_repeated(
    fence: Fence, log: ReportsLog
) -> None:
    log.put(assigned(FIRST))
    log.put(lapsed(FIRST))
    log.put(assigned(FIRST))
    assert not await fence.ensure_open(ROOT, RUN, FIRST)


async def test_a_token_that_was_settled_before_its_assignment_never_opens(fence: Fence, log: ReportsLog) -> None:
    log.put(settled(FIRST))
    log.put(assigned(FIRST))
    assert not await fence.ensure_open(ROOT, RUN, FIRST)


async def test_the_token_of_an_older_attempt_never_opens(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(SECOND))
    log.put(assigned(FIRST))
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    assert await fence.ensure_open(ROOT, RUN, SECOND)


async def test_a_guessed_nonce_or_a_foreign_workflow_run_opens_nothing(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    assert not await fence.ensure_open(ROOT, RUN, Token(1, "c" * 32))
    assert not await fence.ensure_open(ROOT, "run-2", FIRST)
    assert not await fence.ensure_open("root-2", RUN, FIRST)


async def test_reports_of_a_runner_open_nothing(fence: Fence, log: ReportsLog) -> None:
    log.put(started(FIRST))
    assert not await fence.ensure_open(ROOT, RUN, FIRST)


async def test_workflow_runs_of_one_root_run_do_not_shut_each_other(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    log.put(assigned(SECOND, run="run-2"))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    assert await fence.ensure_open(ROOT, "run-2", SECOND)


async def test_a_log_that_does_not_answer_opens_nothing(fence: Fence, log: ReportsLog, clock: TestClock) -> None:
    log.put(assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    log.is_down = True
    clock.ms += 1500
    assert await fence.ensure_open(ROOT, RUN, FIRST), "the window is still open"
    await idle()
    clock.ms += 500
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    log.is_down = False
    assert await fence.ensure_open(ROOT, RUN, FIRST)


async def test_many_who_ask_at_once_share_one_read(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    assert all(await asyncio.gather(*(fence.ensure_open(ROOT, RUN, FIRST) for _ in range(50))))
    assert len(log.asked_ends) == 1


async def test_an_open_window_costs_no_read_and_nobody_asking_costs_none_either(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    log.put(assigned(FIRST))
    fence.watch(ROOT, FIRST)
    await idle()
    assert log.asked_ends == []
    for _ in range(10):
        assert await fence.ensure_open(ROOT, RUN, FIRST)
        clock.ms += 99
    await idle()
    assert len(log.asked_ends) == 1


async def test_one_waiter_that_gives_up_does_not_end_the_read_of_the_others(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    log.hold()
    one, other = (asyncio.create_task(fence.ensure_open(ROOT, RUN, FIRST)) for _ in range(2))
    await until(lambda: log.asked_ends)
    one.cancel()
    log.release()
    assert await other
    assert len(log.asked_ends) == 1


async def test_a_run_that_joins_during_a_read_waits_for_its_own(fence: Fence, log: ReportsLog) -> None:
    neighbour = next(f"root-{n}" for n in range(2, 99) if partition_of(f"root-{n}", 4) == partition_of(ROOT, 4))
    log.put(assigned(FIRST))
    log.put(assigned(SECOND, root=neighbour), neighbour)
    log.hold()
    one = asyncio.create_task(fence.ensure_open(ROOT, RUN, FIRST))
    await until(lambda: log.asked_ends)
    other = asyncio.create_task(fence.ensure_open(neighbour, RUN, SECOND))
    await idle()
    log.release()
    assert await one
    assert await other


async def test_reading_starts_where_the_task_was_requested(fence: Fence, log: ReportsLog, clock: TestClock) -> None:
    for number in range(2000):
        log.put(started(Token(1, f"{number:032x}")))
        clock.ms += 1000
    requested_ms = clock.now_ms()
    log.put(settled(FIRST))
    clock.ms += 600_000
    log.put(assigned(FIRST))
    log.put(assigned(SECOND))
    fence.watch(ROOT, SECOND, since_ms=requested_ms)
    assert await fence.ensure_open(ROOT, RUN, SECOND)
    assert log.read_records < 200
    assert not await fence.ensure_open(ROOT, RUN, FIRST)


async def test_a_token_that_began_earlier_makes_the_fence_read_from_there(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    early_ms = clock.now_ms()
    log.put(assigned(FIRST, run="run-2"))
    log.put(settled(FIRST))
    clock.ms += 600_000
    log.put(assigned(SECOND))
    fence.watch(ROOT, SECOND, since_ms=clock.now_ms())
    assert await fence.ensure_open(ROOT, RUN, SECOND)
    fence.watch(ROOT, FIRST, since_ms=early_ms)
    assert not fence.is_open(ROOT, RUN, SECOND), "it has to be read anew"
    assert not await fence.ensure_open(ROOT, "run-2", FIRST)
    assert await fence.ensure_open(ROOT, RUN, SECOND)


async def test_an_exact_offset_is_where_reading_starts(fence: Fence, log: ReportsLog) -> None:
    for _ in range(50):
        log.put(started(FIRST))
    offset = log.put(assigned(FIRST))
    fence.watch(ROOT, FIRST, from_offset=offset)
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    assert log.read_records == 1


async def test_a_partition_whose_records_were_all_deleted_is_read_to_its_end(fence: Fence, log: ReportsLog) -> None:
    log.put(started(FIRST))
    await log.delete_before("task_reports", partition_of(ROOT, 4), 1)
    assert not await fence.ensure_open(ROOT, RUN, FIRST)
    log.put(assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)


async def test_a_forgotten_run_is_kept_until_its_last_watcher_is_gone(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    fence.watch(ROOT, FIRST)
    fence.watch(ROOT, FIRST)
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    fence.forget(ROOT, FIRST)
    assert fence.is_open(ROOT, RUN, FIRST)
    fence.forget(ROOT, FIRST)
    assert not fence.is_open(ROOT, RUN, FIRST)
    fence.forget(ROOT, FIRST)


async def test_runs_that_were_only_asked_about_do_not_stay(fence: Fence, log: ReportsLog, clock: TestClock) -> None:
    for number in range(100):
        log.put(assigned(FIRST), f"root-{number}")
        assert await fence.is_current(f"root-{number}", FIRST)
        clock.ms += 10_000
    assert len(fence._runs) <= 8


async def test_the_vault_asks_without_a_workflow_run(fence: Fence, log: ReportsLog, clock: TestClock) -> None:
    log.put(assigned(FIRST))
    assert await fence.is_current(ROOT, FIRST)
    log.put(assigned(SECOND))
    clock.ms += 2000
    assert not await fence.is_current(ROOT, FIRST)
    assert await fence.is_current(ROOT, SECOND)


async def test_the_vault_waits_for_an_assignment_that_a_runner_has_heard_of_first(
    fence: Fence, log: ReportsLog
) -> None:
    log.put(assigned(FIRST), "root of another run")
    asked = asyncio.create_task(fence.is_current(ROOT, FIRST))
    await idle()
    assert not asked.done()
    log.put(assigned(FIRST))
    assert await asked


async def test_the_vault_refuses_nothing_for_good_that_may_be_assigned_yet(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    log.is_quiet = True
    began_ms = clock.ms
    with pytest.raises(TokenNotSeen):
        await fence.is_current(ROOT, FIRST)
    assert clock.ms - began_ms == ARRIVES_MS
    log.put(assigned(FIRST))
    assert await fence.is_current(ROOT, FIRST)


async def test_the_vault_reads_what_was_said_since_the_task_was_requested_and_not_what_others_said_for_days(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    for number in range(2000):
        log.put(assigned(FIRST), f"earlier-{number}")
    clock.ms += 3_600_000
    requested_ms = clock.now_ms()
    log.put(assigned(FIRST))
    assert await fence.is_current(ROOT, FIRST, requested_ms)
    assert log.read_records < 50
    log.is_quiet = True
    with pytest.raises(TokenNotSeen):  # too late a time opens nothing
        await fence.is_current(ROOT, SECOND, clock.now_ms() + 60_000)
    log.put(lapsed(FIRST))
    clock.ms += 2000
    assert not await fence.is_current(ROOT, FIRST, requested_ms)


async def test_the_vault_is_told_when_nothing_could_be_read_instead_of_a_refusal(
    fence: Fence, log: ReportsLog, clock: TestClock
) -> None:
    log.put(assigned(FIRST))
    assert await fence.is_current(ROOT, FIRST)
    clock.ms += 2000
    log.is_down = True
    with pytest.raises(LogUnavailable):
        await fence.is_current(ROOT, FIRST)
    log.is_down = False
    assert await fence.is_current(ROOT, FIRST)
    log.put(lapsed(FIRST))
    clock.ms += 2000
    assert not await fence.is_current(ROOT, FIRST)
    log.is_down = True
    clock.ms += 2000
    assert not await fence.is_current(ROOT, FIRST), "a lapse is for ever"


async def test_waiting_ends_when_the_assignment_arrives(fence: Fence, log: ReportsLog) -> None:
    waiting = asyncio.create_task(fence.wait_open(ROOT, RUN, FIRST, 5))
    await idle()
    assert not waiting.done()
    log.put(assigned(FIRST))
    assert await waiting


async def test_waiting_ends_with_the_time_or_with_the_token(fence: Fence, log: ReportsLog) -> None:
    log.is_down = True
    assert not await fence.wait_open(ROOT, RUN, FIRST, 5)
    log.is_down = False
    log.put(settled(FIRST))
    assert not await fence.wait_open(ROOT, RUN, FIRST, 5)


async def test_a_report_is_read_back_when_no_end_of_its_token_stands_before(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    position = log.put(started(FIRST))
    log.put(lapsed(FIRST))
    assert await fence.read_back(ROOT, FIRST, position)
    assert not await fence.read_back(ROOT, FIRST, log.put(started(FIRST)))


@pytest.mark.parametrize("end", [lapsed(FIRST), settled(FIRST)])
async def test_a_report_after_a_lapse_or_a_settling_does_not_count(
    fence: Fence, log: ReportsLog, end: TaskLeaseLapsed | TaskSettled
) -> None:
    log.put(assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    log.put(end)
    position = log.put(started(FIRST))
    assert fence.is_open(ROOT, RUN, FIRST), "the window is open, and yet"
    assert not await fence.read_back(ROOT, FIRST, position)


async def test_reading_back_raises_when_the_log_does_not_answer(fence: Fence, log: ReportsLog) -> None:
    position = log.put(assigned(FIRST))
    log.is_down = True
    with pytest.raises(LogUnavailable):
        await fence.read_back(ROOT, FIRST, position)


async def test_a_closed_fence_is_shut(fence: Fence, log: ReportsLog) -> None:
    log.put(assigned(FIRST))
    assert await fence.ensure_open(ROOT, RUN, FIRST)
    log.hold()
    reading = asyncio.create_task(fence.read_back(ROOT, FIRST, 5))
    await until(lambda: len(log.asked_ends) >= 2)
    await fence.close()
    assert not fence.is_open(ROOT, RUN, FIRST)
    with pytest.raises(LogUnavailable):
        await reading


_TOKENS = [FIRST, SECOND, Token(3, "c" * 32)]
_EVENTS = st.one_of([st.sampled_from([assigned(token), lapsed(token), settled(token)]) for token in _TOKENS])


@given(st.lists(_EVENTS, max_size=12), st.lists(st.integers(min_value=0, max_value=3000), max_size=12))
def test_whatever_arrives_a_token_is_open_only_by_the_rule(
    events: list[TaskAssigned | TaskLeaseLapsed | TaskSettled], steps: list[int]
) -> None:
    async def scenario() -> None:
        clock = TestClock()
        log = ReportsLog(clock)
        fence = Fence(log, decode, clock)
        for index, event in enumerate(events):
            log.put(event)
            before = events[: index + 1]
            newest = max((e.token.attempt for e in before if isinstance(e, TaskAssigned)), default=0)
            over = {e.token for e in before if not isinstance(e, TaskAssigned)}
            clock.ms += 2000
            for token in _TOKENS:
                expected = token.attempt == newest and token not in over
                assert await fence.ensure_open(ROOT, RUN, token) is expected
            clock.ms += steps[index] if index < len(steps) else 0
        await fence.close()

    asyncio.run(scenario())
