"""Whatever is asked and reported in whatever order, the public facts never leave the tables of the domain."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.domain import input_request, job_run, workflow_run
from kernel.domain.task import TaskRequested, TaskSettled
from kernel.domain.values import Effect
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from kernel.log.topics import Topic
from scheduler.advance import Advance
from scheduler.advance.state import LiveRun, Tombstone
from tests.support.deciding import Bench, fold
from tests.support.runs import (
    Attempt,
    answer_submitted,
    artifact,
    assigned,
    cancel_requested,
    job_run_requested,
    lapsed,
)

END_STATUSES = sorted(workflow_run.TERMINAL - {WorkflowRunStatus.CANCELLED})
JOB_FACTS = (
    job_run.JobRunCreated,
    job_run.JobRunStarted,
    job_run.JobRunCompleted,
    job_run.JobRunFailed,
    job_run.JobRunCancelled,
)
QUESTION_FACTS = (
    input_request.InputRequestOpened,
    input_request.InputRequestAnswered,
    input_request.InputRequestExpired,
    input_request.InputRequestCancelled,
)
WORKFLOW_FACTS = (
    workflow_run.WorkflowRunCreated,
    workflow_run.WorkflowRunStarted,
    workflow_run.WorkflowRunRequeued,
    workflow_run.WorkflowRunAwaitingUserInput,
    workflow_run.WorkflowRunResumed,
    workflow_run.WorkflowRunStepStarted,
    workflow_run.WorkflowRunStepFinished,
    workflow_run.WorkflowRunCompleted,
    workflow_run.WorkflowRunFailed,
)

MOVES = [
    *("request", "assign", "start", "step", "once", "check", "suspend", "park", "release", "delay", "stop", "end"),
    *("lapse", "died", "cancel", "answer", "settled", "old", "again", "pass", "gap"),
    *("assign", "start", "step", "once", "suspend", "answer"),
]
"""Moves that lead further stand twice."""

moves = st.lists(
    st.tuples(
        st.sampled_from(MOVES),
        st.integers(0, 5),
    ),
    max_size=45,
)


class Play:
    """Random moves on one root run, as a careless world would make them."""

    def __init__(self) -> None:
        self.bench = Bench(Advance())
        self.attempts: list[Attempt] = []
        self.inputs: list[Any] = []

    def move(self, what: str, number: int) -> None:
        event = self._event(what, number)
        if what == "pass":
            self._look(self.bench.passes([1_000, 5_000, 10_000, 600_000, 900_000, 90_000_000][number]))
        elif event is not None:
            self.inputs.append(event)
            self._look(self.bench.when("r1", event))

    def _look(self, events: list[Any]) -> None:
        self.attempts += [Attempt(event) for event in events if isinstance(event, TaskRequested)]

    def _event(self, what: str, number: int) -> Any:
        if what == "request":
            return job_run_requested("r1", 3)
        if what == "cancel":
            return cancel_requested(request=f"cancel-{number}")
        if what == "again" and self.inputs:
            return self.inputs[-1 - number % len(self.inputs)]
        if what == "answer":
            asked = [e for _, e in self.facts() if isinstance(e, input_request.InputRequestOpened)]
            return answer_submitted("r1", asked[-1].input_request_id if asked else "none", f"answer-{number}")
        if not self.attempts:
            return None
        attempt = self.attempts[0] if what == "old" else self.attempts[-1]
        return self._assignment(what, attempt) or self._step(what, number, attempt) or self._end(what, number, attempt)

    def _assignment(self, what: str, attempt: Attempt) -> Any:
        task = attempt.task
        match what:
            case "assign":
                return assigned(task)
            case "start":
                return attempt.started()
            case "lapse" | "died":
                return lapsed(task, "expired" if what == "lapse" else "died")
            case "settled":
                return TaskSettled(task.task_id, "r1", task.token, task.pool)
        return None

    def _step(self, what: str, number: int, attempt: Attempt) -> Any:
        match what:
            case "step":
                status = StepStatus.FAILED if number == 5 else StepStatus.COMPLETED
                return attempt.step(f"s{number}", status=status, artifacts=(artifact(f"a{number}"),))
            case "once":
                return attempt.step_started(f"s{number}", Effect.ONCE)
            case "check":
                return attempt.checked(f"s{number}")
            case "suspend":
                return attempt.suspended(hold_seconds=[0, 5, 600, 600, 600, 600][number])
            case "gap":
                attempt.number += 1
        return None

    def _end(self, what: str, number: int, attempt: Attempt) -> Any:
        match what:
            case "park":
                return attempt.parked()
            case "release" | "old":
                return attempt.released()
            case "delay":
                return attempt.released(self.bench.now_ms + 30_000)
            case "stop":
                return attempt.stopped()
            case "end":
                return attempt.ended(END_STATUSES[number], "step_failed")
        return None

    def facts(self) -> list[tuple[int, Any]]:
        return self.bench.public(Topic.JOB_RUNS)


def play(script: list[tuple[str, int]]) -> Play:
    game = Play()
    game.move("request", 0)
    for what, number in script:
        game.move(what, number)
    return game


def walk(events: list[Any], start: Any, evolve: Any, transitions: Any) -> Any:
    state = start
    for event in events:
        new = evolve(state, event)
        assert new.status == state.status or new.status in transitions[state.status], (state, event)
        if not transitions[state.status]:
            raise AssertionError(f"{event} after the end")
        state = new
    return state


@settings(max_examples=150, deadline=None)
@given(moves)
def test_random_inputs_never_leave_the_tables(script: list[tuple[str, int]]) -> None:
    facts = [event for _, event in play(script).facts()]
    walk([e for e in facts if isinstance(e, JOB_FACTS)], job_run.JobRun(), job_run.evolve, job_run.TRANSITIONS)
    runs = {e.workflow_run_id for e in facts if isinstance(e, workflow_run.WorkflowRunCreated)}
    for id_ in runs:
        own = [e for e in facts if isinstance(e, WORKFLOW_FACTS) and e.workflow_run_id == id_]
        walk(own, workflow_run.WorkflowRun(), workflow_run.evolve, workflow_run.TRANSITIONS)
    for asked in {e.input_request_id for e in facts if isinstance(e, input_request.InputRequestOpened)}:
        answers = [e for e in facts if isinstance(e, QUESTION_FACTS) and e.input_request_id == asked]
        walk(answers, input_request.InputRequest(), input_request.evolve, input_request.TRANSITIONS)


@settings(max_examples=100, deadline=None)
@given(moves)
def test_the_sequence_of_a_run_is_gapless_and_nothing_follows_its_end(script: list[tuple[str, int]]) -> None:
    facts = [(sequence, event) for sequence, event in play(script).facts() if sequence]
    assert [sequence for sequence, _ in facts] == list(range(1, len(facts) + 1))
    ends = (job_run.JobRunCompleted, job_run.JobRunFailed, job_run.JobRunCancelled)
    assert not any(isinstance(event, ends) for _, event in facts[:-1])


@settings(max_examples=100, deadline=None)
@given(moves)
def test_a_replay_from_every_prefix_reaches_the_same_state(script: list[tuple[str, int]]) -> None:
    game = play(script)
    decider = game.bench.decider
    state = decider.empty()
    for decision in game.bench.history:
        fold(decider, state, decision)
        for key in decider.touches(decision):
            value = state.get(key)
            assert value is None or isinstance(value, LiveRun | Tombstone)
    assert dict(state.items()) == dict(game.bench.state.items())


@settings(max_examples=100, deadline=None)
@given(moves)
def test_a_second_append_of_the_request_changes_nothing_at_any_moment(script: list[tuple[str, int]]) -> None:
    game = Play()
    game.move("request", 0)
    for what, number in script:
        game.move(what, number)
        if game.bench.state.get("r1") is not None:
            assert game.bench.when("r1", job_run_requested("r1", 3)) == []


@settings(max_examples=100, deadline=None)
@given(moves)
def test_at_most_one_token_is_open_at_a_time_and_each_is_fresh(script: list[tuple[str, int]]) -> None:
    game = play(script)
    tasks = [d.event for d in game.bench.history if isinstance(d.event, TaskRequested)]
    assert len({task.token.nonce for task in tasks}) == len(tasks)
    by_run: dict[str, int] = {}
    for task in tasks:
        assert task.token.attempt == by_run.get(task.workflow_run_id, 0) + 1
        by_run[task.workflow_run_id] = task.token.attempt
