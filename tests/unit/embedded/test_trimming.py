from __future__ import annotations

import pytest

from embedded.trimming import KEPT_MS, Trimming
from kernel.log.memory import MemoryLog
from kernel.log.port import Record
from kernel.log.topics import TOPICS, Topic
from tests.support.reports import TestClock

REPORTS = Topic.TASK_REPORTS.value


async def a_log_of_two_days(clock: TestClock) -> MemoryLog:
    """Ten reports and ten messages to runners on each of two days."""
    log = MemoryLog(dict.fromkeys(TOPICS, 1), clock)
    for _ in range(2):
        for _ in range(10):
            await log.append([Record(topic, 0, "k", (), b"v") for topic in (REPORTS, Topic.RUNNER_INBOX.value)])
        clock.ms += KEPT_MS
    clock.ms -= 1000
    return log


@pytest.mark.parametrize(("decided", "start"), [(0, 0), (7, 7), (10, 10), (20, 10)])
async def test_inputs_go_once_they_are_decided_and_a_day_old(decided: int, start: int) -> None:
    clock = TestClock()
    log = await a_log_of_two_days(clock)
    trimming = Trimming(log, clock)
    trimming.decided(0, {REPORTS: decided})
    await trimming.trim()
    assert await log.start_offset(REPORTS, 0) == start
    assert await trimming.trim() == 0


async def test_of_an_input_that_no_owner_has_spoken_of_everything_stays() -> None:
    clock = TestClock()
    log = await a_log_of_two_days(clock)
    await Trimming(log, clock).trim()
    assert await log.start_offset(REPORTS, 0) == 0


async def test_messages_to_runners_go_after_a_day() -> None:
    clock = TestClock()
    log = await a_log_of_two_days(clock)
    assert await Trimming(log, clock).trim() == 10
    assert await log.start_offset(Topic.RUNNER_INBOX, 0) == 10


async def test_public_facts_and_ledgers_stay() -> None:
    clock = TestClock()
    log = await a_log_of_two_days(clock)
    kept = (Topic.JOB_RUNS, Topic.DEFINITIONS, Topic.RUN_LEDGER)
    for topic in kept:
        await log.append([Record(topic, 0, "k", (), b"v")])
    clock.ms += 10 * KEPT_MS
    trimming = Trimming(log, clock)
    trimming.decided(0, {REPORTS: 20})
    await trimming.trim()
    assert [await log.start_offset(topic, 0) for topic in (Topic.JOB_RUNS, Topic.DEFINITIONS, Topic.RUN_LEDGER)] == [
        0
    ] * 3
