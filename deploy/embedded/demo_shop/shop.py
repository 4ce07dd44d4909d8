"""The shop itself: its routes, its switches, and starting it beside whatever else runs on the loop.

    /prices, /messages/new   for anybody: a price list, and a form for a message
    /messages?reference=REF  what was received under a reference
    /login, /login/code      password, and a one-time code where that is switched on or the account has an app for it
    /orders, /orders/ID      a table of three pages; details; an invoice as PDF; everything as CSV
    /exports/new?ref=REF     makes or shows the account's export for REF; without REF the one not yet collected
    /exports/latest, /exports/ID     its state, and the button that marks it as collected

The switches make it slow, flaky or forgetful, so that those who visit it can show what they are made of.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import quote

from demo_shop import front, pages
from demo_shop.exports import ExportBook
from demo_shop.invoice_pdf import invoice_pdf
from demo_shop.messages import MessageBook, faults
from demo_shop.orders import ORDERS, orders_csv
from demo_shop.session import COOKIE, Session, one_time_code, read_key, seal, unseal
from demo_shop.totp import Codes
from demo_shop.web import Dropped, Request, Response, redirect, serve_connection

_ORDERS_BY_ID = {order.id: order for order in ORDERS}
_REF = re.compile(r"[\w.:-]{0,200}")


@dataclass(frozen=True, slots=True)
class ShopSettings:
    """How the shop behaves; replaced as a whole while it runs (`Shop.settings`)."""

    accounts: Mapping[str, str] = field(default_factory=lambda: {"demo": "corner-goods"})
    """User name to password."""
    seeds: Mapping[str, str] = field(default_factory=dict)
    """User name to the base32 seed of its authenticator app."""
    page_size: int = 20
    delay_ms: int = 0
    """Added to every answer."""
    fail_every: int = 0
    """Every so many requests one is answered with 500; 0: none."""
    drop_every: int = 0
    """Every so many requests one connection is cut without an answer; 0: none."""
    mfa: bool = False
    """A one-time code after the password."""
    session_seconds: float = 7 * 86400.0
    admin: bool = False
    """Serve /_admin: its form sets the numbers and switches above, and it tells the one-time codes. For tests only."""


class Shop:
    """A running shop."""

    def __init__(self, settings: ShopSettings, log_path: Path, now: Callable[[], float]) -> None:
        self.settings = settings
        self.url = ""
        self._now = now
        self._book = ExportBook(log_path)
        self._book.read()
        self._messages = MessageBook(log_path.with_suffix(".messages.jsonl"))
        self._messages.read()
        self._codes = Codes()
        self._key = read_key(log_path.with_suffix(".key"))
        self._turns: Counter[str] = Counter()
        self._requests = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def code(self, account: str) -> str:
        """The one-time code that the next login of `account` takes."""
        return one_time_code(account, self._turns[account], self._key)

    async def listen(self, host: str, port: int) -> None:
        """Serve; `OSError` when the port is taken."""
        self._server = await asyncio.start_server(self._connected, host, port)
        self.url = f"http://{host}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop, cutting what is open. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await serve_connection(self._answer, reader, writer)
        finally:
            self._connections.discard(task)

    async def _answer(self, request: Request) -> Response:
        if request.path == "/style.css":
            return Response(pages.STYLE.encode(), content_type="text/css; charset=utf-8")
        if request.path.startswith("/_admin") and self.settings.admin:
            return self._administer(request)
        failure = await self._misbehave()
        if failure is not None:
            return failure
        match request.method, request.path:
            case "GET", "/prices":
                return Response(front.prices_page())
            case _, "/messages" | "/messages/new":
                return await self._serve_messages(request)
            case _:
                return await self._serve_customer(request, self._session(request))

    async def _serve_customer(self, request: Request, session: Session | None) -> Response:
        match request.method, request.path:
            case "GET", "/login":
                return Response(pages.login_page(following=request.query.get("next", "")))
            case "POST", "/login":
                return self._log_in(request)
            case "POST", "/logout":
                return redirect("/login", _cookie("", 0))
            case method, "/login/code" if session is not None:
                if method == "POST":
                    return self._confirm(request, session)
                return Response(pages.code_page(by_app=session.account in self.settings.seeds))
            case _ if session is None or not session.is_complete:
                return redirect(f"/login?next={quote(request.path, safe='')}")
            case _:
                return await self._serve_account(request, session.account)

    async def _misbehave(self) -> Response | None:
        self._requests += 1
        if self.settings.delay_ms:
            await asyncio.sleep(self.settings.delay_ms / 1000)
        if self.settings.drop_every and self._requests % self.settings.drop_every == 0:
            raise Dropped
        if self.settings.fail_every and self._requests % self.settings.fail_every == 0:
            return _error(500, "Something went wrong", "Our till is jammed. Please try again.")
        return None

    def _session(self, request: Request) -> Session | None:
        session = unseal(request.cookies.get(COOKIE, ""), self._key)
        if session is None or session.account not in self.settings.accounts:
            return None
        return session if self._now() - session.since < self.settings.session_seconds else None

    def _log_in(self, request: Request) -> Response:
        account, following = request.form.get("username", ""), request.form.get("next", "")
        expected = self.settings.accounts.get(account)
        given = request.form.get("password", "")
        if expected is None or not hmac.compare_digest(expected.encode(), given.encode()):
            page = pages.login_page("User name or password is wrong.", account, following)
            return Response(page, status=401)
        wants_code = self.settings.mfa or account in self.settings.seeds
        session = Session(account, self._now(), is_complete=not wants_code)
        where = "/login/code" if wants_code else _inside(following)
        return redirect(where, self._cookie_of(session))

    def _confirm(self, request: Request, session: Session) -> Response:
        seed = self.settings.seeds.get(session.account, "")
        if not self._takes(session.account, seed, request.form.get("code", "").strip()):
            page = pages.code_page("This code is wrong or was used before.", by_app=bool(seed))
            return Response(page, status=401)
        self._turns[session.account] += 1
        return redirect("/orders", self._cookie_of(replace(session, is_complete=True)))

    def _takes(self, account: str, seed: str, code: str) -> bool:
        if seed:
            return self._codes.take(account, seed, code, self._now())
        return hmac.compare_digest(self.code(account), code)

    def _cookie_of(self, session: Session) -> tuple[str, str]:
        return _cookie(seal(session, self._key), int(self.settings.session_seconds))

    async def _serve_messages(self, request: Request) -> Response:
        if request.path == "/messages":
            reference = request.query.get("reference", "")
            is_thanks = "thanks" in request.query
            return Response(front.messages_page(reference, self._messages.of(reference), is_thanks=is_thanks))
        if request.method == "GET":
            return Response(front.message_form({}, {}))
        wrong = faults(request.form)
        if wrong:
            return Response(front.message_form(request.form, wrong), status=422)
        message = await self._messages.leave(request.form, self._now())
        return redirect(f"/messages?reference={quote(message.reference, safe='')}&thanks=1")

    async def _serve_account(self, request: Request, account: str) -> Response:
        match request.method, request.path.strip("/").split("/"):
            case "GET", [""]:
                return redirect("/orders")
            case "GET", ["orders"]:
                return self._orders(request, account)
            case "GET", ["orders", "export.csv"]:
                return _file(orders_csv(), "text/csv; charset=utf-8", "orders.csv")
            case "GET", ["orders", order_id] if order_id in _ORDERS_BY_ID:
                return Response(pages.order_page(account, _ORDERS_BY_ID[order_id]))
            case "GET", ["orders", order_id, "invoice.pdf"] if order_id in _ORDERS_BY_ID:
                return _file(invoice_pdf(_ORDERS_BY_ID[order_id]), "application/pdf", f"invoice-{order_id}.pdf")
            case _, ["exports", *rest]:
                return await self._exports(request, account, rest)
            case _:
                return _missing(account)

    def _orders(self, request: Request, account: str) -> Response:
        number = request.query.get("page", "1")
        if not number.isdecimal() or not 1 <= int(number) <= -(-len(ORDERS) // self.settings.page_size):
            return _missing(account)
        return Response(pages.orders_page(account, int(number), self.settings.page_size))

    async def _exports(self, request: Request, account: str, path: list[str]) -> Response:
        if (request.method, path) == ("GET", ["new"]):
            ref = request.query.get("ref", "")
            if _REF.fullmatch(ref) is None:
                return _error(400, "This reference is odd", "A reference has letters, digits and . : - _", account)
            return redirect(f"/exports/{(await self._book.open(account, ref, self._now())).id}")
        export = self._book.latest(account) if path == ["latest"] else self._book.get(path[0] if path else "", account)
        if export is None:
            return _missing(account)
        match request.method, path[1:]:
            case "GET", []:
                return Response(pages.export_page(account, export))
            case "GET", ["collected"]:
                return Response(pages.export_page(account, export, is_confirmation=True))
            case "POST", ["collect"]:
                await self._book.collect(export, self._now())
                return redirect(f"/exports/{export.id}/collected")
            case _:
                return _missing(account)

    def _administer(self, request: Request) -> Response:
        if request.method == "POST":
            numbers = {f.name for f in fields(ShopSettings)} - {"accounts", "admin", "seeds"}
            changes = {name: float(value) for name, value in request.form.items() if name in numbers}
            exact = {name: value if name == "session_seconds" else int(value) for name, value in changes.items()}
            self.settings = replace(self.settings, **exact)  # type: ignore[arg-type]  # checked by name above
        codes = {account: self.code(account) for account in self.settings.accounts}
        return Response(json.dumps({"codes": codes}).encode(), content_type="application/json")


async def start_shop(
    host: str = "127.0.0.1",
    port: int = 0,
    settings: ShopSettings | None = None,
    log_path: Path = Path("corner-goods.jsonl"),
    *,
    now: Callable[[], float] = time.time,  # noqa: TID251 (the shop stands alone and has no kernel to ask)
) -> Shop:
    """A shop that serves on `host`:`port` (0: any free one). Its key is kept beside `log_path`, as `*.key`."""
    shop = await asyncio.to_thread(Shop, settings or ShopSettings(), log_path, now)
    await shop.listen(host, port)
    return shop


def _inside(path: str) -> str:
    """Only a path of this shop is followed after the login."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/orders"


def _cookie(value: str, seconds: int) -> tuple[str, str]:
    return "Set-Cookie", f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}"


def _file(body: bytes, content_type: str, name: str) -> Response:
    return Response(
        body, content_type=content_type, headers=(("Content-Disposition", f'attachment; filename="{name}"'),)
    )


def _error(status: int, title: str, text: str, account: str = "") -> Response:
    return Response(pages.error_page(title, text, account), status=status)


def _missing(account: str) -> Response:
    return _error(404, "Nothing here", "There is no such page.", account)
