"""What a person is told when a step fails: in sentences, and as data."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kernel.domain.task import StepFinished, TaskEnded
from kernel.domain.values import Token
from tests.support.chromium import needs_chromium
from tests.support.fake_site import FakeSite
from tests.support.grounded_runner import World
from tests.support.real_browser import shop, world

__all__ = ["shop", "world"]

pytestmark = [needs_chromium, pytest.mark.timeout(180)]

_WAITS_MS, _ACTS_MS = 300, 3000
"""An act that is to succeed has time for it on a busy machine; one that is to fail has not."""
SECRET = "correct horse battery"
BUTTON = {"role": "button", "name": "Save"}
LOCATORS = {"locators": [BUTTON]}


class Told:
    """What was said of one failed step."""

    def __init__(self, message: str, diagnosis: dict[str, Any]) -> None:
        self.message = message
        self.diagnosis = diagnosis


async def failing(world: World, shop: FakeSite, html: str, kind: str, params: dict[str, Any], **more: Any) -> Told:
    """Open a page of `html` and let one step fail there."""
    shop.pages["/page"] = html
    timeout_ms = _ACTS_MS if "expect" in params else _WAITS_MS
    document = {
        "version": 1,
        "steps": [
            {"id": "open", "type": "navigate", "params": {"url": shop.url("/page")}},
            {"id": "it", "name": "Do it", "type": kind, "params": params, "timeoutMs": timeout_ms,
             "retry": {"maxAttempts": 1}, "effect": more.get("effect"), "evidence": "none"},
        ],
        "inputSchema": {"properties": {"password": {"type": "string", "secret": True}}},
    }  # fmt: skip
    if "effect" not in more:
        document["steps"][1].pop("effect")  # type: ignore[index]  # a list of dictionaries
    attempt = more.get("attempt", 1)
    token = Token(attempt, f"{attempt:032}")
    await world.assign(document, token, inputs=more.get("inputs", {}))
    ended = await world.until_report(TaskEnded, token, seconds=40)
    (step,) = [r for r in await world.reports(token) if isinstance(r, StepFinished) and r.path == "it"]
    message = await world.sealer.open_text(ended.failure.message)
    diagnosis = msgspec.json.decode(await world.sealer.open_text(step.diagnosis))
    assert diagnosis["step"] == {"path": "it", "name": "Do it"}
    assert diagnosis["code"] == step.failure.code == ended.failure.code
    return Told(message.replace(shop.url("/page"), "PAGE"), diagnosis)


TWO = {"locators": [BUTTON, {"css": "[name=save]"}], "description": "the save button"}
CASES: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "<button>Save all</button><button hidden name=save>x</button>", "click", {"target": TWO},
        ("'the save button' was not found: role button 'Save' matches nothing; css '[name=save]' matches 1, none "
        "of them visible. At PAGE; what is most like it: button 'Save all'"),
    ),
    (
        "<button disabled>Save</button><dialog open>Please wait</dialog>", "click", {"target": LOCATORS},
        ("the target was not found: role button 'Save' matches 1, none of them enabled. At PAGE; what is most like "
        "it: button 'Save'; a dialog is open: 'Please wait'"),
    ),
    (
        "<button>Save</button><button>Save</button>", "click", {"target": LOCATORS},
        ("the target was not found: role button 'Save' matches 2 that will do, not exactly one. At PAGE; what is "
        "most like it: button 'Save'"),
    ),
    (
        "<button>Save</button>", "click", {"target": {**LOCATORS, "within": {"role": "dialog"}}},
        ("the target was not found: its container (role dialog) matches 0 times, not once. At PAGE; what is most "
        "like it: button 'Save'"),
    ),
    (
        "<button>Save</button>", "click", {"target": {**LOCATORS, "frame": "#f"}},
        ("the target was not found: its frame '#f' is not there, or there are several. At PAGE; what is most like "
        "it: button 'Save'"),
    ),
    (
        "<button>Save</button><button name=save>Delete</button>", "click", {"target": TWO},
        ("locators disagree about 'the save button': role button 'Save' matches one; css '[name=save]' matches "
        "one, but not the same element. At PAGE"),
    ),
    (
        "<button name=save>Delete</button>", "click",
        {"target": {"locators": [{"css": "[name=save]"}], "identity": BUTTON}},
        "the target is not what it was: name is 'Delete', not 'Save'. At PAGE",
    ),
    (
        "<button>Save</button><div role=dialog style='position:fixed;inset:0'>We use cookies</div>", "click",
        {"target": LOCATORS},
        ("the target is covered by <div role=\"dialog\"> \"We use cookies\". At PAGE; a dialog is open: 'We use "
        "cookies'"),
    ),
    (
        "<button type=button>Save</button>", "click", {"target": LOCATORS, "expect": {"url": "*/done"}},
        "the URL is PAGE, not */done",
    ),
    (
        "<button type=button>Save</button>", "click",
        {"target": LOCATORS, "expect": {"appears": {"locators": [{"role": "alert"}]}}},
        "role alert is not there",
    ),
    (
        "<button type=button>Save</button>", "click",
        {"target": LOCATORS, "expect": {"response": {"url": "*/api", "method": "POST"}}},
        "the page got no answer from POST */api",
    ),
    (
        "<button onclick=\"fetch('/gone')\">Save</button>", "click",
        {"target": LOCATORS, "expect": {"response": {"url": "*/gone"}}},
        "*/gone answered 404",
    ),
    (
        "<button>Save</button>", "click", {"target": LOCATORS, "expect": {"download": {"name": "*.csv"}}},
        "the page handed out no file",
    ),
    (
        "<button>Save</button>", "wait_for", {"response": {"url": "*/feed"}},
        "the page got no answer from */feed; at PAGE",
    ),
    (
        "<p>a</p><p>b</p>", "wait_for", {"count": {"locator": {"css": "p"}, "atLeast": 3}},
        "css 'p' matches 2 times; at PAGE",
    ),
    (
        "<p>a</p>", "wait_for", {"target": {"locators": [{"role": "alert"}], "description": "the news"}},
        "'the news' is not visible; at PAGE",
    ),
]  # fmt: skip


async def test_each_kind_of_failure_says_what_was_tried_and_what_is_there(world: World, shop: FakeSite) -> None:
    for attempt, (html, kind, params, sentence) in enumerate(CASES, start=1):
        told = await failing(world, shop, html, kind, params, attempt=attempt)
        assert told.message == sentence


async def test_a_diagnosis_holds_what_a_program_needs_to_help(world: World, shop: FakeSite) -> None:
    html = (
        "<button>Save order</button><a href='/x'>Saved</a><button disabled name=save>x</button>"
        "<dialog open>Please wait</dialog><script>setTimeout(() => { throw new Error('broken script') })</script>"
    )
    told = await failing(world, shop, html, "click", {"target": {"locators": [BUTTON, {"css": "[name=save]"}]}})
    assert told.diagnosis == {
        "step": {"path": "it", "name": "Do it"},
        "code": "target_missing",
        "url": shop.url("/page"),
        "status": 200,
        "tried": [
            {"locator": "role button 'Save'", "matches": 0, "visible": 0, "enabled": 0, "why": "matches nothing"},
            {
                "locator": "css '[name=save]'",
                "matches": 1,
                "visible": 1,
                "enabled": 0,
                "why": "matches 1, none of them enabled",
            },
        ],
        "dialog": "Please wait",
        "nearest": [
            {"role": "button", "name": "Save order", "similarity": 85},
            {"role": "link", "name": "Saved", "similarity": 69},
            {"role": "button", "name": "x", "similarity": 0},
        ],
        "console": ["broken script"],
        "mayRetry": True,
    }


async def test_no_secret_and_nothing_that_a_field_holds_enters_a_diagnosis(world: World, shop: FakeSite) -> None:
    given = {"password": {"$secret": await world.keep(SECRET.encode())}}
    html = f"""<label>Password <input type=password></label><label>Other <input value=4711></label>
    <button>Save {SECRET}</button><dialog open>{SECRET}</dialog>
    <script>setTimeout(() => {{ throw '{SECRET}' }})</script>"""
    params = {
        "target": {"locators": [{"label": "Password"}]},
        "value": "{{inputs.password}}",
        "expect": {"appears": {"locators": [{"role": "button", "name": "Save it"}]}},
    }
    told = await failing(world, shop, html, "fill", params, inputs=given)
    assert SECRET not in repr(told.diagnosis) + told.message
    missing = {"target": {"locators": [{"role": "button", "name": f"Save {SECRET}!"}]}}
    told = await failing(world, shop, html, "click", missing, attempt=2, inputs=given)
    assert "4711" not in repr(told.diagnosis) + told.message


async def test_what_a_hostile_page_says_is_bounded_and_one_line(world: World, shop: FakeSite) -> None:
    long = "Save " + "A\u202e\x07" * 5000
    html = f"<title>x</title><dialog open>{long}</dialog>" + f"<button>{long}</button>" * 50
    told = await failing(world, shop, html, "click", {"target": {"locators": [{**BUTTON, "exact": True}]}})
    assert len(msgspec.json.encode(told.diagnosis)) < 4000
    assert all(letter.isprintable() for letter in told.message)


async def test_answers_and_files_that_a_step_brings_about_are_heard(world: World, shop: FakeSite) -> None:
    shop.pages["/page"] = """<button onclick="fetch('/form')">Load</button><a href="/export.csv">Export</a>
    <script>setInterval(() => fetch('/orders'), 50)</script>"""
    steps = [
        {"id": "open", "type": "navigate", "params": {
            "url": shop.url("/page"), "expect": {"response": {"url": "*/page"}}}},
        {"id": "load", "type": "click", "params": {
            "target": {"locators": [{"role": "button", "name": "Load"}]},
            "expect": {"response": {"url": "*/form", "status": 200, "method": "GET"}}}},
        {"id": "export", "type": "click", "effect": "once", "params": {
            "target": {"locators": [{"role": "link", "name": "Export"}]},
            "expect": {"download": {"name": "*port.csv"}}}},
        {"id": "poll", "type": "wait_for", "params": {"response": {"url": "*/orders"}}},
    ]  # fmt: skip
    await world.assign({"version": 1, "steps": steps})
    ended = await world.until_report(TaskEnded, seconds=40)
    assert not ended.failure.code, await world.sealer.open_text(ended.failure.message)
