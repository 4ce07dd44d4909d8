"""`advance`, given inputs, then decisions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernel.domain.artifact import ArtifactCreated
from kernel.domain.connection import LoginObserved, LoginOutcome
from kernel.domain.ids import ConnectionId
from kernel.domain.input_request import (
    InputRequestOpened,
)
from kernel.domain.job_run import (
    JobRunCancelled,
    JobRunCompleted,
    JobRunCreated,
    JobRunFailed,
    JobRunStarted,
    RunCancelAccepted,
    RunForgotten,
    RunRequestRejected,
)
from kernel.domain.task import (
    AttemptLapsed,
    ConnectionReleased,
    ReportIgnored,
    TaskRequested,
    TaskSettled,
    TaskStopRequested,
    TaskWithdrawn,
)
from kernel.domain.values import Effect
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
    WorkflowRunStepStarted,
)
from kernel.log.topics import TYPES, Topic
from scheduler.advance import Advance
from scheduler.timers import (
    DEADLINE_SLACK_MS,
    LAPSES_MAX,
    STOP_MS,
    TOMBSTONE_MS,
    WAIT_AFTER_DEATH_MS,
    WAIT_MS,
)
from tests.support.deciding import Bench
from tests.support.one_run import Run, kinds, only
from tests.support.runs import (
    BODY,
    Attempt,
    answer_submitted,
    artifact,
    assigned,
    cancel_requested,
    job_run_requested,
    lapsed,
)


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def running() -> Run:
    run = Run()
    run.takes()
    return run


@pytest.fixture
def asking() -> tuple[Run, InputRequestOpened]:
    run = Run()
    run.takes()
    return run, only(run.when(run.attempt.suspended()), InputRequestOpened)


# ---------------------------------------------------------------- the order of workflows


def test_a_job_run_creates_its_first_workflow_run_and_asks_for_a_task(run: Run) -> None:
    assert kinds(run.first)[1:] == [JobRunCreated, JobRunStarted, WorkflowRunCreated, TaskRequested]
    assert [sequence for sequence, _ in run.bench.public(Topic.JOB_RUNS)] == [1, 2, 3]


def test_workflows_run_one_after_another_and_the_job_completes_with_the_last(run: Run) -> None:
    run.takes()
    second = run.when(run.attempt.ended())
    assert only(second, WorkflowRunCreated).position == 1
    assert JobRunCompleted not in kinds(second)
    run.follows(second)
    run.takes()
    last = run.when(run.attempt.ended())
    assert JobRunCompleted in kinds(last)
    assert only(last, ConnectionReleased).connection_id == "login-1"
    sequences = [sequence for sequence, _ in run.bench.public(Topic.JOB_RUNS)]
    assert sequences == list(range(1, len(sequences) + 1))


def test_the_first_failure_stops_the_rest(running: Run) -> None:
    events = running.when(running.attempt.ended(WorkflowRunStatus.FAILED, "step_failed"))
    assert only(events, JobRunFailed).failure.code == "step_failed"
    assert WorkflowRunCreated not in kinds(events)
    assert only(events, LoginObserved).outcome is LoginOutcome.FAILED


def test_rejected_credentials_are_told_to_the_connection(running: Run) -> None:
    events = running.when(running.attempt.ended(WorkflowRunStatus.FAILED, "login_rejected"))
    assert only(events, LoginObserved).outcome is LoginOutcome.REJECTED


def test_a_login_that_was_stopped_on_the_way_says_nothing_of_its_connection() -> None:
    run = Run(stop_after_step="open")
    run.takes()
    assert LoginObserved not in kinds(run.when(run.attempt.ended()))


def test_the_next_attempt_hears_which_question_a_refused_step_asks_again(running: Run) -> None:
    running.when(running.attempt.step("code", consumed=True))
    running.when(running.attempt.step_started("login"))
    running.when(running.attempt.step("login", status=StepStatus.FAILED, effect=Effect.ONCE, asks_again="code"))
    journal = running.follows(running.when(running.attempt.released())).task.journal
    assert [(entry.path, entry.asks_again) for entry in journal.entries] == [("code", ""), ("login", "code")]
    assert journal.unknown == (), "that it was refused is a known outcome"


def test_a_workflow_run_alone_ends_without_job_facts() -> None:
    run = Run(job=False)
    run.takes()
    events = run.when(run.attempt.ended(WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN))
    assert only(events, WorkflowRunCompleted).status is WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN
    assert not any(type(event) in {JobRunCreated, JobRunCompleted} for event in run.first + events)


# ---------------------------------------------------------------- requests that come again


def test_trap_10_a_request_appended_twice_runs_once_also_after_the_end(running: Run) -> None:
    assert running.when(job_run_requested("r1")) == []
    running.when(running.attempt.ended(WorkflowRunStatus.FAILED))
    assert running.when(job_run_requested("r1")) == []


def test_a_request_read_after_its_time_is_rejected_even_when_the_tombstone_is_gone(running: Run) -> None:
    running.when(running.attempt.ended(WorkflowRunStatus.FAILED))
    assert kinds(running.bench.passes(TOMBSTONE_MS)) == [RunForgotten]
    late = replace(job_run_requested("r1"), valid_until_ms=running.bench.now_ms - 1)
    assert only(running.when(late), RunRequestRejected).code == "request_expired"


def test_another_request_for_a_taken_id_is_rejected(run: Run) -> None:
    events = run.when(job_run_requested("r1", request="another"))
    assert only(events, RunRequestRejected).code == "run_exists"


def test_another_request_for_the_id_of_an_ended_run_is_rejected_too(running: Run) -> None:
    running.when(running.attempt.ended(WorkflowRunStatus.FAILED))
    events = running.when(job_run_requested("r1", request="another"))
    assert only(events, RunRequestRejected).code == "run_exists"


def test_a_cancel_that_is_read_twice_is_accepted_once(running: Run) -> None:
    assert RunCancelAccepted in kinds(running.when(cancel_requested()))
    assert running.when(cancel_requested()) == []
    assert RunCancelAccepted in kinds(running.when(cancel_requested(request="another")))


def test_every_login_that_a_job_used_is_free_at_its_end() -> None:
    job = job_run_requested("r1", 2)
    other = replace(job.plan[1], connection_id=ConnectionId("login-2"))
    bench = Bench(Advance())
    events = bench.when("r1", replace(job, plan=(job.plan[0], other)))
    freed: list[str] = []
    for _ in job.plan:
        attempt = Attempt(only(events, TaskRequested))
        bench.given(("r1", assigned(attempt.task)), ("r1", attempt.started()))
        events = bench.when("r1", attempt.ended())
        freed += [event.connection_id for event in events if isinstance(event, ConnectionReleased)]
    assert sorted(freed) == ["login-1", "login-2"]


def test_an_empty_job_is_rejected() -> None:
    events = Bench(Advance()).when("r1", job_run_requested("r1", 0))
    assert only(events, RunRequestRejected).code == "empty_job"


# ---------------------------------------------------------------- steps


def test_a_finished_step_becomes_a_public_fact_with_its_artifacts_once(running: Run) -> None:
    running.when(running.attempt.step("orders", artifacts=(artifact(),)))
    facts = [event for _, event in running.bench.public(Topic.JOB_RUNS)]
    assert isinstance(facts[-2], WorkflowRunStepFinished)
    assert isinstance(facts[-1], ArtifactCreated)
    running.when(running.attempt.step("orders", artifacts=(artifact(),)))
    facts = [event for _, event in running.bench.public(Topic.JOB_RUNS)]
    assert sum(isinstance(event, ArtifactCreated) for event in facts) == 1


def test_the_next_attempt_gets_the_exact_journal(running: Run) -> None:
    running.when(running.attempt.step("a"))
    running.when(running.attempt.step_started("pay"))
    running.when(lapsed(running.attempt.task))
    running.when(running.attempt.step("late"))
    journal = only(running.bench.passes(WAIT_MS), TaskRequested).journal
    assert [entry.path for entry in journal.entries] == ["a"]
    assert journal.unknown == ("pay",)


def test_trap_14_an_unknown_once_step_is_remembered_over_several_lapses(running: Run) -> None:
    running.when(running.attempt.step_started("pay"))
    for _ in range(2):
        running.when(lapsed(running.attempt.task))
        running.follows(running.bench.passes(WAIT_MS))
        running.takes()
    assert running.attempt.task.journal.unknown == ("pay",)


@pytest.mark.parametrize("how", ["finished", "checked"])
def test_an_outcome_or_a_check_settles_an_unknown_step(running: Run, how: str) -> None:
    running.when(running.attempt.step_started("pay"))
    attempt = running.attempt
    running.when(attempt.step("pay", effect=Effect.ONCE) if how == "finished" else attempt.checked("pay"))
    running.when(lapsed(attempt.task))
    assert only(running.bench.passes(WAIT_MS), TaskRequested).journal.unknown == ()


def test_what_a_person_said_of_an_unknown_act_is_not_said_of_the_next_one(running: Run) -> None:
    running.when(running.attempt.step_started("pay"))
    running.when(lapsed(running.attempt.task))
    running.follows(running.bench.passes(WAIT_MS))
    running.takes()
    opened = only(running.when(running.attempt.suspended("pay", hold_seconds=0)), InputRequestOpened)
    running.when(running.attempt.parked())
    running.follows(running.when(answer_submitted("r1", opened.input_request_id)))
    assert [answer.path for answer in running.attempt.task.answers] == ["pay"]
    running.takes()
    running.when(running.attempt.checked("pay"))
    running.when(running.attempt.step_started("pay"))
    running.when(lapsed(running.attempt.task))
    task = only(running.bench.passes(WAIT_MS), TaskRequested)
    assert task.journal.unknown == ("pay",)
    assert task.answers == (), "that it had not happened was said before it was started again"


def test_a_staged_journal_replaces_the_entries_before_it(running: Run) -> None:
    running.when(running.attempt.step("a"))
    running.when(running.attempt.step("b", journal_staged=BODY))
    running.when(running.attempt.step("c"))
    running.when(lapsed(running.attempt.task, "died"))
    journal = only(running.bench.passes(WAIT_AFTER_DEATH_MS), TaskRequested).journal
    assert journal.staged == BODY
    assert [entry.path for entry in journal.entries] == ["c"]


def test_a_once_step_is_a_public_fact_before_its_outcome(running: Run) -> None:
    assert kinds(running.when(running.attempt.step_started("pay"))) == [WorkflowRunStepStarted]


# ---------------------------------------------------------------- what counts


def test_a_report_under_an_old_token_is_ignored_and_recorded(running: Run) -> None:
    old = running.attempt
    running.when(lapsed(old.task))
    running.follows(running.bench.passes(WAIT_MS))
    assert only(running.when(old.step("late")), ReportIgnored).reason == "old_token"


def test_a_report_after_the_lapse_of_its_own_token_is_ignored(running: Run) -> None:
    running.when(lapsed(running.attempt.task))
    assert only(running.when(running.attempt.ended()), ReportIgnored).reason == "lapsed"


def test_trap_11_reports_that_stand_before_the_lapse_count(running: Run) -> None:
    running.when(running.attempt.ended())
    assert running.when(lapsed(running.attempt.task)) == []


def test_a_repeated_report_is_dropped(running: Run) -> None:
    report = running.attempt.step("a")
    running.when(report)
    assert running.when(report) == []


def test_a_gap_in_the_numbers_is_a_lapse(running: Run) -> None:
    running.attempt.step("lost")
    events = running.when(running.attempt.step("b"))
    assert only(events, ReportIgnored).reason == "gap"
    assert {TaskSettled, TaskStopRequested, WorkflowRunRequeued} <= set(kinds(events))
    running.when(only(events, TaskSettled))
    assert only(running.bench.passes(WAIT_MS), TaskRequested).token.attempt == 2


def test_a_report_about_an_ended_run_is_recorded_as_ignored(running: Run) -> None:
    running.when(running.attempt.ended(WorkflowRunStatus.FAILED))
    assert only(running.when(running.attempt.step("late")), ReportIgnored).reason == "run_ended"


# ---------------------------------------------------------------- lapses


@pytest.mark.parametrize(
    ("proof", "wait"), [("expired", WAIT_MS), ("not_echoed", WAIT_MS), ("died", WAIT_AFTER_DEATH_MS)]
)
def test_trap_12_the_next_attempt_waits_for_the_fence(running: Run, proof: str, wait: int) -> None:
    events = running.when(lapsed(running.attempt.task, proof))
    assert kinds(events) == [AttemptLapsed, WorkflowRunRequeued]
    assert running.bench.passes(wait - 1) == []
    task = only(running.bench.passes(1), TaskRequested)
    assert task.token.attempt == 2
    assert task.token.nonce != running.attempt.token.nonce


def test_trap_05_the_login_is_kept_over_a_lapse(running: Run) -> None:
    events = running.when(lapsed(running.attempt.task)) + running.bench.passes(WAIT_MS)
    assert ConnectionReleased not in kinds(events)


def test_a_lapse_delivered_twice_changes_nothing(running: Run) -> None:
    running.when(lapsed(running.attempt.task))
    assert running.when(lapsed(running.attempt.task)) == []


def test_a_run_whose_attempts_always_lapse_fails_in_the_end(running: Run) -> None:
    for _ in range(LAPSES_MAX - 1):
        running.when(lapsed(running.attempt.task))
        running.follows(running.bench.passes(WAIT_MS))
        running.takes()
    running.when(lapsed(running.attempt.task))
    assert only(running.bench.passes(WAIT_MS), WorkflowRunFailed).failure.code == "runner_lost"


# ---------------------------------------------------------------- cancel


def test_cancelling_a_queued_run_withdraws_its_task_and_ends_when_dispatch_confirms(run: Run) -> None:
    events = run.when(cancel_requested())
    assert {RunCancelAccepted, TaskWithdrawn} <= set(kinds(events))
    ended = run.when(lapsed(run.attempt.task, "withdrawn"))
    assert only(ended, WorkflowRunFailed).status is WorkflowRunStatus.CANCELLED
    assert JobRunCancelled in kinds(ended)


def test_a_stopped_attempt_ends_a_cancelled_run(running: Run) -> None:
    assert TaskStopRequested in kinds(running.when(cancel_requested()))
    events = running.when(running.attempt.stopped())
    assert {TaskSettled, WorkflowRunFailed, JobRunCancelled} <= set(kinds(events))


def test_an_end_that_comes_before_the_stop_keeps_its_success_but_the_job_goes_no_further(running: Run) -> None:
    running.when(cancel_requested())
    events = running.when(running.attempt.ended())
    assert {WorkflowRunCompleted, JobRunCancelled} <= set(kinds(events))
    assert WorkflowRunCreated not in kinds(events)


def test_success_of_the_last_workflow_makes_a_cancelled_job_complete() -> None:
    run = Run(1)
    run.takes()
    run.when(cancel_requested())
    assert JobRunCompleted in kinds(run.when(run.attempt.ended()))


def test_trap_06_and_13_a_silent_runner_is_settled_first_and_waited_out_from_reading_that_back(running: Run) -> None:
    running.when(cancel_requested())
    events = running.bench.passes(STOP_MS)
    settled = only(events, TaskSettled)
    assert WorkflowRunFailed not in kinds(events)
    assert running.bench.passes(10 * WAIT_MS) == [], "W is counted from reading `settled` back"
    running.when(settled)
    assert running.bench.passes(WAIT_MS - 1) == []
    assert {WorkflowRunFailed, JobRunCancelled} <= set(kinds(running.bench.passes(1)))


def test_a_lapse_while_closing_also_starts_the_wait(running: Run) -> None:
    running.when(cancel_requested())
    running.bench.passes(STOP_MS)
    assert kinds(running.when(lapsed(running.attempt.task))) == [AttemptLapsed]
    assert JobRunCancelled in kinds(running.bench.passes(WAIT_MS))


def test_a_lapse_after_settled_was_read_back_does_not_prolong_the_wait(running: Run) -> None:
    running.when(cancel_requested())
    running.when(only(running.bench.passes(STOP_MS), TaskSettled))
    running.bench.passes(WAIT_MS - 1)
    running.when(lapsed(running.attempt.task))
    assert JobRunCancelled in kinds(running.bench.passes(1))


def test_a_success_that_stands_behind_the_lapse_is_ignored_while_closing_too(running: Run) -> None:
    running.when(cancel_requested())
    running.bench.passes(STOP_MS)
    running.when(lapsed(running.attempt.task))
    assert only(running.when(running.attempt.ended()), ReportIgnored).reason == "lapsed"
    assert JobRunCancelled in kinds(running.bench.passes(WAIT_MS))


def test_an_assignment_read_for_an_unwanted_task_is_answered_with_stop_and_settled(run: Run) -> None:
    run.when(cancel_requested())
    assert TaskStopRequested in kinds(run.when(assigned(run.attempt.task)))
    run.when(run.attempt.stopped())
    assert run.when(assigned(run.attempt.task)) != []
    events = run.when(assigned(run.attempt.task))
    assert kinds(events) == [TaskStopRequested, TaskSettled]


def test_cancelling_while_the_fence_is_waited_for_ends_after_the_wait(running: Run) -> None:
    running.when(lapsed(running.attempt.task))
    running.when(cancel_requested())
    assert JobRunCancelled in kinds(running.bench.passes(WAIT_MS))


def test_cancelling_an_ended_run_is_rejected_and_a_cancelled_one_says_so(running: Run) -> None:
    running.when(cancel_requested())
    running.when(running.attempt.stopped())
    assert only(running.when(cancel_requested(request="2")), RunRequestRejected).code == "already_cancelled"
    done = Run(1)
    done.takes()
    done.when(done.attempt.ended())
    assert only(done.when(cancel_requested()), RunRequestRejected).code == "run_already_ended"
    assert only(done.bench.when("r9", cancel_requested("r9")), RunRequestRejected).code == "not_found"


def test_a_success_that_is_read_while_closing_still_stands(running: Run) -> None:
    running.when(cancel_requested())
    running.bench.passes(STOP_MS)
    assert WorkflowRunCompleted in kinds(running.when(running.attempt.ended()))


# ---------------------------------------------------------------- hand-backs and deadlines


def test_a_drained_attempt_is_asked_for_again_at_once(running: Run) -> None:
    events = running.when(running.attempt.released())
    assert only(events, TaskRequested).token.attempt == 2
    assert only(events, WorkflowRunRequeued).reason == "released"


def test_a_long_retry_delay_is_a_timer_and_holds_nothing(running: Run) -> None:
    events = running.when(running.attempt.released(running.bench.now_ms + 60_000))
    assert TaskRequested not in kinds(events)
    assert ConnectionReleased in kinds(events)
    assert TaskRequested in kinds(running.bench.passes(60_000))


def test_a_run_that_its_runner_does_not_end_in_time_is_ended_by_advance(running: Run) -> None:
    assert TaskStopRequested in kinds(running.bench.passes(600_000 + DEADLINE_SLACK_MS))
    events = running.when(running.attempt.stopped())
    assert only(events, WorkflowRunFailed).status is WorkflowRunStatus.TIMED_OUT


def test_waiting_for_a_slot_does_not_count_against_the_deadline(run: Run) -> None:
    assert run.bench.passes(10_000_000) == []
    run.takes()
    assert run.bench.passes(600_000 + DEADLINE_SLACK_MS - 1) == []


def test_an_attempt_starts_once(running: Run) -> None:
    facts = [event for _, event in running.bench.public(Topic.JOB_RUNS)]
    assert sum(isinstance(event, WorkflowRunStarted) for event in facts) == 1


def test_every_derived_record_stands_in_the_topic_table() -> None:
    run = Run()
    run.takes()
    run.when(run.attempt.step("a", artifacts=(artifact(),), status=StepStatus.COMPLETED))
    opened = only(run.when(run.attempt.suspended()), InputRequestOpened)
    run.when(answer_submitted("r1", opened.input_request_id))
    run.when(cancel_requested())
    run.when(run.attempt.stopped())
    for record in run.bench.derived():
        assert record.topic in TYPES[type(record.event)].topics
    for decision in run.bench.history:
        assert Topic.RUN_LEDGER in TYPES[type(decision.event)].topics
    assert run.bench.replayed() == dict(run.bench.state.items())
