"""Why runs fail, in the few words that clients test. Pure.

The domain and the runner say exactly what went wrong (`target_missing`, `download_too_large`); there may be more such
codes in every release. Clients get one of a fixed set beside the exact one.
"""

from __future__ import annotations

from typing import assert_never

from kernel.domain.job_run import JobRunStatus
from kernel.domain.workflow_run import WorkflowRunStatus

ERROR_CODES = frozenset({
    "step_failed", "terminated", "timed_out", "step_timeout", "step_outcome_unknown", "login_failed", "login_rejected",
    "connection_locked", "input_expired", "navigation_blocked", "provider_unavailable", "budget_exhausted", "cancelled",
    "runner_lost", "internal",
})  # fmt: skip
"""All there are."""

_WORDS = {
    "navigation_failed": "provider_unavailable",
    "browser_lost": "runner_lost",
    "secret_host_refused": "navigation_blocked",
    "artifact_failed": "internal",
    "browser_unavailable": "internal",
    "report_too_long": "internal",
    "task_too_long": "internal",
    "task_unreadable": "internal",
}
"""Exact codes that are no plain failure of a step; what is not here and no error code itself is `step_failed`."""


def error_code(status: WorkflowRunStatus, reason: str) -> str:
    """The word for a workflow run's end; empty while it lives and when it ended well."""
    match status:
        case WorkflowRunStatus.FAILED:
            return reason if reason in ERROR_CODES else _WORDS.get(reason, "step_failed" if reason else "internal")
        case WorkflowRunStatus.TERMINATED:
            return "terminated"
        case WorkflowRunStatus.TIMED_OUT:
            return "timed_out"
        case WorkflowRunStatus.BUDGET_EXHAUSTED:
            return "budget_exhausted"
        case WorkflowRunStatus.CANCELLED:
            return "cancelled"
        case (
            WorkflowRunStatus.PENDING
            | WorkflowRunStatus.IN_PROGRESS
            | WorkflowRunStatus.AWAITING_USER_INPUT
            | WorkflowRunStatus.COMPLETED
            | WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN
        ):
            return ""
        case _:
            assert_never(status)


def job_error_code(status: JobRunStatus, failed: WorkflowRunStatus | None, reason: str) -> str:
    """The word for a job run's end; `failed` is how its failed workflow run ended, None when that is not known."""
    if status is JobRunStatus.CANCELLED:
        return "cancelled"
    if status is not JobRunStatus.FAILED:
        return ""
    return error_code(failed or WorkflowRunStatus.FAILED, reason)
