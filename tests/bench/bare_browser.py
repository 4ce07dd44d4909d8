"""The raw baseline of the browser: the flow of `tests.bench.browsing` in bare Playwright.

A warm browser, a context a run. Started as `python -m tests.bench.bare_browser EXECUTABLE URL`. Each line on its
standard input is a number of runs; it answers with their milliseconds as one JSON line.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter

from playwright.sync_api import Browser, Page, sync_playwright

from tests.bench.figures import line, put

TIMEOUT_MS = 15_000.0


def flow(page: Page, url: str) -> list[list[str]]:
    """What the workflow does, step by step; the rows that it reads."""
    page.goto(f"{url}/form", wait_until="domcontentloaded")
    page.get_by_label("Name", exact=True).fill("Ada")
    page.get_by_label("City", exact=True).fill("Lund")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("heading", name="Results", exact=True).wait_for()
    table = page.get_by_role("table")
    rows: list[list[str]] = table.evaluate(
        "table => [...table.rows].map(row => [...row.cells].map(cell => cell.innerText))"
    )
    page.get_by_role("link", name="Again", exact=True).click()
    page.get_by_label("Name", exact=True).fill("Grace")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("heading", name="Results", exact=True).wait_for()
    return rows


def _run(browser: Browser, url: str) -> float:
    began = perf_counter()
    context = browser.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    rows = flow(context.new_page(), url)
    context.close()
    assert len(rows) > 1, "the page has no table"
    return (perf_counter() - began) * 1000


def main() -> None:
    """Serve until the input ends."""
    _, executable, url = sys.argv
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, chromium_sandbox=os.geteuid() != 0)
        for text in sys.stdin:
            took = [_run(browser, url) for _ in range(int(text))]
            put(line(took))
        browser.close()


if __name__ == "__main__":
    main()
