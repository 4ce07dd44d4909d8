"""Why a run stands where it stands: given a situation, then words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api_gateway.explaining import Holder, Outage, ProviderUse, Situation, Told, explain
from api_gateway.failing import ERROR_CODES, error_code, job_error_code
from api_gateway.runner_slots import FRESH_MS, PoolSlots, RunnerSlots
from kernel.domain.ids import (
    InputRequestId,
    JobRunId,
    OrganizationId,
    ProviderSlug,
    RequestId,
    TaskId,
    UserId,
    WorkflowId,
    WorkflowRunId,
)
from kernel.domain.input_request import InputRequestOpened
from kernel.domain.job_run import JobRunStatus, RunCancelAccepted
from kernel.domain.task import HeldTask
from kernel.domain.values import Effect, Failure, FailureKind, Pool, Sealed, SealedBody, Token
from kernel.domain.workflow_run import (
    ENDED_WELL,
    TERMINAL,
    StepStatus,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)
from tests.support.runs import SEALED, SUBJECT, heartbeat

RUN = WorkflowRunId("run-1")
NOW = 1_000_000
ACME = OrganizationId("org-1")
PENDING, RUNNING = WorkflowRunStatus.PENDING, WorkflowRunStatus.IN_PROGRESS
CREATED = WorkflowRunCreated(
    RUN, JobRunId(""), WorkflowId("w"), 1, ProviderSlug("shop"), ACME, SUBJECT, SEALED, False, UserId("u"), "", 0,
    RequestId("r"),
)  # fmt: skip
FREE = PoolSlots(runners=1, slots=2, busy=1)


def at(status: WorkflowRunStatus = PENDING, *facts: Any, **more: Any) -> Situation:
    """The run, created a minute ago, with `facts` a second apart since."""
    told = [Told(NOW - 60_000 + 1000 * number, event) for number, event in enumerate((CREATED, *facts))]
    known = Situation(NOW, RUN, status, "paying", told, None, 0, Pool.BROWSER, FREE, None, ProviderUse("shop", 0, 0))
    return replace(known, **more)


def failed_step(tries: int = 2) -> WorkflowRunStepFinished:
    return WorkflowRunStepFinished(
        RUN, 1, "pay", "pay", "paying", "click", Effect.READ, StepStatus.FAILED, tries, 0, 1, SealedBody(),
        Failure("target_missing"), "", "",
    )  # fmt: skip


def opened() -> InputRequestOpened:
    return InputRequestOpened(
        InputRequestId("q"), RUN, JobRunId(""), ACME, SUBJECT, SEALED, "mfa", "mfa_code", Sealed(), (), 2, NOW + 60_000
    )


LOST = WorkflowRunRequeued(RUN, "lapsed", NOW + 4_000)
LATER = WorkflowRunRequeued(RUN, "delayed", NOW + 120_000)
SITUATIONS = {
    "slot": at(slots=PoolSlots(1, 2, 2)),
    "runner": at(slots=PoolSlots(0, 0, 0)),
    "assignment": at(),
    "connection": at(holder=Holder("other", NOW - 5_000)),
    "provider_limit": at(provider=ProviderUse("shop", 2, 2)),
    "timer": at(PENDING, LATER, last_step=failed_step(), last_step_tries=3),
    "fence": at(PENDING, WorkflowRunStarted(RUN, 1), LOST),
    "cancel": at(RUNNING, RunCancelAccepted(RequestId("c"), "run-1")),
    "input": at(WorkflowRunStatus.AWAITING_USER_INPUT, opened()),
}
WORDS = {
    "slot": "2 of 2 are busy",
    "runner": "No runner is connected for the pool browser",
    "assignment": "a runner is about to take it",
    "connection": "in use by the run other, since 5 s",
    "provider_limit": "2 of at most 2 runs work at shop",
    "timer": "paying failed with target_missing (try 2 of 3); it is tried again in 2 min",
    "fence": "next attempt begins in 4 s at the earliest",
    "cancel": "being cancelled",
    "input": "asks a person for the second time (mfa_code, step mfa); the answer is due in 60 s",
}


@pytest.mark.parametrize("kind", sorted(SITUATIONS))
def test_a_live_run_says_what_it_waits_for(kind: str) -> None:
    explained = explain(SITUATIONS[kind])
    assert explained.waiting is not None
    assert explained.waiting.kind == kind
    assert WORDS[kind] in explained.summary
    assert explained.next


def test_a_slot_is_waited_for_before_any_heartbeat_was_heard() -> None:
    explained = explain(at(slots=None))
    assert explained.waiting is not None
    assert explained.waiting.details == {"pool": "browser"}


def test_a_run_at_work_says_its_step_and_since_when() -> None:
    explained = explain(at(RUNNING, WorkflowRunStarted(RUN, 2)))
    assert explained.waiting is None
    assert explained.summary == "A runner carries out step paying, since 59 s in attempt 2."


def test_a_wait_that_is_over_is_waited_for_no_more() -> None:
    over = replace(SITUATIONS["fence"], now_ms=NOW + 4_000)
    assert explain(over).waiting != explain(SITUATIONS["fence"]).waiting


def test_what_was_tried_is_told_in_order_with_the_reason_of_each_end() -> None:
    lines = [line.text for line in explain(SITUATIONS["fence"]).history]
    assert lines == [
        "The run was created.", "A runner began attempt 1.", "The attempt ended: its runner was lost.",
    ]  # fmt: skip


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_every_end_is_explained(status: WorkflowRunStatus) -> None:
    failure = Failure("target_missing", FailureKind.TEMPORARY, Sealed(), "pay", "paying")
    facts = [] if status in ENDED_WELL else [WorkflowRunFailed(RUN, status, failure)]
    explained = explain(at(status, *facts))
    assert explained.waiting is None
    assert explained.summary
    assert bool(explained.hints) == (status not in ENDED_WELL)


def test_a_failure_names_its_step_its_exact_reason_and_whether_a_retry_makes_sense() -> None:
    failure = Failure("target_missing", FailureKind.TEMPORARY, Sealed(), "pay", "paying")
    explained = explain(at(WorkflowRunStatus.FAILED, WorkflowRunFailed(RUN, WorkflowRunStatus.FAILED, failure)))
    assert explained.summary == "The run failed with step_failed (target_missing) in step paying."
    assert explained.hints[-1].startswith("A retry makes sense")


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("status", sorted(WorkflowRunStatus))
@pytest.mark.parametrize("reason", ["", "target_missing", "navigation_failed", "login_rejected", "of my own"])
def test_every_end_has_one_of_the_fixed_codes(status: WorkflowRunStatus, reason: str) -> None:
    has_failed = status in TERMINAL - ENDED_WELL
    assert (error_code(status, reason) in ERROR_CODES) == has_failed
    assert bool(error_code(status, reason)) == has_failed


def test_a_job_run_fails_by_the_word_of_its_workflow_run() -> None:
    assert job_error_code(JobRunStatus.FAILED, WorkflowRunStatus.TERMINATED, "no_account") == "terminated"
    assert job_error_code(JobRunStatus.FAILED, None, "login_rejected") == "login_rejected"
    assert job_error_code(JobRunStatus.CANCELLED, None, "") == "cancelled"
    assert not job_error_code(JobRunStatus.COMPLETED, None, "")


# ---------------------------------------------------------------- slots


def test_slots_are_those_of_runners_that_were_heard_of_lately() -> None:
    slots = RunnerSlots()
    assert slots.of(Pool.BROWSER, 0) is None
    slots.begin(0)
    assert slots.of(Pool.BROWSER, FRESH_MS - 1) is None
    assert slots.of(Pool.BROWSER, FRESH_MS) == PoolSlots(0, 0, 0)


def test_pages_that_wait_take_no_slot_and_draining_runners_have_none() -> None:
    slots = RunnerSlots()
    held = (HeldTask(TaskId("t1"), Token(1, "a"), waiting=True), HeldTask(TaskId("t2"), Token(1, "b"), waiting=False))
    slots.heard(heartbeat("a", slots=3, held=held), 0)
    slots.heard(heartbeat("b", slots=2, draining=True), 0)
    assert slots.of(Pool.BROWSER, 0) == PoolSlots(1, 3, 1)
    assert slots.of(Pool.LIGHT, 0) is None


def failed_with(code: str, outage: Outage | None) -> str:
    """The hints of a run that failed 59 s ago."""
    end = WorkflowRunFailed(RUN, WorkflowRunStatus.FAILED, Failure(code))
    return "\n".join(explain(at(WorkflowRunStatus.FAILED, end, outage=outage)).hints)


def test_a_failure_among_many_names_the_outage_of_its_provider() -> None:
    still = Outage(NOW - 100_000, 0)
    assert "The provider shop has been failing for everybody since 1970-01-01 00:15 UTC" in failed_with(
        "target_missing", still
    )
    over = failed_with("target_missing", Outage(NOW - 100_000, NOW))
    assert "was failing for everybody from 1970-01-01 00:15 UTC to 1970-01-01 00:16 UTC; it works again" in over


@pytest.mark.parametrize(
    ("code", "outage"),
    [
        ("target_missing", None),
        ("login_rejected", Outage(NOW - 100_000, 0)),
        ("target_missing", Outage(NOW - 100_000, NOW - 90_000)),
        ("target_missing", Outage(NOW + 3_600_000, 0)),
    ],
)
def test_a_failure_of_its_own_blames_no_outage(code: str, outage: Outage | None) -> None:
    assert "for everybody" not in failed_with(code, outage)


@pytest.mark.parametrize("code", ["expect_failed", "step_timeout"])
def test_nobody_is_encouraged_to_repeat_an_act_that_may_have_happened(code: str) -> None:
    def hints(kind: FailureKind) -> str:
        end = WorkflowRunFailed(RUN, WorkflowRunStatus.FAILED, Failure(code, kind))
        return "\n".join(explain(at(WorkflowRunStatus.FAILED, end)).hints)

    assert "may have happened" in hints(FailureKind.PERMANENT)
    assert "makes sense" not in hints(FailureKind.PERMANENT)
    assert "makes sense" in hints(FailureKind.TEMPORARY)
