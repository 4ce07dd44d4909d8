"""A model site that asks for a code, says no to wrong ones, and counts which codes it was given; and a login for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tests.support.model_site import HOST, Control, ModelPage, Site
from tests.support.runner_documents import click, document, fill, step

REFUSAL = "Wrong code. Try again."
GOOD = "424242"


class AskingSite(Site):
    """`submitted`: every code that was sent, in order. `good` ones lead on."""

    def __init__(self, good: Collection[str] = (GOOD,)) -> None:
        super().__init__()
        self.submitted: list[str] = []
        self._good = good
        self._code = Control(role="textbox", name="Code", tag="input")
        self.pages = {
            "/login": [Control(name="Send a code", href=f"https://{HOST}/code")],
            "/code": [self._code, Control(name="Continue", click=self._judge)],
            "/home": [Control(name="Log out")],
        }
        self.texts = {"/code": ""}

    def _judge(self, page: ModelPage) -> None:
        self.submitted.append(self._code.value)
        if self._code.value in self._good:
            page.url = f"https://{HOST}/home"
            self.texts["/home"] = "Welcome"
            return
        page.url = f"https://{HOST}/code"
        self.texts["/code"] = REFUSAL


ASK = step(
    "ask_user",
    "code",
    {
        "fields": [{"name": "code", "kind": "mfa_code", "secret": True}],
        "kind": "mfa_code",
        "prompt": "Which code did you get?",
    },
)
HOME = {"url": f"https://{HOST}/home"}
REJECTED: dict[str, Any] = {"when": {"text": "Wrong code"}, "ask": "code"}
TYPE = fill("type", "Code", "{{steps.code.code}}")
SUBMIT = click(
    "submit",
    "Continue",
    params={
        "expect": HOME,
        "rejected": REJECTED,
        "check": {"open": f"https://{HOST}/home", "text": "Welcome", "timeoutMs": 0},
    },
)
LOGIN = document(step("navigate", "open", {"url": f"https://{HOST}/code"}), ASK, TYPE, SUBMIT)
