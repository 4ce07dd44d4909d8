"""Playwright's errors in our words, and addresses that nobody may open."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from browser_runner.browser.engine import THROWN
from browser_runner.egress_proxy import FENCE_SHUT, REFUSED_STATUS
from browser_runner.ports import BrowserLost, StepFailed
from kernel.domain.values import FailureKind
from kernel.egress.policy import host_name

_LOST = ("has been closed", "crashed", "Connection closed", "Browser closed", "browser has disconnected")
_BLOCKED = ("ERR_TUNNEL_CONNECTION_FAILED", "ERR_PROXY", "ERR_BLOCKED", "ERR_UNSAFE_PORT", "ERR_DISALLOWED_URL")
_WEB = re.compile(r"https?://", re.IGNORECASE)
_REFUSED = re.compile(re.escape(REFUSED_STATUS) + r'; details="(\w+)"')


@asynccontextmanager
async def told() -> AsyncIterator[None]:
    """Within it every error of Playwright comes out as `StepFailed`, a lost browser as `BrowserLost`."""
    try:
        yield
    except PlaywrightTimeout as error:
        raise StepFailed("step_timeout", first_line(error), FailureKind.TEMPORARY) from None
    except PlaywrightError as error:
        raise translated(error) from None


def translated(error: PlaywrightError) -> StepFailed | BrowserLost:
    """An error of Playwright in our words."""
    message = first_line(error)
    if any(sign in error.message for sign in _LOST):
        return BrowserLost(message)
    if "not attached" in error.message or "Execution context was destroyed" in error.message:
        return StepFailed("target_changed", "the page was redrawn meanwhile", FailureKind.TEMPORARY)
    if any(sign in error.message for sign in _BLOCKED):
        return StepFailed("navigation_blocked", message)
    if THROWN in error.message:
        code, _, told = message.partition(THROWN)[2].partition(":")
        return StepFailed(code, told, FailureKind.TEMPORARY if code == "target_missing" else FailureKind.PERMANENT)
    if "strict mode violation" in error.message:
        return StepFailed("target_missing", "there are several of its frame", FailureKind.TEMPORARY)
    if "net::" in error.message:
        return StepFailed("navigation_failed", message, FailureKind.TEMPORARY)
    return StepFailed("step_failed", message, FailureKind.TEMPORARY)


def first_line(error: PlaywrightError) -> str:
    """What an error says, without the call log below it."""
    return error.message.splitlines()[0][:500] if error.message else type(error).__name__


def must_be_web(url: str) -> None:
    """Nothing else is opened, whatever a template made of it: files of this machine are one `file:` away."""
    if _WEB.match(url) is None:
        raise StepFailed("navigation_blocked", "only http and https are opened")


def must_be_let_through(url: str, headers: Mapping[str, str]) -> None:
    """An answer may be the egress proxy's own."""
    refused = _REFUSED.fullmatch(headers.get("proxy-status", ""))
    if refused is None:
        return
    if refused[1] == FENCE_SHUT:
        raise StepFailed("navigation_failed", f"{url} was not let through now", FailureKind.TEMPORARY)
    raise StepFailed("navigation_blocked", f"{url} may not be reached: {refused[1]}")


def host_of(url: str) -> str:
    """Host of a URL; empty when it has none."""
    with suppress(ValueError):
        return host_name(urlsplit(url).hostname or "")
    return ""
