"""What a rejection takes back from a journal: what stands between the question and the step that was refused."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from browser_runner.journal import (
    may_ask_again,
    plan_resume,
    rejections_of,
    repeated_by,
    without_rejected,
)
from browser_runner.rejection import WORDS_CHARS_MAX, clean
from kernel.domain.ids import SubjectId
from kernel.domain.task import JournalEntry
from kernel.domain.values import Effect, Sealed, SealedBody
from kernel.domain.workflow_run import StepStatus
from kernel.steps.document import StepsDocument, parse_document

BUTTON = {"locators": [{"role": "button", "name": "Go on"}]}


def document(*steps: dict[str, Any]) -> StepsDocument:
    return parse_document(msgspec.json.encode({"version": 1, "steps": steps}))


def step(kind: str, id_: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"id": id_, "type": kind, "params": params}


OPEN = step("navigate", "open", {"url": "https://shop.example/login"})
LOOK = step("extract", "look", {"rows": {"css": "tr"}, "fields": {"a": {}}})
ASK = step("ask_user", "ask", {"fields": [{"name": "code", "secret": True}]})
TYPE = step("fill", "type", {"target": BUTTON, "value": "x"})
SUBMIT = step("click", "submit", {"target": BUTTON})
AFTER = step("navigate", "after", {"url": "https://shop.example/home"})
LOGIN = document(OPEN, ASK, LOOK, TYPE, SUBMIT, AFTER)


def entry(path: str, effect: Effect = Effect.READ, *, url: str = "", asks_again: str = "") -> JournalEntry:
    sealed = Sealed(SubjectId("s"), url.encode()) if url else Sealed()
    status = StepStatus.FAILED if asks_again else StepStatus.COMPLETED
    return JournalEntry(path, status, effect, SealedBody(), bool(url), sealed, path.endswith("ask"), "", asks_again)


OPENED, ASKED, LOOKED = entry("open", url="/login"), entry("ask"), entry("look")
TYPED, SUBMITTED = entry("type", Effect.IDEMPOTENT), entry("submit", Effect.ONCE, url="/home")
REFUSED = entry("submit", Effect.ONCE, asks_again="ask")


def test_a_refused_step_is_walked_again_though_it_acts_once() -> None:
    resume = plan_resume(LOGIN, [OPENED, ASKED, LOOKED, TYPED, REFUSED], ("submit",), with_page=True)
    assert resume.taken.keys() == {"open"}
    assert resume.unknown == {"submit"}
    assert not resume.releases.get("submit")


def test_the_page_is_not_entered_behind_what_was_taken_back() -> None:
    asked = entry("ask", url="/code")
    resume = plan_resume(LOGIN, [OPENED, asked, REFUSED], (), with_page=True)
    assert resume.url.box == b"/login"


def test_what_was_taken_by_an_earlier_attempt_is_taken_back_too() -> None:
    """`look` stands from the first attempt; the second one asked anew and was refused: it looks again."""
    entries = [OPENED, ASKED, LOOKED, ASKED, TYPED, REFUSED]
    assert plan_resume(LOGIN, entries, (), with_page=True).taken.keys() == {"open"}


def test_what_comes_after_a_rejection_stands() -> None:
    entries = [OPENED, ASKED, TYPED, REFUSED, ASKED, LOOKED, TYPED, SUBMITTED]
    resume = plan_resume(LOGIN, entries, (), with_page=True)
    assert resume.taken.keys() == {"open", "ask", "look", "type", "submit"}
    assert resume.url.box == b"/home"


def test_only_the_same_item_of_a_loop_is_walked_again() -> None:
    walk = document(step("for_each", "each", {"items": "[1]", "body": [ASK, TYPE, SUBMIT]}), AFTER)
    is_repeated = repeated_by(walk, "each[1].ask", "each[1].submit")
    assert is_repeated("each[1].type")
    assert not is_repeated("each[0].type")
    assert not is_repeated("each[10].ask")
    assert not is_repeated("after")


def test_a_loop_between_the_question_and_its_refusal_is_walked_again_as_a_whole() -> None:
    walk = document(ASK, step("for_each", "each", {"items": "[1]", "body": [TYPE]}), SUBMIT)
    is_repeated = repeated_by(walk, "ask", "submit")
    assert is_repeated("each")
    assert is_repeated("each[7].type")


def test_a_question_is_asked_three_times_in_all_and_only_if_it_was_answered() -> None:
    assert not may_ask_again([OPENED], "ask")
    assert may_ask_again([OPENED, ASKED], "ask")
    assert may_ask_again([ASKED, REFUSED, ASKED], "ask")
    assert not may_ask_again([ASKED, REFUSED, ASKED, REFUSED, ASKED], "ask")
    assert len(rejections_of([ASKED, REFUSED, ASKED, REFUSED], "ask")) == 2


STEPS = st.sampled_from([OPENED, ASKED, LOOKED, TYPED, SUBMITTED, REFUSED])


@given(st.lists(STEPS, max_size=12))
def test_after_a_rejection_nothing_of_its_stretch_stands(entries: list[JournalEntry]) -> None:
    kept = without_rejected(LOGIN, entries)
    assert not any(entry.asks_again for entry in kept)
    last = max((at for at, entry in enumerate(entries) if entry.asks_again), default=-1)
    stretch = {"ask", "look", "type", "submit"}
    assert [entry for entry in kept if entry.path in stretch] == [e for e in entries[last + 1 :] if e.path in stretch]
    assert [entry for entry in kept if entry.path not in stretch] == [e for e in entries if e.path not in stretch]


def test_what_a_site_says_is_one_short_line() -> None:
    assert clean("  Wrong\n\tcode\u202e!\x00 ") == "Wrong code !"
    assert len(clean("a" * 1000)) == WORDS_CHARS_MAX
