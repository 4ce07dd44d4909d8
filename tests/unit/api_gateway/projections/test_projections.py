from __future__ import annotations

import re
from typing import Any

import pytest

from api_gateway.projections import catalog
from api_gateway.projections.change import Cell, Fact, Kind
from api_gateway.projections.request_outcomes import is_derived
from api_gateway.row_writing import statements_of
from kernel.domain.connection import ConnectionHealth, ConnectionLoginRecorded, LoginOutcome
from kernel.domain.ids import ConnectionId, InputRequestId, JobRunId, RequestId, UserId, WorkflowId, WorkflowRunId
from kernel.domain.input_request import InputRequestExpired
from kernel.domain.job_run import JobRunCancelled, JobRunFailed, JobRunStarted, RunRequestRejected
from kernel.domain.values import Document, Effect, Failure, FailureKind, Sealed, SealedBody
from kernel.domain.workflow import WorkflowChanged
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunRequeued,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
    WorkflowRunStepStarted,
)  # fmt: skip
from kernel.ids import SystemEntropy, derived_id
from kernel.log.topics import TYPES, Topic

RUN = WorkflowRunId("run")
FAILURE = Failure("step_failed", FailureKind.PERMANENT, Sealed(box=b"sealed"), "pay", "paying")


def fact(event: Any, sequence: int = 1, key: str = "root") -> Fact:
    return Fact(key, sequence, TYPES[type(event)].wire, 1000 + sequence, event, b"value")


def rows(*events: Any) -> dict[str, dict[str, Cell]]:
    """Columns by table after these facts, each about one row."""
    found: dict[str, dict[str, Cell]] = {}
    for number, event in enumerate(events, start=1):
        for change in catalog.changes(fact(event, number)):
            found.setdefault(change.table.name, {}).update(change.columns)
    return found


def finished(name: str, next_name: str = "") -> WorkflowRunStepFinished:
    return WorkflowRunStepFinished(
        RUN, 2, name, name, name, "click", Effect.ONCE, StepStatus.COMPLETED, 1, 5, 9, SealedBody(), Failure(), "",
        next_name,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("events", "table", "columns"),
    [
        ([WorkflowRunStarted(RUN, 3)], "workflow_runs", {"status": "in_progress", "attempt": 3, "updated_ms": 1001}),
        ([WorkflowRunRequeued(RUN, "lapsed")], "workflow_runs", {"status": "pending", "input_request_id": ""}),
        (
            [WorkflowRunAwaitingUserInput(RUN, InputRequestId("q"))],
            "workflow_runs",
            {"status": "awaiting_user_input", "input_request_id": "q"},
        ),
        ([finished("open", "pay")], "workflow_runs", {"current_name": "pay"}),
        ([finished("pay")], "workflow_runs", {"current_name": "pay"}),
        (
            [WorkflowRunStepStarted(RUN, 2, "pay", "pay", "paying", Effect.ONCE, "click")],
            "steps",
            {"name": "paying", "started_ms": 1001},
        ),
        ([finished("pay")], "steps", {"status": "completed", "started_ms": 5, "finished_ms": 9}),
        (
            [WorkflowRunStarted(RUN, 1), WorkflowRunCompleted(RUN, WorkflowRunStatus.COMPLETED, SealedBody())],
            "workflow_runs",
            {"status": "completed", "attempt": 1, "completed_ms": 1002},
        ),
        ([JobRunStarted(JobRunId("j"))], "job_runs", {"status": "in_progress", "started_ms": 1001}),
        (
            [JobRunFailed(JobRunId("j"), RUN, FAILURE)],
            "job_runs",
            {"status": "failed", "error_message": b"sealed", "failed_workflow_run_id": RUN},
        ),
        ([JobRunCancelled(JobRunId("j"))], "job_runs", {"status": "cancelled", "error_code": "cancelled"}),
        ([InputRequestExpired(InputRequestId("q"))], "input_requests", {"status": "expired", "closed_ms": 1001}),
        (
            [ConnectionLoginRecorded(ConnectionId("c"), LoginOutcome.REJECTED, ConnectionHealth.LOCKED, 3, 7)],
            "connections",
            {"health": "locked", "failed_attempts": 3, "last_checked_ms": 7},
        ),
    ],
)  # fmt: skip
def test_a_fact_changes_the_rows_it_is_about(events: list[Any], table: str, columns: dict[str, Cell]) -> None:
    found = rows(*events)[table]
    assert columns.items() <= found.items()


def test_all_changes_of_a_row_in_a_batch_are_one_statement() -> None:
    facts = [
        fact(event, number)
        for number, event in enumerate(
            [WorkflowRunStarted(RUN, 1), finished("a"), WorkflowRunRequeued(RUN, "x"), WorkflowRunStarted(RUN, 2)],
            start=1,
        )
    ]
    on_runs = [(sql, params) for sql, params in statements_of(facts, "sqlite") if " workflow_runs " in sql]
    ((sql, params),) = on_runs
    changed = dict(zip(re.findall(r"(\w+) = \?", sql), params, strict=True))
    assert (changed["status"], changed["attempt"], changed["id"]) == ("in_progress", 2, RUN)


def test_postgresql_gets_one_statement_for_any_number_of_rows_that_change_alike() -> None:
    facts = [fact(finished(f"step_{number}"), number) for number in range(1, 78)]
    (on_events,) = [(sql, params) for sql, params in statements_of(facts, "postgres") if "INTO run_events " in sql]
    sql, params = on_events
    assert sql == (
        "INSERT INTO run_events (about, time_ms, value, wire, root_run_id, sequence) SELECT new.* FROM"
        " unnest(?::TEXT[], ?::BIGINT[], ?::BYTEA[], ?::TEXT[], ?::TEXT[], ?::BIGINT[]) AS new ON CONFLICT DO NOTHING"
    )
    assert params[-1] == tuple(range(1, 78))


def test_rows_that_only_come_are_copied_into_tables_that_nobody_else_fills() -> None:
    facts = [fact(finished(f"step_{number}"), number) for number in range(1, 78)]
    statements = statements_of(facts, "postgres", loads=True)
    ((sql, rows),) = [(sql, rows) for sql, rows in statements if sql.startswith("COPY ")]
    assert sql == "COPY run_events (about, time_ms, value, wire, root_run_id, sequence) FROM STDIN"
    assert [row[-1] for row in rows if isinstance(row, tuple)] == list(range(1, 78))
    assert any("INTO steps " in sql for sql, _ in statements), "which may be written again"


def test_rows_that_are_inserted_alike_share_few_statements() -> None:
    facts = [fact(finished(f"step_{number}"), number) for number in range(1, 78)]
    on_steps = [(sql, params) for sql, params in statements_of(facts, "sqlite") if "INTO run_events " in sql]
    rows = [sql.count("(?") for sql, _ in on_steps]
    assert rows == [32, 32, 8, 4, 1]
    assert all(sql.count("?") == len(params) for sql, params in on_steps)


def test_a_revision_that_is_there_is_kept() -> None:
    changed = WorkflowChanged(WorkflowId("w"), "n", Document("{}", "", 2), 1, UserId("u"), RequestId("r"))
    kinds = {change.table.name: change.kind for change in catalog.changes(fact(changed))}
    assert kinds == {"workflows": Kind.PATCH, "workflow_revisions": Kind.KEEP}


def test_only_outcomes_of_repeatable_requests_are_kept() -> None:
    repeatable, random = derived_id("request", "x"), SystemEntropy().uuid()
    assert (is_derived(repeatable), is_derived(random)) == (True, False)
    for request_id, kept in ((repeatable, 1), (random, 0)):
        rejected = RunRequestRejected(RequestId(request_id), "root", "c", "m")
        assert len(catalog.changes(fact(rejected, 0))) == kept


def test_every_public_fact_but_notices_has_a_read_model() -> None:
    public = {cls for cls, row in TYPES.items() if {Topic.JOB_RUNS, Topic.DEFINITIONS} & set(row.topics)}
    without = {TYPES[cls].wire for cls in public - catalog.BY_EVENT.keys()}
    assert without == {"run.request_rejected", "registry.request_rejected"}
