"""How providers do, out of the public facts about runs. Pure.

    fact -> what it says about a provider -> counted in the row of its partition -> windows -> an observation

Whoever drives this may die at any moment and read facts again, in other batches, and partitions in any order: the rows
are the same. What the registry makes of an observation stands in `kernel.domain.provider_health`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernel.domain.health_windows import (
    MINUTE_MS,
    MINUTES_KEPT,
    HealthRow,
    Tally,
    step_bucket,
    windows_of,
)
from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.domain.plan import WorkflowType
from kernel.domain.provider_health import (
    Outcome,
    ProviderHealthObserved,
    Verdict,
    outcome_of,
    verdict_of,
)
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCompleted,
    WorkflowRunFailed,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)

TELLING = (WorkflowRunCompleted, WorkflowRunFailed, WorkflowRunStepFinished)
"""The facts that say something; everything else need not even be decoded."""
REPEAT_MS = 30_000
"""How often the same verdict is told while facts come: a word may be lost, and the registry only minds changes."""
_NOT_AT_THE_SITE = frozenset({"ask_user", "if", "for_each", "finish"})
"""Kinds of steps whose time is a person's or our own."""
_REJECTED = "login_rejected"

Place = tuple[OrganizationId, ProviderSlug]
"""One provider as one organization sees it."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one fact says about a provider. `time_ms` is the fact's own time."""

    place: Place
    time_ms: int
    tally: Tally


def said_by(event: Any, organization_id: str, time_ms: int) -> Said | None:
    """What `event` says; None for a rehearsal, a fact without a provider, and whatever tells nothing about one."""
    if not isinstance(event, TELLING) or event.test_mode or not event.provider or not organization_id:
        return None
    tally = _tally_of(event)
    return None if tally is None else Said((OrganizationId(organization_id), event.provider), time_ms, tally)


def _tally_of(event: WorkflowRunCompleted | WorkflowRunFailed | WorkflowRunStepFinished) -> Tally | None:
    match event:
        case WorkflowRunStepFinished():
            if event.status is StepStatus.SKIPPED or event.kind in _NOT_AT_THE_SITE:
                return None
            return Tally(steps={step_bucket(event.finished_ms - event.started_ms): 1})
        case WorkflowRunCompleted():
            return _end(event.workflow_type, event.status, "")
        case WorkflowRunFailed():
            return _end(event.workflow_type, event.status, event.failure.code)


def _end(workflow_type: WorkflowType, status: WorkflowRunStatus, code: str) -> Tally:
    outcome, is_login = outcome_of(status, code), workflow_type is WorkflowType.LOGIN
    match outcome:
        case Outcome.SUCCEEDED:
            return Tally(succeeded=1, logins_succeeded=int(is_login))
        case Outcome.FAILED:
            return Tally(failed=1, logins_failed=int(is_login))
        case Outcome.OTHER:
            return Tally(other=1, logins_rejected=int(is_login and code == _REJECTED))


# ---------------------------------------------------------------- counting


def count(row: HealthRow, offset: int, said: Said) -> bool:
    """Count what the fact at `offset` of the row's partition says; False when it is counted already.

    Facts of one partition come in the order of their offsets, each for the first time or once more. One that is older
    than the longest window moves the row on and is not kept.
    """
    if offset <= row.applied:
        return False
    row.applied = offset
    row.newest_ms = max(row.newest_ms, said.time_ms)
    oldest = row.newest_ms // MINUTE_MS - MINUTES_KEPT + 1
    minute = said.time_ms // MINUTE_MS
    if minute >= oldest:
        row.minutes.setdefault(minute, Tally()).add(said.tally)
    for gone in [known for known in row.minutes if known < oldest]:
        del row.minutes[gone]
    return True


# ---------------------------------------------------------------- telling


@dataclass(frozen=True, slots=True)
class Told:
    """What the registry was told last about one provider, and when by the observer's own clock."""

    verdict: Verdict
    at_ms: int


def observe(place: Place, rows: Sequence[HealthRow]) -> ProviderHealthObserved | None:
    """The windows at the newest fact of all partitions' rows; None without any."""
    if not rows:
        return None
    observed_ms = max(row.newest_ms for row in rows)
    return ProviderHealthObserved(*place, observed_ms, windows_of(rows, observed_ms))


def is_worth_telling(observed: ProviderHealthObserved, told: Told | None, now_ms: int) -> Verdict | None:
    """The verdict, when the registry should hear it: a new one at once, the same one now and then, no unsure one."""
    verdict = verdict_of(observed.windows)
    if verdict is Verdict.UNSURE:
        return None
    if told is not None and told.verdict is verdict and now_ms - told.at_ms < REPEAT_MS:
        return None
    return verdict
