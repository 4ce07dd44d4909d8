"""The demo shop as a visitor finds it, over real sockets: login, orders, files, exports, switches, restarts."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import httpx
import pypdf
import pytest

from demo_shop.messages import MessageBook
from demo_shop.orders import GOODS, ORDERS, money
from demo_shop.session import Session, unseal
from demo_shop.shop import Shop, ShopSettings, start_shop
from demo_shop.totp import totp_code
from kernel.domain.plan import WorkflowType
from kernel.steps.check import check_document

CREDENTIALS = {"username": "demo", "password": "corner-goods"}


class Visit:
    """A shop, a browser-like client, and a clock to turn."""

    def __init__(self, shop: Shop, client: httpx.AsyncClient, log: Path) -> None:
        self.shop = shop
        self.client = client
        self.log = log

    async def log_in(self, **changes: str) -> httpx.Response:
        return await self.client.post("/login", data={**CREDENTIALS, **changes})

    def logged(self, event: str) -> list[dict[str, str]]:
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [entry for entry in entries if entry["event"] == event]


@asynccontextmanager
async def _visiting(log: Path, settings: ShopSettings, time: list[float]) -> AsyncIterator[Visit]:
    shop = await start_shop(settings=settings, log_path=log, now=lambda: time[0])
    try:
        async with httpx.AsyncClient(base_url=shop.url, follow_redirects=True, trust_env=False) as client:
            yield Visit(shop, client, log)
    finally:
        await shop.close()
        await shop.close()


@pytest.fixture
def time() -> list[float]:
    return [1_800_000_000.0]


@pytest.fixture
async def visit(tmp_path: Path, time: list[float]) -> AsyncIterator[Visit]:
    async with _visiting(tmp_path / "shop" / "log.jsonl", ShopSettings(), time) as visit:
        yield visit


async def test_who_is_not_logged_in_is_asked_to(visit: Visit) -> None:
    for path in ("/", "/orders", "/orders/CG-1060", "/exports/new", "/nowhere"):
        response = await visit.client.get(path)
        assert response.url.path == "/login"
        assert '<label for="password">Password</label>' in response.text


async def test_a_wrong_password_says_so_and_keeps_the_name(visit: Visit) -> None:
    for changes in ({"password": "wrong"}, {"username": "nobody"}, {"username": '"><script>'}):
        response = await visit.log_in(**changes)
        assert response.status_code == 401
        assert "User name or password is wrong." in response.text
        assert "<script>" not in response.text
    assert not visit.client.cookies


async def test_the_right_password_opens_the_shop_with_a_cookie_that_scripts_cannot_read(visit: Visit) -> None:
    response = await visit.client.post("/login", data={**CREDENTIALS, "next": "/exports/new"}, follow_redirects=False)
    assert response.headers["location"] == "/exports/new"
    assert "HttpOnly" in response.headers["set-cookie"]
    assert (await visit.client.get("/")).url.path == "/orders"
    assert (await visit.client.post("/logout")).url.path == "/login"
    assert (await visit.client.get("/orders")).url.path == "/login"


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example", "/\\evil.example", "/a\r\nX: y", ""])
async def test_after_the_login_only_a_page_of_the_shop_follows(visit: Visit, following: str) -> None:
    response = await visit.client.post("/login", data={**CREDENTIALS, "next": following}, follow_redirects=False)
    assert response.headers["location"] == "/orders"
    assert "x" not in response.headers


async def test_sixty_orders_stand_on_three_pages(visit: Visit) -> None:
    await visit.log_in()
    found = []
    for number in (1, 2, 3):
        text = (await visit.client.get("/orders", params={"page": number})).text
        found += [order for order in ORDERS if f">{order.id}</a>" in text]
        assert ('rel="next"' in text) is (number < 3)
    assert found == list(ORDERS)
    assert len({order.id for order in ORDERS}) == 60
    for page in ("0", "4", "x", "-1"):
        assert (await visit.client.get("/orders", params={"page": page})).status_code == 404


async def test_an_order_has_details_and_an_invoice_that_is_a_valid_pdf(visit: Visit) -> None:
    await visit.log_in()
    for order in ORDERS[::7]:
        assert money(order.total_cents) in (await visit.client.get(f"/orders/{order.id}")).text
        response = await visit.client.get(f"/orders/{order.id}/invoice.pdf")
        assert response.headers["content-disposition"] == f'attachment; filename="invoice-{order.id}.pdf"'
        text = pypdf.PdfReader(io.BytesIO(response.content), strict=True).pages[0].extract_text()
        assert order.customer in text
        assert money(order.total_cents) in text
    assert (await visit.client.get("/orders/CG-1/invoice.pdf")).status_code == 404


async def test_all_orders_come_as_csv(visit: Visit) -> None:
    await visit.log_in()
    response = await visit.client.get("/orders/export.csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["Order"] for row in rows] == [order.id for order in ORDERS]


async def test_an_export_is_made_once_per_reference_and_shows_what_became_of_it(visit: Visit) -> None:
    await visit.log_in()
    page = await visit.client.get("/exports/new", params={"ref": "run-1"})
    assert "<dd>Waiting</dd>" in page.text
    assert (await visit.client.get("/exports/new", params={"ref": "run-1"})).url == page.url
    assert (await visit.client.get("/exports/new", params={"ref": "run-2"})).url != page.url
    done = await visit.client.post(f"{page.url.path}/collect")
    assert "Thank you" in done.text
    again = await visit.client.get("/exports/new", params={"ref": "run-1"})
    assert "This export was collected on 2027-01-15" in again.text
    assert "Mark export as collected" not in again.text


async def test_every_collection_is_counted_a_second_one_too(visit: Visit) -> None:
    await visit.log_in()
    page = await visit.client.get("/exports/new", params={"ref": "run-1"})
    for _ in range(2):
        await visit.client.post(f"{page.url.path}/collect")
    entries = visit.logged("collected")
    assert [(entry["export_id"], entry["run_ref"]) for entry in entries] == [("EX-0001", "run-1")] * 2


async def test_without_a_reference_the_open_export_of_the_account_is_shown(visit: Visit) -> None:
    await visit.log_in()
    assert (await visit.client.get("/exports/latest")).status_code == 404
    first = await visit.client.get("/exports/new")
    assert (await visit.client.get("/exports/new")).url == first.url
    await visit.client.post(f"{first.url.path}/collect")
    assert "This export was collected" in (await visit.client.get("/exports/latest")).text
    assert (await visit.client.get("/exports/new")).url != first.url
    assert "<dd>Waiting</dd>" in (await visit.client.get("/exports/latest")).text


async def test_exports_of_other_accounts_and_odd_references_are_refused(visit: Visit) -> None:
    visit.shop.settings = ShopSettings(accounts={"demo": "corner-goods", "other": "secret"})
    await visit.log_in()
    page = await visit.client.get("/exports/new", params={"ref": "run-1"})
    assert (await visit.client.get("/exports/new", params={"ref": "<b>"})).status_code == 400
    await visit.log_in(username="other", password="secret")
    assert (await visit.client.get(page.url.path)).status_code == 404
    assert (await visit.client.post(f"{page.url.path}/collect")).status_code == 404
    assert visit.logged("collected") == []


async def test_sessions_and_exports_outlive_the_shop_and_a_cut_line_is_dropped(
    tmp_path: Path, time: list[float]
) -> None:
    log = tmp_path / "log.jsonl"
    async with _visiting(log, ShopSettings(), time) as visit:
        await visit.log_in()
        page = await visit.client.get("/exports/new", params={"ref": "run-1"})
        await visit.client.post(f"{page.url.path}/collect")
        cookies = visit.client.cookies
    with log.open("a") as file:
        file.write('{"at": 1, "eve')
    async with _visiting(log, ShopSettings(), time) as visit:
        visit.client.cookies = cookies
        assert "This export was collected" in (await visit.client.get("/exports/new", params={"ref": "run-1"})).text
        await visit.client.get("/exports/new", params={"ref": "run-2"})
        assert [entry["run_ref"] for entry in visit.logged("created")] == ["run-1", "run-2"]


async def test_a_session_expires_and_a_forged_one_is_none(visit: Visit, time: list[float]) -> None:
    await visit.log_in()
    value = visit.client.cookies["corner_goods"]
    time[0] += visit.shop.settings.session_seconds
    assert (await visit.client.get("/orders")).url.path == "/login"
    assert unseal(value, b"another key") is None
    for forged in ("", ".", "x.y", value[:-2] + ("AA" if value[-2] != "A" else "BA"), "é.é"):
        assert unseal(forged, visit.shop._key) is None
    assert unseal(value, visit.shop._key) == Session("demo", 1_800_000_000.0, is_complete=True)


async def test_a_one_time_code_is_asked_for_and_works_once(visit: Visit) -> None:
    visit.shop.settings = ShopSettings(mfa=True)
    assert (await visit.log_in()).url.path == "/login/code"
    assert (await visit.client.get("/orders")).url.path == "/login"
    code = visit.shop.code("demo")
    wrong = await visit.client.post("/login/code", data={"code": "x"})
    assert wrong.status_code == 401
    assert (await visit.client.post("/login/code", data={"code": code})).url.path == "/orders"
    await visit.log_in()
    assert (await visit.client.post("/login/code", data={"code": code})).status_code == 401
    assert visit.shop.code("demo") != code


async def test_the_switches_make_it_slow_flaky_and_rude(visit: Visit) -> None:
    await visit.log_in()
    visit.shop.settings = replace(visit.shop.settings, fail_every=2)
    statuses = {(await visit.client.get("/orders")).status_code for _ in range(4)}
    assert statuses == {200, 500}
    visit.shop.settings = ShopSettings(drop_every=1)
    with pytest.raises(httpx.TransportError):
        await visit.client.get("/orders")
    visit.shop.settings = ShopSettings(delay_ms=30)
    started = asyncio.get_running_loop().time()
    await visit.client.get("/orders")
    assert asyncio.get_running_loop().time() - started >= 0.03


async def test_the_switches_are_served_only_where_that_is_asked_for(visit: Visit) -> None:
    assert (await visit.client.get("/_admin")).url.path == "/login"
    visit.shop.settings = ShopSettings(admin=True)
    response = await visit.client.post("/_admin", data={"mfa": "1", "delay_ms": "5", "accounts": "9"})
    assert response.json() == {"codes": {"demo": visit.shop.code("demo")}}
    assert visit.shop.settings == ShopSettings(admin=True, mfa=True, delay_ms=5)


async def test_what_is_no_http_ends_the_connection_only(visit: Visit) -> None:
    host, port = visit.shop.url.removeprefix("http://").split(":")
    for sent in (b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"x" * 70_000, b"GET /"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        writer.write_eof()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    assert (await visit.client.get("/login")).status_code == 200


async def test_pages_ask_for_nothing_from_elsewhere(visit: Visit) -> None:
    await visit.log_in()
    for path in ("/orders", "/orders/CG-1060", "/exports/new", "/style.css"):
        text = (await visit.client.get(path)).text
        assert "http://" not in text
        assert "https://" not in text


def test_it_runs_alone_and_starts_fast(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "demo_shop", "--log", str(tmp_path / "log.jsonl")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/login", trust_env=False).status_code == 200
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("name", "type_"), [("login", WorkflowType.LOGIN), ("collect_orders", WorkflowType.USER_DEFINED)]
)
def test_the_shipped_workflows_may_be_saved(name: str, type_: WorkflowType) -> None:
    document = json.loads(files("demo_shop").joinpath("workflows", f"{name}.json").read_text())
    assert check_document(document, workflow_type=type_) == []


async def test_an_account_with_an_app_takes_the_code_of_a_window_once(visit: Visit, time: list[float]) -> None:
    seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # the seed of RFC 6238, appendix B
    visit.shop.settings = ShopSettings(seeds={"demo": seed})
    time[0] = 1_111_111_109.0
    assert totp_code(seed, int(time[0] // 30)) == "081804"
    assert (await visit.log_in()).url.path == "/login/code"
    assert (await visit.client.post("/login/code", data={"code": "000000"})).status_code == 401
    assert (await visit.client.post("/login/code", data={"code": "081804"})).url.path == "/orders"
    await visit.log_in()
    assert (await visit.client.post("/login/code", data={"code": "081804"})).status_code == 401
    time[0] += 30
    later = totp_code(seed, int(time[0] // 30))
    assert (await visit.client.post("/login/code", data={"code": later})).url.path == "/orders"


async def test_anybody_sees_the_prices(visit: Visit) -> None:
    page = await visit.client.get("/prices")
    assert (page.url.path, page.status_code) == ("/prices", 200)
    assert page.text.count("<tr>") == 1 + len(GOODS)


async def test_a_message_says_what_is_wrong_with_it_and_is_then_received_once(visit: Visit, tmp_path: Path) -> None:
    refused = await visit.client.post("/messages/new", data={"name": "", "order": "CG-1", "text": ""})
    assert refused.status_code == 422
    for said in ("Please tell us your name.", "We do not know this order.", "Please write a message"):
        assert said in refused.text
    good = {"reference": "r <1>", "name": "Ada", "order": "CG-1042", "text": "Where is <it>?"}
    received = await visit.client.post("/messages/new", data=good)
    assert "Thank you. Your message was received." in received.text
    found = await visit.client.get("/messages", params={"reference": "r <1>"})
    assert "1 received under reference r &lt;1&gt;." in found.text
    assert "Where is &lt;it&gt;?" in found.text
    book = MessageBook(visit.log.with_suffix(".messages.jsonl"))
    book.read()
    assert [message.text for message in book.of("r <1>")] == ["Where is <it>?"]
