"""`advance` for runs that repeat another one, and what its facts say so that people can ask and repeat."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernel.domain.artifact import ArtifactCreated
from kernel.domain.connection import LoginObserved
from kernel.domain.ids import ConnectionId, WorkflowRunId
from kernel.domain.job_run import JobRunCompleted, JobRunCreated, RunPlanned, RunRequestRejected
from kernel.domain.plan import RunOptions
from kernel.domain.task import ConnectionReleased, TaskRequested
from kernel.domain.values import Failure, Sealed
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunStepFinished,
)
from kernel.log.topics import Topic
from scheduler.advance import Advance
from scheduler.timers import WAIT_AFTER_DEATH_MS, WAIT_MS
from tests.support.deciding import Bench
from tests.support.one_run import Run, kinds, only
from tests.support.runs import BODY, SUBJECT, Attempt, artifact, assigned, cancel_requested, job_run_requested, lapsed


@pytest.fixture
def running() -> Run:
    run = Run()
    run.takes()
    return run


# ---------------------------------------------------------------- where it begins


def test_a_retry_begins_at_the_failed_workflow_and_keeps_the_whole_order() -> None:
    bench = Bench(Advance())
    request = replace(job_run_requested("r2", 3), first_position=1, retry_of="r1")
    events = bench.when("r2", request)
    assert only(events, RunPlanned).first_position == 1
    created = only(events, JobRunCreated)
    assert (created.first_position, created.retry_of, len(created.workflow_ids)) == (1, "r1", 3)
    assert only(events, WorkflowRunCreated).position == 1
    for position in (1, 2):
        attempt = Attempt(only(events, TaskRequested))
        assert attempt.task.workflow_run_id == f"r2-w{position}"
        bench.given(("r2", assigned(attempt.task)), ("r2", attempt.started()))
        events = bench.when("r2", attempt.ended())
    assert JobRunCompleted in kinds(events)


def test_a_retry_frees_no_login_of_a_workflow_that_it_left_out() -> None:
    bench = Bench(Advance())
    job = job_run_requested("r2", 2)
    first = replace(job.plan[0], connection_id=ConnectionId("another"))
    events = bench.when("r2", replace(job, plan=(first, job.plan[1]), first_position=1))
    attempt = Attempt(only(events, TaskRequested))
    bench.given(("r2", assigned(attempt.task)), ("r2", attempt.started()))
    assert only(bench.when("r2", attempt.ended()), ConnectionReleased).connection_id == "login-1"


@pytest.mark.parametrize("position", [-1, 2])
def test_a_run_cannot_begin_outside_its_order(position: int) -> None:
    events = Bench(Advance()).when("r2", replace(job_run_requested("r2", 2), first_position=position))
    assert only(events, RunRequestRejected).code == "invalid_parameter"


def test_the_facts_of_a_run_keep_its_inputs_its_login_and_what_it_repeats() -> None:
    job = job_run_requested("r2", 2)
    options = RunOptions(test_mode=True, stop_after_step="pay", keep_open_seconds=60, trace=True)
    plan = tuple(replace(one, inputs=BODY, retry_of=WorkflowRunId("old"), options=options) for one in job.plan)
    events = Bench(Advance()).when("r2", replace(job, plan=plan))
    assert only(events, JobRunCreated).inputs == (BODY, BODY)
    created = only(events, WorkflowRunCreated)
    assert (created.inputs, created.connection_id, created.pool) == (BODY, "login-1", "browser")
    assert created.retry_of == "old"
    assert (created.stop_after_step, created.keep_open_seconds, created.trace) == ("pay", 60, True)


def test_a_rehearsed_login_says_nothing_about_the_real_one() -> None:
    bench = Bench(Advance())
    events = bench.when("r1", replace(job_run_requested("r1", 1), test_mode=True))
    attempt = Attempt(only(events, TaskRequested))
    bench.given(("r1", assigned(attempt.task)), ("r1", attempt.started()))
    assert LoginObserved not in kinds(bench.when("r1", attempt.ended()))


# ---------------------------------------------------------------- until when it waits


@pytest.mark.parametrize(("proof", "wait_ms"), [("expired", WAIT_MS), ("died", WAIT_AFTER_DEATH_MS)])
def test_a_lapse_tells_until_when_the_next_attempt_waits(running: Run, proof: str, wait_ms: int) -> None:
    requeued = only(running.when(lapsed(running.attempt.task, proof)), WorkflowRunRequeued)
    assert (requeued.reason, requeued.resume_ms) == ("lapsed", running.bench.now_ms + wait_ms)


def test_a_delay_tells_until_when_it_waits(running: Run) -> None:
    later = running.bench.now_ms + 60_000
    requeued = only(running.when(running.attempt.released(later)), WorkflowRunRequeued)
    assert (requeued.reason, requeued.resume_ms) == ("delayed", later)


def test_a_gap_tells_the_earliest_time_of_the_next_attempt(running: Run) -> None:
    running.attempt.number += 1
    requeued = only(running.when(running.attempt.step("a")), WorkflowRunRequeued)
    assert requeued.resume_ms == running.bench.now_ms + WAIT_MS


def test_a_drain_waits_for_nothing(running: Run) -> None:
    assert only(running.when(running.attempt.released()), WorkflowRunRequeued).resume_ms == 0


# ---------------------------------------------------------------- what an attempt leaves


@pytest.mark.parametrize("how", ["released", "parked", "stopped"])
def test_an_attempt_that_is_handed_back_leaves_its_log(running: Run, how: str) -> None:
    if how == "parked":
        running.when(running.attempt.suspended())
    report = replace(getattr(running.attempt, how)(), artifacts=(artifact(),))
    assert only(running.when(report), ArtifactCreated).workflow_run_id == "r1-w0"


def test_the_log_of_a_stopped_attempt_stands_before_the_end_of_the_run(running: Run) -> None:
    running.when(cancel_requested())
    found = kinds(running.when(replace(running.attempt.stopped(), artifacts=(artifact(),))))
    assert found.index(ArtifactCreated) < found.index(WorkflowRunFailed)


def test_what_was_found_about_a_failed_step_is_part_of_its_fact(running: Run) -> None:
    diagnosis = Sealed(SUBJECT, b"where it stood")
    step = running.attempt.step("pay", status=StepStatus.FAILED, failure=Failure("step_failed"), diagnosis=diagnosis)
    running.when(step)
    (fact,) = [e for _, e in running.bench.public(Topic.JOB_RUNS) if isinstance(e, WorkflowRunStepFinished)]
    assert fact.diagnosis == diagnosis
