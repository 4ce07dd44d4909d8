"""The browser of the tests: the one that `make` found, or any Chromium on the path."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.support.requires import requires

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def chromium_path() -> str:
    """Path of a Chromium; empty when there is none."""
    found = (shutil.which(name) for name in _NAMES)
    return os.environ.get("TOWPATH_BROWSER") or next((path for path in found if path), "")


needs_chromium = requires(
    "a Chromium", available=bool(chromium_path()), reason="apt-get install chromium-headless-shell"
)


@asynccontextmanager
async def launched(*, proxy_url: str = "") -> AsyncIterator[Browser]:
    """A headless browser; with `proxy_url` everything it sends goes there, loopback included."""
    arguments = ["--proxy-bypass-list=<-loopback>", "--disable-quic"] if proxy_url else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(),
            chromium_sandbox=os.geteuid() != 0,  # root cannot use it
            args=arguments,
            proxy={"server": proxy_url} if proxy_url else None,
        )
        try:
            yield browser
        finally:
            await browser.close()
