"""What the pages of a context do, told as it happens: messages of scripts, answers of the network."""

from __future__ import annotations

from collections.abc import Callable

from playwright.async_api import BrowserContext, ConsoleMessage, Request, Response, WebError

from browser_runner import page_log
from browser_runner.page_log import Seen


def watch(context: BrowserContext, told: Callable[[Seen], None]) -> None:
    """Tell of all pages of `context` from now on."""

    def on_console(message: ConsoleMessage) -> None:
        place = message.location
        told(page_log.console(message.type, message.text, place.get("url", ""), place.get("lineNumber", 0)))

    def on_error(error: WebError) -> None:
        told(page_log.console("error", str(error.error), error.page.url if error.page is not None else "", 0))

    def on_answer(response: Response) -> None:
        request = response.request
        waited_ms = request.timing["responseStart"]
        told(page_log.answered(request.method, response.url, response.status, request.resource_type, waited_ms))

    def on_failure(request: Request) -> None:
        told(page_log.failed(request.method, request.url, request.resource_type, request.failure or ""))

    context.on("console", on_console)
    context.on("weberror", on_error)
    context.on("response", on_answer)
    context.on("requestfailed", on_failure)
