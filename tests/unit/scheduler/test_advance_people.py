"""`advance` while a person is asked: holding, parking, answers, and the time that all of it may take."""

from __future__ import annotations

import pytest

from kernel.domain.input_request import (
    InputRequestAnswered,
    InputRequestCancelled,
    InputRequestExpired,
    InputRequestOpened,
)
from kernel.domain.job_run import (
    JobRunCancelled,
    RunRequestRejected,
)
from kernel.domain.task import (
    AnswerDelivered,
    AttemptLapsed,
    ConnectionReleased,
    TaskParkRequested,
    TaskRequested,
    TaskSettled,
    TaskStopRequested,
)
from kernel.domain.workflow_run import (
    WorkflowRunAwaitingUserInput,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunResumed,
    WorkflowRunStatus,
)
from kernel.log.topics import Topic
from scheduler.timers import (
    DEADLINE_SLACK_MS,
    PARK_MS,
    WAIT_MS,
)
from tests.support.one_run import Run, kinds, only
from tests.support.runs import (
    answer_submitted,
    cancel_requested,
    lapsed,
)


@pytest.fixture
def asking() -> tuple[Run, InputRequestOpened]:
    run = Run()
    run.takes()
    return run, only(run.when(run.attempt.suspended()), InputRequestOpened)


def test_asking_a_person_opens_an_input_request_and_holds_the_page(asking: tuple[Run, InputRequestOpened]) -> None:
    run, opened = asking
    facts = [event for _, event in run.bench.public(Topic.JOB_RUNS)]
    assert kinds(facts[-2:]) == [InputRequestOpened, WorkflowRunAwaitingUserInput]
    assert opened.expires_ms == run.bench.now_ms + 900_000


def test_an_answer_reaches_the_held_page(asking: tuple[Run, InputRequestOpened]) -> None:
    run, opened = asking
    events = run.when(answer_submitted("r1", opened.input_request_id))
    assert {InputRequestAnswered, AnswerDelivered, WorkflowRunResumed} <= set(kinds(events))
    assert run.when(answer_submitted("r1", opened.input_request_id)) == [], "the same answer again"
    second = run.when(answer_submitted("r1", opened.input_request_id, "answer-2"))
    assert only(second, RunRequestRejected).code == "input_already_answered"


def test_after_the_hold_the_runner_parks_and_the_login_is_free(asking: tuple[Run, InputRequestOpened]) -> None:
    run, opened = asking
    assert kinds(run.bench.passes(600_000)) == [TaskParkRequested]
    parked = run.when(run.attempt.parked())
    assert {TaskSettled, ConnectionReleased} <= set(kinds(parked))
    events = run.when(answer_submitted("r1", opened.input_request_id))
    task = only(events, TaskRequested)
    assert [answer.path for answer in task.answers] == ["ask"]
    assert only(events, WorkflowRunRequeued).reason == "answered"


def test_an_answer_between_the_order_to_park_and_the_parking_travels_with_the_next_task(
    asking: tuple[Run, InputRequestOpened],
) -> None:
    run, opened = asking
    run.bench.passes(600_000)
    assert AnswerDelivered not in kinds(run.when(answer_submitted("r1", opened.input_request_id)))
    assert len(only(run.when(run.attempt.parked()), TaskRequested).answers) == 1


@pytest.mark.parametrize("answered", [False, True])
def test_a_runner_that_never_parks_does_not_hold_the_run_for_ever(
    asking: tuple[Run, InputRequestOpened], *, answered: bool
) -> None:
    run, opened = asking
    run.bench.passes(600_000)
    if answered:
        run.when(answer_submitted("r1", opened.input_request_id))
    events = run.bench.passes(PARK_MS)
    assert {TaskStopRequested, TaskSettled} <= set(kinds(events))
    run.when(only(events, TaskSettled))
    events = run.bench.passes(WAIT_MS)
    if not answered:
        assert ConnectionReleased in kinds(events), "parked by us, it waits for the person"
        events = run.when(answer_submitted("r1", opened.input_request_id))
    assert [answer.path for answer in only(events, TaskRequested).answers] == ["ask"]


def test_a_lapse_while_a_page_is_held_waits_for_the_person(asking: tuple[Run, InputRequestOpened]) -> None:
    run, opened = asking
    assert kinds(run.when(lapsed(run.attempt.task))) == [AttemptLapsed]
    assert TaskRequested not in kinds(run.bench.passes(WAIT_MS))
    assert TaskRequested in kinds(run.when(answer_submitted("r1", opened.input_request_id)))


def test_an_answer_is_kept_until_its_step_is_finished(asking: tuple[Run, InputRequestOpened]) -> None:
    run, opened = asking
    run.when(answer_submitted("r1", opened.input_request_id))
    run.when(lapsed(run.attempt.task))
    run.follows(run.bench.passes(WAIT_MS))
    assert len(run.attempt.task.answers) == 1
    run.takes()
    run.when(run.attempt.step("ask", consumed=True))
    run.when(lapsed(run.attempt.task))
    task = only(run.bench.passes(WAIT_MS), TaskRequested)
    assert task.answers == ()
    assert task.journal.entries[-1].consumed


def test_a_question_that_nobody_answers_fails_the_run(asking: tuple[Run, InputRequestOpened]) -> None:
    run, _ = asking
    run.bench.passes(600_000)
    run.when(run.attempt.parked())
    events = run.bench.passes(300_000)
    assert InputRequestExpired in kinds(events)
    assert only(events, WorkflowRunFailed).failure.code == "input_expired"
    assert WorkflowRunStatus.FAILED is only(events, WorkflowRunFailed).status


def test_cancelling_a_parked_run_ends_it_at_once_and_closes_its_question(
    asking: tuple[Run, InputRequestOpened],
) -> None:
    run, _ = asking
    run.bench.passes(600_000)
    run.when(run.attempt.parked())
    assert {InputRequestCancelled, JobRunCancelled} <= set(kinds(run.when(cancel_requested())))


def test_the_time_a_person_took_is_not_counted(asking: tuple[Run, InputRequestOpened]) -> None:
    run, opened = asking
    run.bench.passes(500_000)
    run.when(answer_submitted("r1", opened.input_request_id))
    assert run.bench.passes(600_000 + DEADLINE_SLACK_MS - 1) == []
    assert TaskStopRequested in kinds(run.bench.passes(1))
