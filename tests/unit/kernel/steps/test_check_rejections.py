"""What `rejected` may say when a workflow is saved."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.steps.check import check_document

CODE = {"locators": [{"label": "Code"}]}
BUTTON = {"locators": [{"role": "button", "name": "Go on"}]}
HOME = {"url": "https://shop.example/home"}
WRONG = {"text": "Wrong code"}


def step(kind: str, id_: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": kind, "params": params, **more}


OPEN = step("navigate", "open", {"url": "https://shop.example/login"})
ASK = step("ask_user", "ask", {"fields": [{"name": "code", "secret": True}]})
TYPE = step("fill", "type", {"target": CODE, "value": "{{steps.ask.code}}"})


def submit(id_: str = "submit", **rejected: Any) -> dict[str, Any]:
    return step("click", id_, {"target": BUTTON, "expect": HOME, "rejected": {"when": WRONG, **rejected}})


def faults(*steps: dict[str, Any]) -> list[tuple[str, str]]:
    return [(fault.path, fault.code) for fault in check_document({"version": 1, "steps": list(steps)})]


def test_a_question_before_the_step_may_be_asked_again() -> None:
    assert not faults(OPEN, ASK, TYPE, submit(ask="ask"))


def test_without_a_question_a_rejection_just_ends_the_run() -> None:
    assert not faults(OPEN, submit())


def test_without_a_post_condition_nothing_would_tell_that_it_was_accepted() -> None:
    bare = step("click", "submit", {"target": BUTTON, "rejected": {"when": WRONG}})
    assert faults(OPEN, bare) == [("/steps/1/params/rejected", "validation_failed")]


def test_a_rejection_is_something_that_the_page_shows() -> None:
    asked = submit(ask="ask", when={"response": {"url": "*/login"}})
    assert faults(OPEN, ASK, TYPE, asked) == [("/steps/3/params/rejected/when", "validation_failed")]


@pytest.mark.parametrize("name", ["open", "type", "submit", "nobody"])
def test_only_a_question_can_be_asked_again(name: str) -> None:
    assert faults(OPEN, ASK, TYPE, submit(ask=name)) == [("/steps/3/params/rejected/ask", "unknown_reference")]


def test_a_later_question_cannot_be_gone_back_to() -> None:
    later = step("ask_user", "later", {"fields": [{"name": "code"}]})
    assert faults(OPEN, submit(ask="later"), later) == [("/steps/1/params/rejected/ask", "unknown_reference")]


def test_a_question_outside_of_a_loop_is_not_asked_for_one_item() -> None:
    loop = step("for_each", "each", {"items": "[1]", "body": [TYPE, submit(ask="ask")]})
    assert faults(OPEN, ASK, loop) == [("/steps/2/params/body/1/params/rejected/ask", "unknown_reference")]


def test_a_question_inside_of_a_branch_is_known_there_only() -> None:
    inside = step("if", "maybe", {"condition": "true", "then": [ASK, TYPE, submit(ask="ask")]})
    assert not faults(OPEN, inside)
    outside = step("if", "maybe", {"condition": "true", "then": [ASK, TYPE]})
    assert faults(OPEN, outside, submit(ask="ask")) == [("/steps/2/params/rejected/ask", "unknown_reference")]


def test_nothing_that_acts_once_may_stand_between() -> None:
    order = step("click", "order", {"target": BUTTON})
    assert faults(OPEN, ASK, order, TYPE, submit(ask="ask")) == [("/steps/4/params/rejected/ask", "once_repeated")]
    assert not faults(OPEN, order, ASK, TYPE, submit(ask="ask"))
