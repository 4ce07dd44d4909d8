"""Which ledger-only decisions change a run. Pure data."""

from __future__ import annotations

from kernel.domain.job_run import RunForgotten, RunPlanned, RunTombstoned
from kernel.domain.task import (
    AnswerKept,
    AttemptAssigned,
    AttemptLapsed,
    AttemptParked,
    AttemptSettling,
    DeadlineMoved,
    HoldStarted,
    RunEnding,
    StepUnknownCleared,
    TaskParkRequested,
    TaskRequested,
)

CHANGES_RUN: frozenset[type] = frozenset({
    RunPlanned, RunTombstoned, RunForgotten, TaskRequested, TaskParkRequested, AttemptAssigned, AttemptLapsed,
    AttemptSettling, AttemptParked, DeadlineMoved, HoldStarted, RunEnding, AnswerKept, StepUnknownCleared,
})  # fmt: skip
"""Beside the public facts (`derive.SEQUENCED`)."""
