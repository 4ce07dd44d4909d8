"""The API's documentation page in a real browser: it shows every operation and asks nobody else for anything."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route

from tests.support.chromium import launched, needs_chromium
from tests.support.gateways import RunningGateway, gateway_in

pytestmark = [needs_chromium, pytest.mark.timeout(120)]
HOST = "http://gateway.test"


@dataclass
class Watched:
    """A page whose every request the gateway answers, and what went wrong on it."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with gateway_in(tmp_path) as running:
        yield running


@pytest.fixture
async def watched(gateway: RunningGateway) -> AsyncIterator[Watched]:
    async with launched() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        seen = Watched(page)

        async def answer(route: Route) -> None:
            if not route.request.url.startswith(HOST):
                seen.foreign.append(route.request.url)
                await route.abort()
                return
            told = await gateway.stranger.get(urlsplit(route.request.url).path)
            headers = {k: v for k, v in told.headers.items() if k not in {"content-encoding", "content-length"}}
            await route.fulfill(status=told.status_code, headers=headers, body=told.content)

        await page.route("**/*", answer)
        page.on("console", lambda said: seen.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        yield seen


async def test_the_page_shows_every_operation_and_asks_nobody_else(gateway: RunningGateway, watched: Watched) -> None:
    await watched.page.goto(f"{HOST}/api/v2/docs")
    document = json.loads((await gateway.stranger.get("/api/v2/openapi.json")).content)
    operations = sum(len(place) for place in document["paths"].values())
    shown = watched.page.locator(".opblock")
    await shown.nth(operations - 1).wait_for()
    assert await shown.count() == operations
    assert (watched.foreign, watched.complaints) == ([], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_it_is_readable_on_a_phone_and_on_a_desk_by_day_and_by_night(
    watched: Watched, scheme: str, width: int
) -> None:
    page = watched.page
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": width, "height": 900})
    await page.goto(f"{HOST}/api/v2/docs")
    await page.locator(".opblock").first.wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    is_dark = await page.evaluate("document.documentElement.classList.contains('dark-mode')")
    assert is_dark == (scheme == "dark")
    if folder := os.environ.get("TOWPATH_PICTURES"):
        await page.screenshot(path=Path(folder) / f"api-docs-{width}-{scheme}.png")


async def test_its_files_are_served_packed_and_plain(gateway: RunningGateway) -> None:
    packed = await gateway.stranger.get("/api/v2/docs/swagger-ui.css")
    plain = await gateway.stranger.get("/api/v2/docs/swagger-ui.css", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert (await gateway.stranger.get("/api/v2/docs/passwd")).status_code == 404
