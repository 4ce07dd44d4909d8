"""What is told of a failure: bounded, in camel case, with the controls that are most like what was looked for."""

from __future__ import annotations

from browser_runner.conditions import answer_problem
from browser_runner.diagnosis import Candidate, Diagnosis, Tried, bounded, diagnosis_json, nearest
from browser_runner.ports import Answered
from kernel.steps.targets import Identity, Locator, ResponseIs, Target

PAGE = """\
- heading "Save the whales" [level=1]
- navigation:
  - link "Saved orders":
    - /url: /saved
- button "Save order"
- button "Delete"
- textbox "Saver": 4711
"""


def test_the_nearest_controls_come_best_first_and_headings_are_none() -> None:
    target = Target((Locator(role="button", name="Save"),))
    found = nearest(target, PAGE)
    assert [(one.role, one.name) for one in found] == [
        *(("button", "Save order"), ("textbox", "Saver"), ("button", "Delete")),
    ]
    assert found[0].similarity > found[1].similarity


def test_what_fields_hold_is_never_told() -> None:
    assert "4711" not in repr(nearest(Target((Locator(label="Saver"),)), PAGE))


def test_at_most_five_are_told_and_their_text_is_bounded() -> None:
    page = "\n".join(f'- button "Save {number} {"x" * 300}"' for number in range(20))
    found = nearest(Target((Locator(css="#a"),), Identity(name="Save 1 " + "x" * 200)), page)
    assert len(found) == 5
    assert all(len(one.name) <= 200 for one in found)


def test_a_target_that_names_nothing_has_no_nearest() -> None:
    assert nearest(Target((Locator(css="#a"),)), PAGE) == ()


def test_text_of_a_page_becomes_one_bounded_line() -> None:
    assert bounded("a\n\x1b[31m b\u202e c") == "a [31m b c"
    assert len(bounded("x" * 1000)) == 200


def test_only_what_is_known_is_told() -> None:
    diagnosis = Diagnosis(
        url="https://shop.example/",
        tried=(Tried("css '#a'", 2, 1, 0, "matches 2, none of them enabled"),),
        nearest=(Candidate("button", "Save", 90),),
        may_retry=True,
    )
    assert diagnosis_json(diagnosis, code="target_missing", path="a[1].b", name="Save it") == {
        "step": {"path": "a[1].b", "name": "Save it"},
        "code": "target_missing",
        "url": "https://shop.example/",
        "tried": [
            {"locator": "css '#a'", "matches": 2, "visible": 1, "enabled": 0, "why": "matches 2, none of them enabled"}
        ],
        "nearest": [{"role": "button", "name": "Save", "similarity": 90}],
        "mayRetry": True,
    }


class Heard:
    """What a page got."""

    files = ()

    def __init__(self, *answers: Answered) -> None:
        self.answers = answers

    def stop(self) -> None:
        return


def test_an_answer_must_fit_address_method_and_status() -> None:
    heard = Heard(Answered("https://a/api/x", 204, "POST"), Answered("https://a/api/y", 500, "GET"))
    assert answer_problem(heard, ResponseIs("*/api/x")) is None
    assert answer_problem(heard, ResponseIs("*/api/x", method="POST", status=204)) is None
    assert answer_problem(heard, ResponseIs("*/api/x", status=200)) == "*/api/x answered 204, not 200"
    assert answer_problem(heard, ResponseIs("*/api/y")) == "*/api/y answered 500"
    assert answer_problem(heard, ResponseIs("*/api/y", status=500)) is None
    assert answer_problem(heard, ResponseIs("*/api/x", method="GET")) == "the page got no answer from GET */api/x"
    assert answer_problem(None, ResponseIs("*")) == "the page got no answer from *"
