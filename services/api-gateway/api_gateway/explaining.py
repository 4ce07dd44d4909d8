"""Why does a run stand where it stands, what was tried, what comes next? In words, for a person who asks. Pure.

Everything is told from what read models know, so an explanation costs nothing until somebody asks for it. It looks for
one reason, in the order in which they bind: the run is ending, it waits for a time, for a person, for its login, for
its provider, for a runner; and only then is it simply about to go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from api_gateway.failing import error_code
from api_gateway.runner_slots import PoolSlots
from kernel.domain.input_request import InputRequestAnswered, InputRequestExpired, InputRequestOpened
from kernel.domain.job_run import RunCancelAccepted
from kernel.domain.provider_health import Outcome, outcome_of
from kernel.domain.values import FailureKind, Pool
from kernel.domain.workflow_run import (
    ENDED_WELL,
    TERMINAL,
    StepStatus,
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunResumed,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)

TOLD = (
    WorkflowRunCreated, WorkflowRunStarted, WorkflowRunRequeued, WorkflowRunAwaitingUserInput, WorkflowRunResumed,
    WorkflowRunCompleted, WorkflowRunFailed, RunCancelAccepted, InputRequestOpened, InputRequestAnswered,
    InputRequestExpired,
)  # fmt: skip
"""The facts that an explanation is made of, beside the last step."""


@dataclass(frozen=True, slots=True)
class Told:
    """One fact and when it was decided."""

    time_ms: int
    event: Any


@dataclass(frozen=True, slots=True)
class Holder:
    """Another run that has the login."""

    workflow_run_id: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class ProviderUse:
    """How many runs of the organization work at a provider, and how many may; `limit` 0: any number."""

    provider: str
    limit: int
    working: int


@dataclass(frozen=True, slots=True)
class Outage:
    """When the provider was degraded last; `until_ms` 0: it still is."""

    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is known of one workflow run at `now_ms`."""

    now_ms: int
    workflow_run_id: str
    status: WorkflowRunStatus
    current_name: str
    facts: Sequence[Told]
    """Of `TOLD`, oldest first."""
    last_step: WorkflowRunStepFinished | None
    last_step_tries: int
    """How many tries the document gives the last step; 0: not known."""
    pool: Pool
    slots: PoolSlots | None
    """None: not known yet."""
    holder: Holder | None
    provider: ProviderUse
    outage: Outage | None = None
    """The last one of its provider, asked for when the run has failed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the history."""

    time_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a run waits for. `details` holds what belongs to the kind; times in it end in `_ms`."""

    kind: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `waiting` None: it waits for nothing, it works or has ended."""

    state: WorkflowRunStatus
    summary: str
    waiting: Waiting | None
    history: list[Line]
    next: str
    hints: list[str]


def explain(situation: Situation) -> Explanation:
    """The whole answer."""
    history = list(_history(situation.facts))
    if situation.status in TERMINAL:
        summary, hints = _end(situation)
        return Explanation(situation.status, summary, None, history, "Nothing: the run has ended.", hints)
    summary, waiting, what_next, hints = _live(situation)
    return Explanation(situation.status, summary, waiting, history, what_next, hints)


# ---------------------------------------------------------------- runs under way

_Said = tuple[str, Waiting | None, str, list[str]]


def _live(at: Situation) -> _Said:
    cancelled = _newest(at.facts, RunCancelAccepted)
    if cancelled is not None:
        return (
            "The run is being cancelled.",
            Waiting("cancel", {"since_ms": cancelled.time_ms}),
            "Its runner stops at the next safe point; without a word from it the run ends by itself within seconds.",
            [],
        )
    match at.status:
        case WorkflowRunStatus.AWAITING_USER_INPUT:
            return _asking(at)
        case WorkflowRunStatus.IN_PROGRESS:
            return _working(at)
        case _:
            return _pending(at)


def _asking(at: Situation) -> _Said:
    opened = _newest(at.facts, InputRequestOpened)
    assert opened is not None
    event: InputRequestOpened = opened.event
    details = {
        "input_request_id": event.input_request_id,
        "input_kind": event.kind,
        "step_id": event.step_id,
        "attempt": event.attempt,
        "since_ms": opened.time_ms,
        "until_ms": event.expires_ms,
    }
    again = f" for the {_nth(event.attempt)} time" if event.attempt > 1 else ""
    left = _span(event.expires_ms - at.now_ms)
    return (
        f"The run asks a person{again} ({event.kind}, step {event.step_id}); the answer is due in {left}.",
        Waiting("input", details),
        "With the answer the run goes on; without it, it fails with input_expired.",
        [f"Answer it: POST /api/v2/input-requests/{event.input_request_id}/answer"],
    )


def _working(at: Situation) -> _Said:
    started = _newest(at.facts, WorkflowRunStarted, WorkflowRunResumed)
    begun = started.time_ms if started else at.now_ms
    since = max(begun, at.last_step.finished_ms if at.last_step else 0)
    step = f"step {at.current_name}" if at.current_name else "its first step"
    attempt = _attempts(at.facts)
    tries = f" in attempt {attempt}" if attempt > 1 else ""
    return (
        f"A runner carries out {step}, since {_span(at.now_ms - since)}{tries}.",
        None,
        "The steps that follow.",
        [],
    )


def _pending(at: Situation) -> _Said:
    requeued = _newest(at.facts, WorkflowRunRequeued, WorkflowRunStarted)
    if requeued is not None and isinstance(requeued.event, WorkflowRunRequeued):
        until = requeued.event.resume_ms
        if until > at.now_ms:
            return _delayed(at, until) if requeued.event.reason == "delayed" else _fenced(at, until)
    since = at.facts[-1].time_ms if at.facts else at.now_ms
    waited = f"It waits for {_span(at.now_ms - since)}."
    if at.holder is not None:
        return _held(at.holder, at.now_ms)
    use = at.provider
    if use.limit and use.working >= use.limit:
        return (
            f"{use.working} of at most {use.limit} runs work at {use.provider} now. {waited}",
            Waiting("provider_limit", {"provider": use.provider, "limit": use.limit, "working": use.working}),
            "It begins when one of them has ended or waits for a person.",
            ["The limit is the provider's `concurrency`."],
        )
    return _queued(at, waited)


def _queued(at: Situation, waited: str) -> _Said:
    slots = at.slots
    if slots is None:
        details: dict[str, Any] = {"pool": at.pool.value}
        return (f"It waits for a slot in the pool {at.pool}. {waited}", Waiting("slot", details), _BEGINS, [])
    if slots.runners == 0:
        hint = "Start a runner for this pool; without a browser on its machine a runner serves the pool light only."
        summary = f"No runner is connected for the pool {at.pool}. {waited}"
        return (summary, Waiting("runner", {"pool": at.pool.value}), "It begins when a runner connects.", [hint])
    details = {"pool": at.pool.value, "slots": slots.slots, "busy": slots.busy}
    if slots.busy >= slots.slots:
        summary = f"No free slot in the pool {at.pool}: {slots.busy} of {slots.slots} are busy. {waited}"
        return (summary, Waiting("slot", details), _BEGINS, ["More slots, or more runners, make the wait shorter."])
    summary = (
        f"A slot in the pool {at.pool} is free ({slots.busy} of {slots.slots} busy); a runner is about to take it."
    )
    return (summary, Waiting("assignment", details), "A runner begins its attempt.", [])


_BEGINS = "It begins when a slot becomes free, in turn with the other organizations."


def _held(holder: Holder, now_ms: int) -> _Said:
    since = _span(now_ms - holder.since_ms)
    return (
        f"Its login is in use by the run {holder.workflow_run_id}, since {since}; one run at a time uses a login.",
        Waiting("connection", {"held_by": holder.workflow_run_id, "since_ms": holder.since_ms}),
        "It begins when that run has ended or is parked.",
        [f"Why that one takes so long: GET /api/v2/workflow-runs/{holder.workflow_run_id}/explain"],
    )


def _delayed(at: Situation, until: int) -> _Said:
    step = at.last_step
    details: dict[str, Any] = {"until_ms": until}
    if step is None or step.status is not StepStatus.FAILED:
        return (
            f"It goes on in {_span(until - at.now_ms)}.",
            Waiting("timer", details),
            "The next try of its step.",
            [],
        )
    tries = f"try {step.tries}" + (f" of {at.last_step_tries}" if at.last_step_tries else "")
    details.update(step_id=step.step_id, error_code=step.failure.code, tries=step.tries)
    if at.last_step_tries:
        details["tries_max"] = at.last_step_tries
    failed = f"Step {step.name or step.step_id} failed with {step.failure.code} ({tries})"
    return (
        f"{failed}; it is tried again in {_span(until - at.now_ms)}.",
        Waiting("timer", details),
        "The next try of this step, in a fresh attempt.",
        [],
    )


def _fenced(at: Situation, until: int) -> _Said:
    begins = f"the next attempt begins in {_span(until - at.now_ms)} at the earliest"
    return (
        f"Its runner was lost; {begins}, when nothing of the lost one can reach the outside any more.",
        Waiting("fence", {"until_ms": until}),
        f"Attempt {_attempts(at.facts) + 1}, from the last safe point.",
        [],
    )


# ---------------------------------------------------------------- runs that have ended

_DECIDED_OVER_MS = 15 * 60_000
"""An outage is found by failures that stand before it."""
_HINTS = {
    "step_failed": "Look at the failed step: its error, its diagnosis and its picture.",
    "step_timeout": "The page was slower than the step's timeoutMs allows; raise it if that is usual there.",
    "step_outcome_unknown": "Look at the provider whether the step has happened before you repeat the run.",
    "login_failed": "Run the LOGIN workflow of this customer first.",
    "login_rejected": "The credentials were refused; start a new run with the right ones.",
    "connection_locked": "Too many wrong credentials; the customer has to repair the login.",
    "input_expired": "Nobody answered in time; repeat the run when somebody is there.",
    "navigation_blocked": "The page leads to a host that the workflow may not reach; allow it in the provider.",
    "provider_unavailable": "The provider did not answer; repeat the run later.",
    "timed_out": "The run took longer than its time-out.",
    "runner_lost": "Runners were lost again and again; look at their logs and at the memory of their machines.",
    "internal": "The platform could not go on; its log tells more.",
}
_WORTH_REPEATING = frozenset({"provider_unavailable", "runner_lost", "step_timeout", "timed_out", "input_expired"})
_TEMPORARY_UNLESS_DONE = frozenset({"expect_failed", "step_timeout"})
"""Runners call these permanent only where an act that must not be done twice was carried out."""
_NOT_WORTH_REPEATING = frozenset({"login_rejected", "connection_locked", "navigation_blocked"})


def _end(at: Situation) -> tuple[str, list[str]]:
    if at.status in ENDED_WELL:
        nothing = at.status is WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN
        return ("The run found nothing to do." if nothing else "The run has done all its steps."), []
    failed = _newest(at.facts, WorkflowRunFailed)
    failure = failed.event.failure if failed else None
    code = error_code(at.status, failure.code if failure else "")
    if code == "cancelled":
        return "The run was cancelled.", ["A retry with from=failed begins at this workflow again."]
    place = f" in step {failure.step_name or failure.step_id}" if failure and failure.step_id else ""
    exact = f" ({failure.code})" if failure and failure.code not in {"", code} else ""
    hints = [*_outage(at, failed), *([_HINTS[code]] if code in _HINTS else [])]
    temporary = failure is not None and failure.kind is FailureKind.TEMPORARY
    if failure is not None and failure.code in _TEMPORARY_UNLESS_DONE and not temporary:
        hints.append("The step acts once and may have happened: look at the provider before you repeat the run.")
    elif temporary or code in _WORTH_REPEATING:
        hints.append("A retry makes sense: the reason may pass by itself.")
    elif code in _NOT_WORTH_REPEATING:
        hints.append("A retry ends the same way until the reason is removed.")
    else:
        hints.append("A retry repeats the same steps; it helps when the reason was in the page or is removed.")
    return f"The run failed with {code}{exact}{place}.", hints


def _outage(at: Situation, failed: Told | None) -> Iterator[str]:
    """What everybody's runs say about the provider at that time, when this failure is one of theirs."""
    outage = at.outage
    if outage is None or failed is None:
        return
    event: WorkflowRunFailed = failed.event
    is_the_providers = outcome_of(event.status, event.failure.code) is Outcome.FAILED
    if not is_the_providers or failed.time_ms < outage.since_ms - _DECIDED_OVER_MS:
        return
    since = f"The provider {at.provider.provider} has been failing for everybody since {_clock(outage.since_ms)}"
    if not outage.until_ms:
        yield f"{since}: most of its newest runs failed; look at its health before you repeat this one."
    elif failed.time_ms <= outage.until_ms:
        began, ended = _clock(outage.since_ms), _clock(outage.until_ms)
        yield f"The provider {at.provider.provider} was failing for everybody from {began} to {ended}; it works again."


# ---------------------------------------------------------------- what was tried

_WHY_REQUEUED = {
    "lapsed": "its runner was lost",
    "released": "its runner went down in good order and handed it back",
    "delayed": "a step failed and is tried again later",
    "answered": "it was parked, and the answer came",
}


def _history(facts: Sequence[Told]) -> Iterator[Line]:
    for told in facts:
        text = _line(told.event)
        if text:
            yield Line(told.time_ms, text)


def _line(event: Any) -> str:
    match event:
        case WorkflowRunCreated(retry_of=before):
            return f"The run was created, as a retry of {before}." if before else "The run was created."
        case WorkflowRunStarted(attempt=attempt):
            return f"A runner began attempt {attempt}."
        case WorkflowRunRequeued(reason=reason):
            return f"The attempt ended: {_WHY_REQUEUED.get(reason, reason)}."
        case InputRequestOpened(kind=kind, step_id=step_id):
            return f"Step {step_id} asked a person ({kind})."
        case InputRequestAnswered():
            return "The person answered."
        case InputRequestExpired():
            return "Nobody answered in time."
        case RunCancelAccepted():
            return "A cancel was accepted."
        case WorkflowRunCompleted():
            return "The run completed."
        case WorkflowRunFailed(status=status, failure=failure):
            return f"The run ended: {error_code(status, failure.code)}."
        case _:
            return ""


# ---------------------------------------------------------------- small things


def _newest(facts: Sequence[Told], *kinds: type) -> Told | None:
    return next((told for told in reversed(facts) if isinstance(told.event, kinds)), None)


def _attempts(facts: Sequence[Told]) -> int:
    started = _newest(facts, WorkflowRunStarted)
    return started.event.attempt if started else 0


def _span(milliseconds: int) -> str:
    """`12 s`, `3 min`, `2 h`; never below nothing."""
    seconds = max(milliseconds, 0) / 1000
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _clock(time_ms: int) -> str:
    """`2026-01-31 23:59 UTC`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _nth(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
