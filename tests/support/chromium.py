"""The browser of the tests: the one that `make` found, or any Chromium on the path."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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


def browser_processes() -> list[int]:
    """Main processes of the browsers that this test process has started."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            pid_name, _, rest = (entry / "stat").read_text().rpartition(")")
            parents[int(entry.name)] = (int(rest.split()[1]), pid_name.partition("(")[2])
        except OSError:
            continue
    return [
        pid for pid, (_, name) in parents.items() if name.startswith(("headless", "chrom")) and _is_ours(pid, parents)
    ]


def _is_ours(pid: int, parents: dict[int, tuple[int, str]]) -> bool:
    while pid in parents:
        pid = parents[pid][0]
        if pid == os.getpid():
            return True
    return False
