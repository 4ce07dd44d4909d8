"""The health of a provider, as the runs of one organization see it: windows of outcomes, and what they mean.

HEALTHY -> DEGRADED     most of its newest runs fail for its own reasons
DEGRADED -> HEALTHY     its newest runs succeed again
Between the two thresholds, and with too few outcomes, a provider stays what it is. Nobody needs to have registered it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from kernel.building import replace
from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.domain.workflow_run import ENDED_WELL, WorkflowRunStatus

# ---------------------------------------------------------------- status


class ProviderStatus(StrEnum):
    """None is terminal."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"


TRANSITIONS: dict[ProviderStatus, frozenset[ProviderStatus]] = {
    ProviderStatus.HEALTHY: frozenset({ProviderStatus.DEGRADED}),
    ProviderStatus.DEGRADED: frozenset({ProviderStatus.HEALTHY}),
}

WINDOWS_MINUTES = (1, 15, 60)
"""Now, for what changes at once; the last quarter, for a verdict; the last hour, for people."""
FAILING_OUTCOMES_MIN = 5
"""With fewer outcomes in the last quarter of an hour, one odd customer would speak for all."""
FAILING_SUCCESS_PERCENT = 50
"""Below it most runs fail, which no mix of customers explains."""
WORKING_OUTCOMES_MIN = 3
"""After an outage few dare to try: three that succeed are told sooner than five, and one may be luck."""
WORKING_SUCCESS_PERCENT = 80
"""Far above the other threshold, so that a provider that fails every third time does not go back and forth."""


class Outcome(StrEnum):
    """What the end of a workflow run says about its provider."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The site, its login or its time: what another customer would have met as well."""
    OTHER = "other"
    """Ours or the caller's: cancelled, wrong input or credentials, nobody answered, no runner. Tells nothing."""


PROVIDERS_CODES = frozenset({
    "assert_failed", "download_failed", "download_type_refused", "drop_refused", "expect_failed", "extract_invalid",
    "login_failed", "navigation_failed", "provider_unavailable", "step_failed", "step_timeout", "target_changed",
    "target_conflict", "target_covered", "target_missing", "timed_out", "upload_refused", "wait_failed",
})  # fmt: skip
"""Failure codes for which the site is to blame: it is away, slow, or not as it was."""
OTHER_CODES = frozenset({
    "artifact_failed", "attempt_broke", "browser_lost", "browser_unavailable", "budget_exhausted", "cancelled",
    "connection_locked", "download_too_large", "expression_failed", "input_expired", "internal", "login_rejected",
    "navigation_blocked", "report_too_long", "runner_lost", "secret_host_refused", "secret_unavailable",
    "step_outcome_unknown", "task_too_long", "task_unreadable", "template_failed", "terminated", "too_many_items",
    "upload_too_large",
})  # fmt: skip
"""Failure codes that say nothing about the site. A code that stands in neither set counts as one of these."""


def outcome_of(status: WorkflowRunStatus, code: str) -> Outcome:
    """What a workflow run's end says about its provider. `code` is that of its failure."""
    if status in ENDED_WELL:
        return Outcome.SUCCEEDED
    if status is WorkflowRunStatus.TIMED_OUT:
        return Outcome.FAILED
    if status is WorkflowRunStatus.FAILED and code in PROVIDERS_CODES:
        return Outcome.FAILED
    return Outcome.OTHER


# ---------------------------------------------------------------- windows


@dataclass(frozen=True, slots=True)
class HealthWindow:
    """Outcomes of the newest `minutes` whole minutes and of the one begun after them."""

    minutes: int = 0
    succeeded: int = 0
    """Workflow runs; rehearsals are not counted anywhere here."""
    failed: int = 0
    other: int = 0
    logins_succeeded: int = 0
    """Of the workflow runs above those of type LOGIN; also when the kept session was still valid."""
    logins_rejected: int = 0
    """Wrong credentials: the caller's, not the provider's."""
    logins_failed: int = 0
    steps: int = 0
    """Steps that were carried out at the site, failed ones included."""
    step_p95_ms: int = 0
    """95 % of them took no longer; rounded up, by a quarter at most. 0: there were none."""

    @property
    def success_percent(self) -> int | None:
        """Of the runs that tell something, rounded down; None when there were none."""
        told = self.succeeded + self.failed
        return self.succeeded * 100 // told if told else None


class Verdict(StrEnum):
    """What windows say by themselves; UNSURE leaves a provider what it was."""

    FAILING = "failing"
    WORKING = "working"
    UNSURE = "unsure"


def verdict_of(windows: Iterable[HealthWindow]) -> Verdict:
    """The shortest window may prove that it works again; that it fails is said by two windows in accord.

    So an outage is over with the first successes, though the last quarter of an hour is still full of it, and a
    provider that was found to work is not called failing again for what was before.
    """
    by_minutes = {window.minutes: window for window in windows}
    shortest, quarter = (by_minutes.get(minutes, HealthWindow(minutes)) for minutes in WINDOWS_MINUTES[:2])
    if _works(shortest) or _works(quarter):
        return Verdict.WORKING
    if _told(quarter) >= FAILING_OUTCOMES_MIN and _fails(quarter) and _fails(shortest):
        return Verdict.FAILING
    return Verdict.UNSURE


def _told(window: HealthWindow) -> int:
    return window.succeeded + window.failed


def _works(window: HealthWindow) -> bool:
    told = _told(window)
    return told >= WORKING_OUTCOMES_MIN and window.succeeded * 100 >= WORKING_SUCCESS_PERCENT * told


def _fails(window: HealthWindow) -> bool:
    return window.succeeded * 100 < FAILING_SUCCESS_PERCENT * _told(window)


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class ProviderHealthObserved:
    """The windows of a provider as they stood at its newest fact. Internal."""

    organization_id: OrganizationId
    slug: ProviderSlug
    observed_ms: int
    """Time of the newest fact that is counted; the windows end there."""
    windows: tuple[HealthWindow, ...]


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class ProviderDegraded:
    """Most of the newest runs at this provider fail for its own reasons; `windows` are the numbers that decided."""

    organization_id: OrganizationId
    slug: ProviderSlug
    observed_ms: int
    windows: tuple[HealthWindow, ...]


@dataclass(frozen=True, slots=True)
class ProviderRecovered:
    """Its newest runs succeed again; `windows` are the numbers that decided."""

    organization_id: OrganizationId
    slug: ProviderSlug
    observed_ms: int
    degraded_ms: int
    """Since when it had been degraded."""
    windows: tuple[HealthWindow, ...]


ProviderHealthEvent = ProviderDegraded | ProviderRecovered

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """A provider's health as the registry keeps it."""

    status: ProviderStatus = ProviderStatus.HEALTHY
    changed_ms: int = 0
    """`observed_ms` of the observation that changed it last."""
    sequence: int = 0


def evolve(health: ProviderHealth, event: ProviderHealthEvent) -> ProviderHealth:
    """Fold one fact."""
    match event:
        case ProviderDegraded():
            return replace(health, status=ProviderStatus.DEGRADED, changed_ms=event.observed_ms)
        case ProviderRecovered():
            return replace(health, status=ProviderStatus.HEALTHY, changed_ms=event.observed_ms)
        case _:
            assert_never(event)


# ---------------------------------------------------------------- decide


def decide(health: ProviderHealth | None, observed: ProviderHealthObserved) -> Sequence[ProviderHealthEvent]:
    """One fact when the observation changes what is known, else none.

    One that is older than the last change says what was before it: a repetition, or a late word of a former observer.
    """
    known = health or ProviderHealth()
    if observed.observed_ms < known.changed_ms:
        return ()
    verdict = verdict_of(observed.windows)
    if verdict is Verdict.FAILING and known.status is ProviderStatus.HEALTHY:
        return (ProviderDegraded(observed.organization_id, observed.slug, observed.observed_ms, observed.windows),)
    if verdict is Verdict.WORKING and known.status is ProviderStatus.DEGRADED:
        return (
            ProviderRecovered(
                observed.organization_id, observed.slug, observed.observed_ms, known.changed_ms, observed.windows
            ),
        )
    return ()
