"""What an attempt takes from earlier ones: safe points, repetition, unknown acts, tries."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from browser_runner.journal import (
    Settling,
    delay_ms,
    how_to_settle,
    is_safe_point,
    item_prefix,
    plan_resume,
    step_id_of,
    tries_spent,
)  # fmt: skip
from kernel.domain.ids import SubjectId
from kernel.domain.task import JournalEntry
from kernel.domain.values import Effect, Sealed, SealedBody
from kernel.domain.workflow_run import StepStatus
from kernel.steps.document import Backoff, Retry, Step, StepsDocument, parse_document
from kernel.steps.effects import retry_of

BUTTON = {"locators": [{"role": "button", "name": "Save"}]}


def document(*steps: dict[str, Any]) -> StepsDocument:
    return parse_document(msgspec.json.encode({"version": 1, "steps": steps}))


def step(kind: str, id_: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": kind, "params": params, **more}


OPEN = step("navigate", "open", {"url": "https://shop.example"})
FILL = step("fill", "fill", {"target": BUTTON, "value": "x"})
SAVE = step("click", "save", {"target": BUTTON})
READ = step("extract", "read", {"rows": {"css": "tr"}, "fields": {"a": {}}})
ASK = step("ask_user", "ask", {"fields": [{"name": "code", "secret": True}]})
WALK = document(OPEN, FILL, READ, ASK, SAVE)


def entry(path: str, effect: Effect = Effect.READ, *, url: str = "", **more: Any) -> JournalEntry:
    sealed = Sealed(SubjectId("s"), url.encode()) if url else Sealed()
    status = more.pop("status", StepStatus.COMPLETED)
    return JournalEntry(path, status, effect, SealedBody(), bool(url), sealed, more.pop("consumed", False))


OPENED = entry("open", url="/a")
FILLED = entry("fill", Effect.IDEMPOTENT)


def test_behind_the_last_safe_point_moves_are_repeated_and_looks_are_taken() -> None:
    resume = plan_resume(WALK, [OPENED, FILLED, entry("read")], (), with_page=True)
    assert resume.url.box == b"/a"
    assert resume.taken.keys() == {"open", "read"}


def test_up_to_the_last_safe_point_everything_is_taken() -> None:
    saved = entry("save", Effect.ONCE, url="/done")
    resume = plan_resume(WALK, [OPENED, FILLED, entry("read"), entry("ask", consumed=True), saved], (), with_page=True)
    assert resume.url.box == b"/done"
    assert resume.taken.keys() == {"open", "fill", "read", "ask", "save"}


def test_without_a_page_everything_is_taken() -> None:
    resume = plan_resume(WALK, [OPENED, FILLED], (), with_page=False)
    assert resume.url.box == b""
    assert resume.taken.keys() == {"open", "fill"}


def test_an_act_that_was_done_once_is_taken_even_where_its_page_cannot_be_entered_again() -> None:
    resume = plan_resume(WALK, [OPENED, FILLED, entry("save", Effect.ONCE)], (), with_page=True)
    assert resume.taken.keys() == {"open", "save"}


def test_an_act_that_failed_once_is_not_tried_again() -> None:
    failed = entry("save", Effect.ONCE, status=StepStatus.FAILED)
    assert "save" in plan_resume(WALK, [failed], (), with_page=True).taken


def test_a_one_time_answer_is_asked_for_again() -> None:
    resume = plan_resume(WALK, [OPENED, entry("ask", consumed=True)], (), with_page=True)
    assert "ask" not in resume.taken


def test_a_failed_step_is_run_again_unless_it_was_given_up() -> None:
    failed = entry("open", status=StepStatus.FAILED)
    resume = plan_resume(WALK, [failed], (), with_page=True)
    assert (resume.taken, resume.releases["open"]) == ({}, 1)
    lenient = document(step("assert", "x", {"that": ["true"]}, onError="continue"))
    assert "x" in plan_resume(lenient, [entry("x", status=StepStatus.FAILED)], (), with_page=False).taken


def test_an_unknown_act_stays_unknown_until_it_is_taken() -> None:
    assert plan_resume(WALK, [OPENED], ("save",), with_page=True).unknown == {"save"}
    assert not plan_resume(WALK, [entry("save", Effect.ONCE)], ("save",), with_page=True).unknown


def test_an_unknown_act_is_settled_by_its_check_else_by_a_person_else_not_at_all() -> None:
    checked = document(step("click", "a", {"target": BUTTON, "check": {"text": "saved"}}))
    assert how_to_settle(checked, checked.steps[0]) is Settling.CHECK
    assert how_to_settle(WALK, WALK.steps[-1]) is Settling.ASK
    alone = document(SAVE)
    assert how_to_settle(alone, alone.steps[0]) is Settling.FAIL


@pytest.mark.parametrize(
    ("raw", "before", "after", "expected"),
    [
        (OPEN, "/a", "/a", True),
        (FILL, "/a", "/a", False),
        (SAVE, "/a", "/a", True),
        ({**SAVE, "effect": "once", "safePoint": False}, "/a", "/b", True),
        (step("press", "p", {"keys": "Tab"}), "/a", "/b", True),
        (step("press", "p", {"keys": "Tab"}), "/a", "/a", False),
        ({**FILL, "safePoint": True}, "/a", "/a", True),
        ({**OPEN, "safePoint": False}, "/a", "/b", False),
    ],
)
def test_where_a_walk_may_begin(raw: dict[str, Any], before: str, after: str, expected: bool) -> None:
    parsed: Step = document(raw).steps[0]
    assert is_safe_point(parsed, url_before=before, url_after=after) is expected


def test_paths_name_the_items_of_loops() -> None:
    path = item_prefix(item_prefix("orders", 2) + "lines", 0) + "open"
    assert (path, step_id_of(path)) == ("orders[2].lines[0].open", "open")


def test_acts_are_tried_once_and_the_rest_three_times() -> None:
    assert [retry_of(parsed).max_attempts for parsed in WALK.steps] == [3, 3, 3, 3, 1]


def test_tries_follow_from_the_failures_on_record() -> None:
    slow = Retry(max_attempts=4, delay_ms=4000, backoff=Backoff.EXPONENTIAL)
    assert [delay_ms(slow, tries) for tries in (1, 2, 3)] == [4000, 8000, 16000]
    assert [tries_spent(slow, failures) for failures in (0, 1, 2)] == [0, 3, 4]
    quick = Retry(max_attempts=3, delay_ms=10)
    assert [tries_spent(quick, failures) for failures in (0, 1)] == [0, 3]
