"""A small shop on loopback: login, form, paged orders, table, export, frames. It counts what was done to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

PASSWORD = "correct horse battery"
CODE = "424242"
_PAGE = "<!doctype html><html><head><title>{title}</title></head><body>{body}</body></html>"
_ORDERS = [(f"{number}", f"Customer {number}", f"{number}.50") for number in range(1, 8)]
_PER_PAGE = 3


@dataclass
class FakeSite:
    """The shop; `deeds` counts by name, `orders` is what was ordered."""

    deeds: Counter[str] = field(default_factory=Counter)
    orders: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    """Every code that was sent, in order."""
    fails: dict[str, int] = field(default_factory=dict)
    """How often the next requests of a path are answered with 500."""
    stalled: set[str] = field(default_factory=set)
    """Paths that are not answered for as long as they stand here."""
    pages: dict[str, str] = field(default_factory=dict)
    """Bodies of further pages, by path."""
    extra: dict[str, str] = field(default_factory=dict)
    """Bodies of further pages, by path."""
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Further headers of these pages."""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Media type and content of files, by path."""
    streamed: set[str] = field(default_factory=set)
    """Files whose length is not told beforehand; the connection stays open behind them."""
    received: list[bytes] = field(default_factory=list)
    """Bodies that were sent to `/take`, as they came."""
    port: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(  # noqa: PLR0911 (a table of pages)
        self, method: str, target: str, cookie: str, body: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One exchange."""
        parts = urlsplit(target)
        query, form = parse_qs(parts.query), parse_qs(body)
        self.deeds[f"{method} {parts.path}"] += 1
        if self.fails.get(parts.path, 0) > 0:
            self.fails[parts.path] -= 1
            return 500, {}, b"broken"
        if parts.path in self.extra:
            status, headers, content = self._html(parts.path, self.extra[parts.path])
            return status, headers | self.headers.get(parts.path, {}), content
        if parts.path in self.files:
            media_type, content = self.files[parts.path]
            return 200, {"Content-Type": media_type, **self.headers.get(parts.path, {})}, content
        if parts.path in self.pages:
            return self._html("Page", self.pages[parts.path])
        match method, parts.path:
            case "POST", "/take":
                self.received.append(body.encode("latin-1"))
                return self._html("Taken", "<p>Taken</p>")
            case "GET", "/login":
                return self._html("Sign in", _LOGIN)
            case "POST", "/login":
                return self._sign_in(form)
            case "GET", "/code":
                return self._html("Code", _CODE)
            case "GET", "/code-app":
                return self._html("Code", _CODE_APP)
            case "POST", "/code" | "/code-app":
                return self._take_code(parts.path, form)
            case "GET", "/home":
                return self._home(cookie)
            case "GET", "/form":
                return self._html("Order", _FORM)
            case "POST", "/order":
                self.orders.append(form.get("item", [""])[0])
                return 303, {"Location": "/done"}, b""
            case "GET", "/done":
                return self._html(
                    "Done", "<h1>Thank you</h1>" + "".join(f"<p>ordered {item}</p>" for item in self.orders)
                )
            case "GET", "/orders":
                return self._html("Orders", _orders(int(query.get("page", ["1"])[0])))
            case "GET", "/icons":
                return self._html("Icons", _ICONS)
            case "GET", "/strict":
                return self._html("Strict", '<form method="post" action="/strict"><button>Send</button></form>')
            case "POST", "/strict":
                return self._html("Strict", _REFUSED)
            case "GET", "/sums":
                return self._html("Sums", _SUMS)
            case "GET", "/export.csv":
                return (
                    200,
                    {"Content-Type": "text/csv", "Content-Disposition": 'attachment; filename="../ex port.csv"'},
                    b"a,b\n1,2\n",
                )
            case "GET", "/exports":
                return self._html("Exports", '<a href="/export.csv">Export</a>')
            case "GET", "/pair":
                return self._html("Pair", '<button id="a">Save</button><button id="b">Delete</button>')
            case "GET", "/framed":
                return self._html("Framed", '<iframe id="inner" src="/form"></iframe>')
            case "GET", "/late":
                return self._html("Late", _LATE)
            case _:
                return 404, {}, b"nothing here"

    def _html(self, title: str, body: str) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "text/html; charset=utf-8"}, _PAGE.format(title=title, body=body).encode()

    def _sign_in(self, form: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        if form.get("password") != [PASSWORD]:
            return self._html("Sign in", "<p>Wrong password</p>" + _LOGIN)
        return 303, {"Location": "/home", "Set-Cookie": "session=ok; Path=/; HttpOnly"}, b""

    def _take_code(self, path: str, form: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        self.codes.append(form.get("code", [""])[0])
        is_right = self.codes[-1] == CODE
        if path == "/code-app":
            return (200 if is_right else 403), {"Set-Cookie": "session=ok; Path=/"} if is_right else {}, b""
        if not is_right:
            return self._html("Code", f'<p role="alert">{self.codes[-1]} is a wrong code. Try again.</p>{_CODE}')
        return 303, {"Location": "/home", "Set-Cookie": "session=ok; Path=/; HttpOnly"}, b""

    def _home(self, cookie: str) -> tuple[int, dict[str, str], bytes]:
        if "session=ok" not in cookie:
            return 303, {"Location": "/login"}, b""
        return self._html("Home", "<h1>Welcome</h1><script>sessionStorage.setItem('tab', 'kept')</script>")


_LOGIN = """<form method="post" action="/login"><label>User <input name="user"></label>
<label>Password <input name="password" type="password"></label><button>Sign in</button></form>"""
_CODE = """<form method="post" action="/code"><label>Code <input name="code"></label><button>Continue</button></form>"""
_CODE_APP = """<p role="alert" hidden>Wrong code. Try again.</p><label>Code <input name="code"></label>
<button onclick="send()">Continue</button><script>
async function send() {
  const alert = document.querySelector('[role=alert]'), code = document.querySelector('input').value;
  alert.hidden = true;
  const answer = await fetch('/code-app', {method: 'POST', body: new URLSearchParams({code})});
  if (answer.ok) location = '/home'; else alert.hidden = false;
}</script>"""
_FORM = """<form method="post" action="/order"><label>Item <input name="item" placeholder="What"></label>
<label for="size">Size</label>
<select id="size" name="size"><option>Small</option><option value="l">Large</option></select>
<label><input type="checkbox" name="gift"> Wrap as a gift</label>
<button data-testid="send">Order now</button></form>"""
_LATE = """<div id="box"></div><script>setTimeout(() => {
document.getElementById('box').innerHTML = '<button onclick="this.remove()">Late</button>';
}, 150)</script>"""

_REFUSED = """<div class="alert alert-danger">We could not save it.</div><div role="alert" hidden>not this</div>
<div class="group has-error"><label>Colour <input aria-invalid="true" aria-describedby="hint"></label>
<p id="hint">Say a colour.</p></div><p class="error-free">all is well</p>"""
_ICONS = """<style>.icon::before { content: "\\f0b0" }</style><button><i class="icon"></i> Filter</button>
<button>Filter more</button>"""
_SUMS = """<table><thead><tr><th>Item</th><th>Price</th></tr>
<tr><td><input aria-label="Filter"></td><td>any</td></tr></thead>
<tbody><tr hidden><td>select all</td></tr><tr><td>lamp</td><td>7.50</td></tr><tr><td>rope</td><td>2.00</td></tr></tbody>
<tfoot><tr><td>Sum</td><td>9.50</td></tr></tfoot></table>"""


def _orders(page: int) -> str:
    chosen = _ORDERS[(page - 1) * _PER_PAGE : page * _PER_PAGE]
    rows = "".join(
        f"<tr><td>{name}</td><td class=n>{number}</td><td>{total}</td></tr>" for number, name, total in chosen
    )
    last = page * _PER_PAGE >= len(_ORDERS)
    button = "<button disabled>Next</button>" if last else f'<a href="/orders?page={page + 1}">Next</a>'
    return f"<table><tr><th>Customer</th><th>Number</th><th>Total</th></tr>{rows}</table>{button}"


@asynccontextmanager
async def a_fake_site() -> AsyncIterator[FakeSite]:
    """The shop, listening on loopback."""
    site = FakeSite()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _request(reader):
                while urlsplit(request[1]).path in site.stalled:  # noqa: ASYNC110 (a test ends it by changing a set)
                    await asyncio.sleep(0.01)
                status, headers, content = site.answer(*request)
                head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
                is_streamed = urlsplit(request[1]).path in site.streamed
                head.append("Connection: close" if is_streamed else f"Content-Length: {len(content)}")
                head += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + content)
                await writer.drain()
                if is_streamed:
                    await reader.read()  # until the browser has had enough
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        site.stalled.clear()
        server.close()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, str, str] | None:
    line = (await reader.readline()).decode()
    if not line:
        return None
    method, target, _ = line.split()
    headers = {}
    while header := (await reader.readline()).decode().strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return method, target, headers.get("cookie", ""), body.decode("latin-1")
