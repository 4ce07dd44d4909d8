"""Facts about runs become counts by provider: in any order of partitions, in any batches, however often read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_gateway.failing import ERROR_CODES
from kernel.domain.health_windows import (
    MINUTE_MS,
    MINUTES_KEPT,
    STEP_BOUNDS_MS,
    HealthRow,
    Tally,
    step_bucket,
    windows_of,
)
from kernel.domain.ids import ProviderSlug
from kernel.domain.provider_health import (
    OTHER_CODES,
    PROVIDERS_CODES,
    HealthWindow,
    Outcome,
    Verdict,
    outcome_of,
    verdict_of,
)
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCreated,
    WorkflowRunStatus,
)
from scheduler.health import REPEAT_MS, Place, Said, Told, count, is_worth_telling, observe, said_by
from tests.support.events import sample
from tests.support.health_facts import ACME, GUSTO, NOON, RIVAL, TOAST, completed, failed, step


def tally_of(event: object) -> Tally | None:
    said = said_by(event, ACME, NOON)
    return said.tally if said else None


# ---------------------------------------------------------------- what a fact says


@pytest.mark.parametrize(
    ("event", "tally"),
    [
        (completed(), Tally(succeeded=1)),
        (completed(login=True), Tally(succeeded=1, logins_succeeded=1)),
        (completed(login=True, nothing_to_do=True), Tally(succeeded=1, logins_succeeded=1)),
        (failed("target_missing"), Tally(failed=1)),
        (failed("login_failed", login=True), Tally(failed=1, logins_failed=1)),
        (failed("login_rejected", login=True), Tally(other=1, logins_rejected=1)),
        (failed("timed_out", WorkflowRunStatus.TIMED_OUT), Tally(failed=1)),
        (failed("cancelled", WorkflowRunStatus.CANCELLED), Tally(other=1)),
        (failed("sold_out", WorkflowRunStatus.TERMINATED), Tally(other=1)),
        (failed("input_expired"), Tally(other=1)),
        (failed("runner_lost"), Tally(other=1)),
        (failed("step_outcome_unknown"), Tally(other=1)),
        (step(30), Tally(steps={step_bucket(30): 1})),
        (step(30, status=StepStatus.FAILED), Tally(steps={step_bucket(30): 1})),
    ],
)
def test_a_fact_says_one_thing_about_its_provider(event: object, tally: Tally) -> None:
    assert tally_of(event) == tally


@pytest.mark.parametrize(
    "event",
    [
        completed(test_mode=True),
        completed(provider=ProviderSlug("")),
        step(30, status=StepStatus.SKIPPED),
        step(30, kind="ask_user"),
        step(30, kind="for_each"),
        sample(WorkflowRunCreated),
    ],
)
def test_rehearsals_old_facts_waits_for_people_and_beginnings_say_nothing(event: object) -> None:
    assert tally_of(event) is None


def test_every_failure_code_of_the_runner_is_somebodys_fault() -> None:
    runner = Path(__file__).resolve().parents[3] / "services" / "browser-runner" / "browser_runner"
    told = set()
    for path in runner.rglob("*.py"):
        told |= set(re.findall(r"StepFailed\(\s*\"([a-z_]+)\"", path.read_text()))
    assert "target_missing" in told
    assert (told | ERROR_CODES) - PROVIDERS_CODES - OTHER_CODES == set()
    assert not PROVIDERS_CODES & OTHER_CODES


@given(st.sampled_from(WorkflowRunStatus), st.sampled_from(sorted(PROVIDERS_CODES | OTHER_CODES | {"new"})))
def test_nothing_but_a_failure_for_the_sites_reasons_is_held_against_a_provider(
    status: WorkflowRunStatus, code: str
) -> None:
    if outcome_of(status, code) is Outcome.FAILED:
        assert status is WorkflowRunStatus.TIMED_OUT or code in PROVIDERS_CODES


# ---------------------------------------------------------------- any order gives the same rows


@st.composite
def histories(draw: st.DrawFn) -> list[list[Said]]:
    """What the facts of each partition say, in the order of their offsets; their times need not be in order."""
    places: list[Place] = [(ACME, GUSTO), (ACME, TOAST), (RIVAL, GUSTO)]
    events = [completed(), completed(login=True), failed("target_missing"), failed("cancelled"), step(40), step(9_000)]
    tallies = [tally for event in events if (tally := tally_of(event)) is not None]
    said = st.builds(
        Said,
        st.sampled_from(places),
        st.integers(NOON, NOON + 2 * MINUTES_KEPT * MINUTE_MS),
        st.sampled_from(tallies),
    )
    return draw(st.lists(st.lists(said, max_size=30), min_size=1, max_size=3))


Rows = dict[tuple[int, Place], HealthRow]


def apply(rows: Rows, partition: int, offset: int, said: Said) -> None:
    row = rows.setdefault((partition, said.place), HealthRow(*said.place, partition))
    count(row, offset, said)


def in_order(history: list[list[Said]]) -> Rows:
    rows: Rows = {}
    for partition, facts in enumerate(history):
        for offset, said in enumerate(facts):
            apply(rows, partition, offset, said)
    return rows


@given(histories(), st.data())
@settings(max_examples=200)
def test_rows_are_the_same_however_partitions_interleave_and_whatever_is_read_again(
    history: list[list[Said]], data: st.DataObject
) -> None:
    rows: Rows = {}
    reached = [0] * len(history)
    while any(reached[at] < len(facts) for at, facts in enumerate(history)):
        at = data.draw(st.sampled_from([at for at, facts in enumerate(history) if reached[at] < len(facts)]))
        start = data.draw(st.integers(0, reached[at]))  # a restart reads again from any earlier place
        end = data.draw(st.integers(reached[at] + 1, len(history[at])))
        for offset in range(start, end):
            apply(rows, at, offset, history[at][offset])
        reached[at] = end
    assert rows == in_order(history)


@given(histories())
def test_windows_count_each_fact_of_their_time_once(history: list[list[Said]]) -> None:
    rows = in_order(history)
    for place in {place for _, place in rows}:
        mine = [row for (_, at), row in rows.items() if at == place]
        observed = observe(place, mine)
        assert observed is not None
        end = observed.observed_ms // MINUTE_MS
        facts = [said for part in history for said in part if said.place == place]
        assert observed.observed_ms == max(said.time_ms for said in facts)
        for window in observed.windows:
            within = [said.tally for said in facts if end - window.minutes <= said.time_ms // MINUTE_MS <= end]
            assert window.succeeded == sum(tally.succeeded for tally in within)
            assert window.failed == sum(tally.failed for tally in within)
            assert window.other == sum(tally.other for tally in within)
            assert window.steps == sum(sum(tally.steps.values()) for tally in within)


@given(histories())
def test_a_row_never_keeps_more_minutes_than_the_longest_window_shows(history: list[list[Said]]) -> None:
    assert all(len(row.minutes) <= MINUTES_KEPT for row in in_order(history).values())


@given(st.lists(st.integers(0, 900_000), min_size=1, max_size=60))
def test_the_95th_percentile_of_steps_is_rounded_up_by_a_quarter_at_most(lengths: list[int]) -> None:
    row = HealthRow(ACME, GUSTO, 0)
    for offset, milliseconds in enumerate(lengths):
        said = said_by(step(milliseconds), ACME, NOON)
        assert said is not None
        count(row, offset, said)
    exact = sorted(lengths)[-(-len(lengths) * 95 // 100) - 1]
    told = windows_of([row], NOON)[0].step_p95_ms
    assert exact <= told <= max(exact * 5 // 4 + 1, STEP_BOUNDS_MS[0])


# ---------------------------------------------------------------- verdicts


def windows(now: tuple[int, int], quarter: tuple[int, int]) -> list[HealthWindow]:
    return [HealthWindow(1, *now), HealthWindow(15, *quarter), HealthWindow(60, *quarter)]


@pytest.mark.parametrize(
    ("now", "quarter", "verdict"),
    [
        ((0, 4), (0, 4), Verdict.UNSURE),
        ((0, 5), (0, 5), Verdict.FAILING),
        ((2, 3), (2, 3), Verdict.FAILING),
        ((3, 3), (3, 3), Verdict.UNSURE),
        ((0, 1), (4, 6), Verdict.FAILING),
        ((1, 0), (4, 6), Verdict.UNSURE),
        ((0, 0), (0, 9), Verdict.UNSURE),
        ((2, 0), (2, 9), Verdict.UNSURE),
        ((3, 0), (3, 90), Verdict.WORKING),
        ((1, 0), (8, 2), Verdict.WORKING),
        ((0, 1), (8, 2), Verdict.WORKING),
        ((0, 1), (7, 2), Verdict.UNSURE),
        ((0, 0), (0, 0), Verdict.UNSURE),
    ],
)
def test_a_verdict_needs_enough_outcomes_and_leaves_room_between_its_thresholds(
    now: tuple[int, int], quarter: tuple[int, int], verdict: Verdict
) -> None:
    assert verdict_of(windows(now, quarter)) is verdict


def test_a_new_verdict_is_told_at_once_and_the_same_one_now_and_then() -> None:
    row = HealthRow(ACME, GUSTO, 0)
    for offset in range(6):
        said = said_by(failed("step_timeout"), ACME, NOON + offset)
        assert said is not None
        count(row, offset, said)
    observed = observe((ACME, GUSTO), [row])
    assert observed is not None
    assert is_worth_telling(observed, None, 0) is Verdict.FAILING
    assert is_worth_telling(observed, Told(Verdict.WORKING, 0), 1) is Verdict.FAILING
    assert is_worth_telling(observed, Told(Verdict.FAILING, 0), REPEAT_MS - 1) is None
    assert is_worth_telling(observed, Told(Verdict.FAILING, 0), REPEAT_MS) is Verdict.FAILING
