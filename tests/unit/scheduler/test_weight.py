"""Decisions stay within what the log takes, however long the tasks are and however many are due at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.domain.decider import Wake
from kernel.domain.job_run import JobRunFailed
from kernel.domain.task import Answer, Journal, JournalEntry, TaskAssigned, TaskQueued, TaskRequested
from kernel.domain.values import Document, Effect, Sealed, SealedBody
from kernel.domain.workflow_run import StepStatus, WorkflowRunFailed
from kernel.log.codec import encode_value
from kernel.log.limits import BATCH_BYTES_MAX, DECISION_BYTES_MAX
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from scheduler.timers import WAIT_MS
from scheduler.weight import TASK_BYTES_MAX, weight_of
from tests.support.deciding import Bench
from tests.support.runs import SUBJECT, Attempt, assigned, heartbeat, job_run_requested, lapsed, planned

KEY = "browser/0"
HEADERS_BYTES = 1500
"""More than the envelope of any decision takes."""

texts = st.text(max_size=40)
boxes = st.binary(max_size=200)
entries = st.builds(
    JournalEntry,
    path=texts,
    status=st.sampled_from([None, StepStatus.COMPLETED]),
    effect=st.sampled_from(Effect),
    output=st.builds(SealedBody, st.just(SUBJECT), boxes, st.sampled_from(["", "ab" * 32]), st.integers(0, 1 << 40)),
    safe_point=st.booleans(),
    url=st.builds(Sealed, st.just(SUBJECT), boxes),
    consumed=st.booleans(),
    failure_code=texts,
    asks_again=texts,
)


def task(root: str = "r1", *, document: str = "", **journal: Any) -> TaskRequested:
    job = job_run_requested(root, 1)
    bench = Bench(Advance())
    events = bench.when(root, replace(job, plan=(long_workflow(root, document),)))
    request = next(event for event in events if isinstance(event, TaskRequested))
    return replace(request, journal=Journal(SealedBody(), **{"entries": (), "unknown": (), **journal}))


def long_workflow(root: str, document: str) -> Any:
    return replace(planned(root, 0), document=Document(inline=document, size=len(document)))


@settings(deadline=None, max_examples=60)
@given(st.lists(entries, max_size=6), st.lists(texts, max_size=4), boxes, texts, st.lists(texts, max_size=5))
def test_the_weight_of_a_task_is_never_less_than_its_record(
    found: list[JournalEntry], unknown: list[str], box: bytes, document: str, hosts: list[str]
) -> None:
    request = task(document=document, entries=tuple(found), unknown=tuple(unknown))
    answers = (Answer(document, request.workflow.document.blob, SealedBody(SUBJECT, box, "", len(box))),)  # type: ignore[arg-type]
    workflow = replace(request.workflow, allowed_hosts=tuple(hosts), name=document)
    request = replace(request, answers=answers, workflow=workflow)
    assert len(encode_value(request)) <= weight_of(request)


def test_a_task_of_the_greatest_weight_fits_every_record_that_holds_it() -> None:
    request = task(document="x")
    request = task(document="x" * (1 + TASK_BYTES_MAX - weight_of(request)))
    assert weight_of(request) == TASK_BYTES_MAX
    for event in (request, TaskQueued(request), assigned(request)):
        assert len(encode_value(event)) + HEADERS_BYTES <= DECISION_BYTES_MAX


def test_a_run_whose_task_no_record_can_hold_fails_and_says_so() -> None:
    bench = Bench(Advance())
    events = bench.when("r1", replace(job_run_requested("r1", 1), plan=(long_workflow("r1", "x" * TASK_BYTES_MAX),)))
    assert [event.failure.code for event in events if isinstance(event, WorkflowRunFailed)] == ["task_too_long"]
    assert any(isinstance(event, JobRunFailed) for event in events)
    assert not any(isinstance(event, TaskRequested) for event in events)


def test_many_long_runs_that_are_due_at_once_are_decided_in_portions() -> None:
    bench = Bench(Advance())
    for number in range(60):
        root = f"r{number}"
        job = replace(job_run_requested(root, 1), plan=(long_workflow(root, "x" * 30_000),))
        request = next(event for event in bench.when(root, job) if isinstance(event, TaskRequested))
        bench.given((root, assigned(request)), (root, Attempt(request).started()), (root, lapsed(request)))
    bench.now_ms += WAIT_MS
    asked = 0
    for _ in range(60):
        events = bench._decide(Wake())
        assert sum(len(encode_value(event)) + HEADERS_BYTES for event in events) < BATCH_BYTES_MAX
        asked += sum(isinstance(event, TaskRequested) for event in events)
    assert asked == 60


def test_many_long_tasks_are_assigned_in_portions() -> None:
    bench = Bench(Dispatch())
    for number in range(60):
        bench.when(KEY, task(f"r{number}", document="x" * 30_000))
    counts = []
    for _ in range(4):
        events = bench.when(KEY, heartbeat(slots=100))
        assert sum(len(encode_value(event)) + HEADERS_BYTES for event in events) < BATCH_BYTES_MAX
        counts.append(sum(isinstance(event, TaskAssigned) for event in events))
    assert sum(counts) == 60
    assert counts[0] > 10
