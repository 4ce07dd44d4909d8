from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import pytest

from api_gateway.batch_writing import TOGETHER, batch_statements
from api_gateway.projections import catalog
from api_gateway.projections.change import Fact
from api_gateway.row_writing import rows_of
from kernel.domain.ids import (
    JobRunId,
    OrganizationId,
    ProviderSlug,
    RequestId,
    SubjectId,
    UserId,
    WorkflowId,
    WorkflowRunId,
)
from kernel.domain.job_run import JobRunStarted
from kernel.domain.values import Effect, Failure, Sealed, SealedBody
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)
from kernel.ids import derived_id
from kernel.log.topics import TYPES
from kernel.sql.port import Dialect, Statement

MOVED: Statement = ("UPDATE projection_positions SET next_offset = ?", (7,))
TOLD: Sequence[Statement] = (("SELECT pg_notify(?, ?)", ("channel", "payload")),)


def life(run: str) -> list[Fact]:
    """A run of two steps."""
    id_ = WorkflowRunId(run)
    request = RequestId(derived_id("request", run))
    created = WorkflowRunCreated(
        id_, JobRunId(""), WorkflowId("w"), 1, ProviderSlug("p"), OrganizationId("acme"), SubjectId("s"), Sealed(),
        False, UserId("u"), "", 0, request,
    )  # fmt: skip
    steps = [
        WorkflowRunStepFinished(
            id_, 1, name, name, name, "assert", Effect.READ, StepStatus.COMPLETED, 1, 5, 9, SealedBody(), Failure(), "",
            next_name,
        )
        for name, next_name in (("a", "b"), ("b", ""))
    ]  # fmt: skip
    ended = WorkflowRunCompleted(id_, WorkflowRunStatus.COMPLETED, SealedBody())
    return [fact(run, n, event) for n, event in enumerate([created, WorkflowRunStarted(id_, 1), *steps, ended], 1)]


def fact(run: str, sequence: int, event: Any) -> Fact:
    return Fact(run, sequence, TYPES[type(event)].wire, 1000 + sequence, event, b"value")


def written(facts: Iterable[Fact], dialect: Dialect = "postgres", *, loads: bool = False) -> list[Statement]:
    told = () if loads or dialect == "sqlite" else TOLD
    return batch_statements(MOVED, rows_of(facts, dialect), told, dialect, loads=loads)


def test_postgresql_gets_one_statement_for_runs_at_whatever_stages() -> None:
    runs = [life(f"r{number}") for number in range(4)]
    batch = [*runs[0], *runs[1][:2], *runs[2][1:2], *runs[3][2:]]
    ((text, params),) = written(batch)
    assert text.count("?") == len(params)
    assert (params[0], params[-2:]) == (7, ("channel", "payload"))
    assert text.startswith("WITH moved AS (UPDATE projection_positions SET next_offset = ? RETURNING 1), ")
    assert text.endswith(" SELECT pg_notify(?, ?) FROM moved")
    assert text.count("UPDATE workflow_runs") == 1
    assert text.count("INSERT INTO workflow_runs") == 1


def test_however_batches_are_cut_there_are_few_texts() -> None:
    facts = life("r")
    cuts = [facts[begin:end] for begin, end in combinations(range(len(facts) + 1), 2)]
    assert len({text for part in cuts for text, _ in written(part)}) <= 6


def test_every_part_hangs_on_the_moved_position() -> None:
    ((text, _),) = written(life("r"))
    parts = text.split("part_")[1:]
    assert len(parts) == 4
    assert all(", moved" in part for part in parts)


def test_a_batch_without_rows_moves_the_position() -> None:
    moves = "WITH moved AS (UPDATE projection_positions SET next_offset = ? RETURNING 1) SELECT {} FROM moved"
    assert written([]) == [(moves.format("pg_notify(?, ?)"), (7, "channel", "payload"))]
    assert batch_statements(MOVED, [], (), "postgres", loads=False) == [(moves.format("1"), (7,))]


def test_rows_of_tables_that_few_batches_touch_follow_in_the_transaction() -> None:
    first, *others = written([*life("r"), fact("j", 2, JobRunStarted(JobRunId("j")))])
    assert "job_runs" not in first[0].replace("workflow_runs", "")
    assert [text.partition(" SET ")[0] for text, _ in others] == ["UPDATE job_runs"]


@pytest.mark.parametrize(("dialect", "loads"), [("sqlite", False), ("postgres", True)])
def test_elsewhere_the_condition_stands_first_and_alone(dialect: Dialect, loads: bool) -> None:
    statements = written(life("r"), dialect, loads=loads)
    assert statements[0] == MOVED
    assert len(statements) > 4


def test_what_is_written_together_is_there() -> None:
    assert {*(table.name for table in catalog.TABLES), "projected_streams"} >= TOGETHER
