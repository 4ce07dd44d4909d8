"""A real browser behind the proxy, in front of the demo shop: it works, it looks right, and a shut fence stops it.

The fence is the real one over a real log; what the browser tries behind our back (sockets, workers, redirects to
other hosts) has to pass the same door.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Error, Page

from browser_runner.egress_proxy import EgressGrant, EgressProxy
from demo_shop.shop import Shop, start_shop
from kernel.clock import SystemClock
from kernel.domain.decider import Event
from kernel.egress.dialer import Dialer
from kernel.egress.policy import Policy, parse_networks
from kernel.fence import Fence
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.log.port import EventLog
from kernel.log.topics import Topic
from tests.support.chromium import launched, needs_chromium
from tests.support.grounds import ground_in
from tests.support.reports import FIRST, ROOT, RUN, TestClock, assigned, lapsed, record

pytestmark = needs_chromium
REPORTS = {Topic.TASK_REPORTS.value: 4}


class Bench:
    """The shop, the proxy with one grant, and the browser behind it."""

    def __init__(self, tmp_path: Path, log: EventLog) -> None:
        self.clock = TestClock()
        self.log = log
        self.fence = Fence(self.log, decode, self.clock)
        self.denied: list[str] = []
        dialer = Dialer(Policy(parse_networks("127.0.0.0/8")))
        self.proxy = EgressProxy(dialer, self.fence, SystemEntropy(), count_denied=self.denied.append)
        self.log_path = tmp_path / "shop.jsonl"
        self.shop: Shop
        self.browser: Browser
        self.grant: EgressGrant

    async def report(self, event: Event) -> None:
        """Let it stand in the log."""
        await self.log.append([record(event, ROOT, self.clock, partitions=self.log.partitions(Topic.TASK_REPORTS))])

    async def context(self, width: int, height: int, scheme: str) -> BrowserContext:
        return await self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            proxy={"server": self.proxy.server_url, "username": self.grant.username, "password": self.grant.password},
        )


@pytest.fixture
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        log = getattr(request, "param", "")
        _, opened = await stack.enter_async_context(ground_in(tmp_path, SystemClock(), log=log, partitions=REPORTS))
        bench = Bench(tmp_path, opened)
        await bench.report(assigned(FIRST))
        await bench.proxy.start()
        stack.push_async_callback(bench.fence.close)
        stack.push_async_callback(bench.proxy.close)
        bench.grant = bench.proxy.grant(ROOT, RUN, FIRST, ["127.0.0.1"])
        bench.shop = await start_shop(log_path=bench.log_path)
        stack.push_async_callback(bench.shop.close)
        bench.browser = await stack.enter_async_context(launched(proxy_url=bench.proxy.server_url))
        yield bench


async def _log_in(page: Page, url: str) -> None:
    await page.goto(f"{url}/orders")
    await page.get_by_label("User name", exact=True).fill("demo")
    await page.get_by_label("Password", exact=True).fill("corner-goods")
    await page.get_by_role("button", name="Log in", exact=True).click()
    await page.get_by_role("button", name="Log out", exact=True).wait_for()


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 800, "light"), (390, 780, "dark")])
async def test_a_visit_to_the_shop_works_through_the_proxy_at_every_size(
    bench: Bench, tmp_path: Path, width: int, height: int, scheme: str
) -> None:
    context = await bench.context(width, height, scheme)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url) if "download" not in request.url else None)
    await _log_in(page, bench.shop.url)
    for number in (1, 2, 3):
        await page.get_by_text(f"Page {number} of 3").wait_for()
        assert await page.locator("tbody tr").count() == 20
        if number < 3:
            await page.get_by_role("link", name="Next", exact=True).click()
    async with page.expect_download() as downloading:
        await page.goto(f"{bench.shop.url}/orders/CG-1053")
        await page.get_by_role("link", name="Download invoice", exact=True).click()
    assert (await downloading.value).suggested_filename == "invoice-CG-1053.pdf"
    assert await (await downloading.value).failure() is None
    await page.goto(f"{bench.shop.url}/exports/new?ref=run-1")
    await page.get_by_role("button", name="Mark export as collected", exact=True).click()
    await page.get_by_text("This export was collected").wait_for()
    for path in ("/orders", "/orders/CG-1053", "/exports/latest", "/login"):
        await page.goto(bench.shop.url + path)
        assert not await page.evaluate("document.documentElement.scrollWidth > window.innerWidth"), path
        picture = await page.screenshot(path=tmp_path / f"{path.strip('/').replace('/', '-')}.png")
        assert picture.startswith(b"\x89PNG")
    await context.close()
    assert [text for text in complaints if "invoice.pdf" not in text] == []
    assert bench.denied == []
    assert bench.log_path.read_text().count('"collected"') == 1


@pytest.mark.parametrize("bench", ["sqlite", "kafka"], indirect=True)
async def test_a_lapse_stops_the_browser_within_the_window(bench: Bench) -> None:
    context = await bench.context(800, 600, "light")
    page = await context.new_page()
    await _log_in(page, bench.shop.url)
    await page.goto(f"{bench.shop.url}/exports/new?ref=run-1")
    await bench.report(lapsed(FIRST))
    bench.clock.ms += 2000
    await page.get_by_role("button", name="Mark export as collected", exact=True).click()
    await page.get_by_text("egress refused: fence").wait_for()
    assert '"collected"' not in bench.log_path.read_text()
    await context.close()


async def test_nothing_that_a_page_starts_passes_the_proxy_by(bench: Bench) -> None:
    context = await bench.context(800, 600, "light")
    page = await context.new_page()
    await page.goto(f"{bench.shop.url}/login")
    await page.goto("http://10.0.0.1:8080/")
    assert "egress refused: host" in await page.inner_text("body")
    for url in ("https://10.0.0.1:8443/", "http://[::1]:8080/", "http://0x7f.2:8080/", "http://shop.invalid:8080/"):
        before = len(bench.denied)
        other = await context.new_page()
        with suppress(Error):  # a refused tunnel is an error page, a refused request is our answer
            response = await other.goto(url)
            assert response is not None
            assert response.status == 403
        assert len(bench.denied) > before, url
        await other.close()
    await page.goto("about:blank")
    before = len(bench.denied)
    outcome = await page.evaluate(
        "new Promise(done => { const s = new WebSocket('ws://10.0.0.1:8080/');"
        " s.onopen = () => done('open'); s.onerror = () => done('error'); })"
    )
    assert outcome == "error"
    assert len(bench.denied) > before
    await context.close()
