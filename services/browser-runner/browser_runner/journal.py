"""What an attempt takes from earlier ones: which results stand, where the page is entered again, what is unknown. Pure.

A run is a walk through its document in order. Entries say what earlier walks finished. The page that they worked on is
gone, so the walk enters it again at the last *safe point* by its URL. Results up to there stand. Behind it the results
of steps that only look stand too, and steps that move the page with effect `read` or `idempotent` are done again, so
that the page is where the next step expects it. A finished `once` step is always a safe point and never repeated; one
that was started and never finished is *unknown* and is settled by its check, by a person, or not at all (design 6.6).

A source that rejects an answer takes back what stands from the question up to the step that it refused: these entries
count no more, and the question is asked again. That the step was refused is a known outcome, so it may be repeated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kernel.domain.task import JournalEntry
from kernel.domain.values import Effect, Sealed
from kernel.domain.workflow_run import StepStatus
from kernel.steps.document import (
    AskUserStep,
    Backoff,
    ClickStep,
    FillStep,
    NavigateStep,
    OnError,
    PressStep,
    Retry,
    SelectStep,
    Step,
    StepsDocument,
    TickStep,
    UploadStep,
    all_steps,
)
from kernel.steps.effects import check_of, effect_of, retry_of

INLINE_DELAY_MS_MAX = 10_000
"""A longer delay between two tries hands the task back."""
ASKS_MAX = 3
"""How often one question is asked because the source rejects what was answered."""

_INNER = re.compile(r"[\[.]")
_MOVES = (NavigateStep, ClickStep, FillStep, SelectStep, TickStep, PressStep, UploadStep)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a walk begins."""

    taken: Mapping[str, JournalEntry] = field(default_factory=dict)
    """By path: the step is not run, its result stands."""
    url: Sealed = field(default_factory=Sealed)
    """The page is entered here; absent: it begins blank."""
    releases: Mapping[str, int] = field(default_factory=dict)
    """By path: how often a try failed and the task was handed back to wait."""
    unknown: frozenset[str] = frozenset()

    def without(self, is_repeated: Callable[[str], bool]) -> Resume:
        """The same, but these paths are walked anew."""
        taken = {path: entry for path, entry in self.taken.items() if not is_repeated(path)}
        releases = {path: count for path, count in self.releases.items() if not is_repeated(path)}
        unknown = frozenset(path for path in self.unknown if not is_repeated(path))
        return replace(self, taken=taken, releases=releases, unknown=unknown)


class Settling(StrEnum):
    """How the outcome of an unknown `once` step is found out."""

    CHECK = "check"
    ASK = "ask"
    FAIL = "fail"


def step_path(prefix: str, step_id: str) -> str:
    """Address of a step; `prefix` is what `item_prefix` made, empty outside of loops."""
    return prefix + step_id


def item_prefix(loop_path: str, index: int) -> str:
    """What stands before the ids inside the body of a loop: `orders[2].`."""
    return f"{loop_path}[{index}]."


def step_id_of(path: str) -> str:
    """The id of the step that `path` addresses."""
    return path.rsplit(".", 1)[-1]


def plan_resume(
    document: StepsDocument, entries: Sequence[JournalEntry], unknown: Sequence[str], *, with_page: bool
) -> Resume:
    """Decide what stands. `entries` in the order they were accepted; a later entry of a path replaces earlier ones."""
    steps = {step.id: step for step in all_steps(document)}
    entries = without_rejected(document, entries)
    last_safe = max((at for at, entry in enumerate(entries) if _is_entry_point(entry)), default=-1)
    taken: dict[str, JournalEntry] = {}
    releases: Counter[str] = Counter()
    for at, entry in enumerate(entries):
        step = steps.get(step_id_of(entry.path))
        releases[entry.path] += entry.status is StepStatus.FAILED
        before = not with_page or at <= last_safe
        if step is not None and _stands(step, entry, releases[entry.path], before_safe_point=before):
            taken[entry.path] = entry
        else:
            taken.pop(entry.path, None)
    return Resume(
        taken,
        entries[last_safe].url if with_page and last_safe >= 0 else Sealed(),
        releases,
        frozenset(unknown) - taken.keys(),
    )


def without_rejected(document: StepsDocument, entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """The entries that count: what a rejection has taken back is gone, and so is the rejection itself."""
    kept: list[JournalEntry] = []
    for entry in entries:
        if entry.asks_again:
            is_repeated = repeated_by(document, entry.asks_again, entry.path)
            kept = [earlier for earlier in kept if not is_repeated(earlier.path)]
        else:
            kept.append(entry)
    return kept


def repeated_by(document: StepsDocument, ask_path: str, rejected_path: str) -> Callable[[str], bool]:
    """Which paths are walked again when the question at `ask_path` is, because `rejected_path` was refused.

    All that stands between the two in the document, both included, with whatever is inside.
    """
    order = [step.id for step in all_steps(document)]
    asked = step_id_of(ask_path)
    prefix = ask_path.removesuffix(asked)
    repeated = frozenset(order[order.index(asked) : order.index(step_id_of(rejected_path)) + 1])

    def is_repeated(path: str) -> bool:
        return path.startswith(prefix) and _INNER.split(path[len(prefix) :], 1)[0] in repeated

    return is_repeated


def rejections_of(entries: Sequence[JournalEntry], ask_path: str) -> list[JournalEntry]:
    """The steps in which the source has rejected what was answered at `ask_path`, in order."""
    return [entry for entry in entries if entry.asks_again == ask_path]


def may_ask_again(entries: Sequence[JournalEntry], ask_path: str) -> bool:
    """Whether the question at `ask_path` was answered in this run, and may be asked once more after a rejection."""
    answered = any(entry.path == ask_path and entry.status is StepStatus.COMPLETED for entry in entries)
    return answered and len(rejections_of(entries, ask_path)) + 1 < ASKS_MAX


def _is_entry_point(entry: JournalEntry) -> bool:
    return entry.safe_point and bool(entry.url.box) and entry.status is not None


def _stands(step: Step, entry: JournalEntry, failures: int, *, before_safe_point: bool) -> bool:
    if entry.status is None:
        return False
    if entry.status is StepStatus.FAILED:
        retry = retry_of(step)
        given_up = step.on_error is OnError.CONTINUE and tries_spent(retry, failures) >= retry.max_attempts
        return effect_of(step) is Effect.ONCE or given_up
    if before_safe_point or entry.status is StepStatus.SKIPPED:
        return True
    if entry.consumed:
        return False
    return entry.effect is Effect.ONCE or not isinstance(step, _MOVES)


def how_to_settle(document: StepsDocument, step: Step) -> Settling:
    """A check if the author gave one, a person where the workflow asks people anyway, else nothing can be known."""
    if check_of(step) is not None:
        return Settling.CHECK
    if any(isinstance(other, AskUserStep) for other in all_steps(document)):
        return Settling.ASK
    return Settling.FAIL


def is_safe_point(step: Step, *, url_before: str, url_after: str) -> bool:
    """Whether a walk may begin behind this finished step."""
    if effect_of(step) is Effect.ONCE:
        return True
    if step.safe_point is not None:
        return step.safe_point
    if isinstance(step, NavigateStep):
        return True
    return isinstance(step, ClickStep | PressStep) and url_after != url_before


# ---------------------------------------------------------------- tries


def delay_ms(retry: Retry, tries: int) -> int:
    """How long to wait after `tries` tries have failed."""
    match retry.backoff:
        case Backoff.CONSTANT:
            return retry.delay_ms
        case Backoff.LINEAR:
            return retry.delay_ms * tries
        case Backoff.EXPONENTIAL:
            return min(retry.delay_ms << (tries - 1), 3_600_000)


def tries_spent(retry: Retry, releases: int) -> int:
    """How many tries stand behind `releases` failures on record.

    One is recorded where a long delay hands the task back, and one when the last try has failed; the policy says where.
    """
    handed_back = 0
    for tries in range(1, retry.max_attempts):
        if delay_ms(retry, tries) > INLINE_DELAY_MS_MAX:
            handed_back += 1
            if handed_back == releases:
                return tries
    return retry.max_attempts if releases > handed_back else 0
