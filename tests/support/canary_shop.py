"""The demo shop with planted values: a long one-time code, its cookies remembered, a page that shows private text."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo_shop.session import COOKIE
from demo_shop.shop import Shop, ShopSettings
from demo_shop.web import Request, Response

FILES = "/files"
_FILES_PAGE = b'<!doctype html><title>Files</title><input type="file" id="file" hidden>'
LOGGED_IN = {"locators": [{"role": "button", "name": "Log out"}]}


class CanaryShop(Shop):
    """Shows `private` on the page of orders; `cookies` are all session cookies that it ever gave away."""

    def __init__(self, settings: ShopSettings, log_path: Path, code: str, private: str) -> None:
        super().__init__(settings, log_path, time.time)  # noqa: TID251 (the shop stands alone and has no kernel to ask)
        self.cookies: list[str] = []
        self.requests = 0
        self._code = code
        self._private = private

    def code(self, account: str) -> str:
        return self._code

    async def _answer(self, request: Request) -> Response:
        self.requests += 1
        if request.path == FILES:
            return Response(_FILES_PAGE)
        answer = await super()._answer(request)
        for name, value in answer.headers:
            if name == "Set-Cookie" and value.startswith(f"{COOKIE}="):
                self.cookies.append(value.removeprefix(f"{COOKIE}=").partition(";")[0])
        body = answer.body.replace(b' maxlength="6"', b"").replace(b"orders, newest first", self._private.encode())
        return replace(answer, body=body)


@asynccontextmanager
async def canary_shop(
    folder: Path, *, username: str, password: str, code: str, private: str
) -> AsyncIterator[CanaryShop]:
    """The shop, serving on a free port of loopback."""
    settings = ShopSettings(accounts={username: password}, mfa=True)
    shop = CanaryShop(settings, folder / "shop.jsonl", code, private)
    await shop.listen("127.0.0.1", 0)
    try:
        yield shop
    finally:
        await shop.close()


# ---------------------------------------------------------------- workflows


def _step(kind: str, id_: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": id_, "name": id_, "type": kind, "params": params, **more}


def _input(name: str) -> dict[str, Any]:
    return {"locators": [{"css": f"input[name={name}]"}]}


def _failing(id_: str, text: str, **more: Any) -> dict[str, Any]:
    return _step("wait_for", id_, {"text": text}, timeoutMs=300, retry={"maxAttempts": 1}, **more)


def login_workflow(url: str) -> dict[str, Any]:
    """Log in with a password and a one-time code; a step between the two fails, and pictures are kept of all."""
    text = {"type": "string"}
    return {
        "version": 1,
        "startOrigins": [url],
        "inputSchema": {
            "type": "object",
            "required": ["username", "password"],
            "properties": {"username": text, "password": {**text, "secret": True}},
        },
        "steps": [
            _step("navigate", "open_login", {"url": f"{url}/login"}),
            _step("fill", "user", {"target": _input("username"), "value": "{{inputs.username}}"}),
            _step("fill", "password", {"target": _input("password"), "value": "{{inputs.password}}"},
                  evidence="always"),
            _failing("not_there", "{{inputs.username}} is not here", onError="continue"),
            _step("extract", "peek", {"rows": {"css": "form[action='/login']"}, "fields": {
                "typed": {"locator": {"css": "input[name=password]"}}}}, onError="continue"),
            _step("click", "send", {"target": {"locators": [{"role": "button", "name": "Log in"}]},
                  "expect": {"url": "*/login/code"}}),
            _step("ask_user", "ask", {"kind": "mfa_code", "prompt": "The code for {{inputs.username}}?", "fields": [
                {"name": "code", "label": "Code", "kind": "mfa_code", "secret": True},
                {"name": "phone", "label": "Phone", "kind": "phone"}]}),
            _step("fill", "code", {"target": _input("code"), "value": "{{steps.ask.code}}"}, evidence="always"),
            _step("extract", "peek_code", {"rows": {"css": "form[action='/login/code']"}, "fields": {
                "typed": {"locator": {"css": "input[name=code]"}}}}, onError="continue"),
            _step("screenshot", "picture", {}),
            _step("click", "confirm", {"target": {"locators": [{"role": "button", "name": "Confirm"}]},
                  "expect": {"appears": LOGGED_IN},
                  "rejected": {"when": {"text": "This code is wrong"}, "ask": "ask"},
                  "check": {"open": f"{url}/orders", "appears": LOGGED_IN}}, effect="once", evidence="always"),
        ],
    }  # fmt: skip


def collect_workflow(url: str) -> dict[str, Any]:
    """Read what is private, keep it as data, and as the output of the run."""
    return {
        "version": 1,
        "startOrigins": [url],
        "inputSchema": {
            "type": "object",
            "required": ["reference"],
            "properties": {"reference": {"type": "string"}},
        },
        "steps": [
            _step("navigate", "open_export", {"url": f"{url}/exports/new?ref={{{{inputs.reference}}}}"},
                  evidence="always"),
            _step("extract", "export", {"rows": {"css": "dl"}, "fields": {
                "reference": {"locator": {"css": "dd"}}}}),
            _step("navigate", "open_orders", {"url": f"{url}/orders"}),
            _step("extract", "private", {"rows": {"css": ".tools"}, "fields": {"note": {"locator": {"css": "p"}}}}),
            _step("navigate", "open_files", {"url": f"{url}{FILES}"}),
            _step("upload", "hand_on", {"target": {"locators": [{"css": "#file"}]},
                  "files": ["{{steps.private.artifactId}}"], "expect": {"value": "C:\\fakepath\\private.json"}}),
            _step("finish", "end", {"message": "for {{inputs.reference}}", "output": {
                "note": "{{steps.private.rows[0].note}}", "reference": "{{steps.export.rows[0].reference}}"}}),
        ],
    }  # fmt: skip


def failing_workflow(url: str) -> dict[str, Any]:
    """Fail with a text that names a person, on a page that shows a private text."""
    properties = {"reference": {"type": "string"}}
    return {
        "version": 1,
        "startOrigins": [url],
        "inputSchema": {"type": "object", "required": ["reference"], "properties": properties},
        "steps": [
            _step("navigate", "open_orders", {"url": f"{url}/orders"}),
            _failing("lost", "nothing of {{inputs.reference}}"),
        ],
    }
