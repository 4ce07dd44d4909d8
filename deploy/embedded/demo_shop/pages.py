"""The shop's pages: plain semantic HTML, one style sheet, nothing from elsewhere. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from demo_shop.exports import Export
from demo_shop.orders import ORDERS, Order, money

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #ffffff; --ink: #22272b; --soft: #5c656d; --line: #dedad1;
  --accent: #1f6f54; --on-accent: #ffffff; --bad: #a8321f; --bad-paper: #fdeeea; --good-paper: #e6f4ec; }
@media (prefers-color-scheme: dark) { :root { --paper: #15191c; --card: #1d2327; --ink: #e8eaec; --soft: #a3adb5;
  --line: #343c42; --accent: #6fd0a8; --on-accent: #10211a; --bad: #ff9c8a; --bad-paper: #3a211c;
  --good-paper: #1b3328; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
.bar { background: var(--card); border-bottom: 1px solid var(--line); }
.bar > div { max-width: 60rem; margin: auto; padding: .75rem 1rem; display: flex; flex-wrap: wrap; gap: .5rem 1.25rem;
  align-items: center; }
.brand { font-weight: 700; font-size: 1.1rem; letter-spacing: -.01em; color: inherit; text-decoration: none; }
.bar nav { display: flex; gap: 1rem; flex: 1; }
.bar form { margin: 0; display: flex; gap: .75rem; align-items: center; color: var(--soft); }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .25rem 0 1rem; letter-spacing: -.02em; }
a { color: var(--accent); text-underline-offset: .2em; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1.5rem; }
.card > :first-child { margin-top: 0; }
.card > :last-child { margin-bottom: 0; }
.narrow { max-width: 24rem; margin: 0 auto; }
main:has(.narrow) h1 { max-width: 24rem; margin: 2rem auto 1rem; }
@media (max-width: 40rem) { .card { padding: 1rem; } }
label { display: block; font-weight: 600; margin: 1rem 0 .25rem; }
input, textarea { width: 100%; font: inherit; padding: .55rem .7rem; border: 1px solid var(--line);
  border-radius: .5rem; background: var(--paper); color: inherit; }
button, .button { display: inline-block; font: inherit; font-weight: 600; padding: .55rem 1.1rem; border: 0;
  border-radius: .5rem; background: var(--accent); color: var(--on-accent); text-decoration: none; cursor: pointer; }
button.quiet { background: none; color: var(--accent); padding: .25rem 0; font-weight: 400;
  text-decoration: underline; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
form .button-row { margin-top: 1.5rem; }
.note { padding: .7rem 1rem; border-radius: .5rem; background: var(--good-paper); }
small { color: var(--soft); }
.fault { color: var(--bad); margin: .25rem 0 0; }
.note.bad { background: var(--bad-paper); color: var(--bad); }
.tools { display: flex; flex-wrap: wrap; gap: .75rem 1rem; align-items: center; margin-bottom: 1rem; }
.tools p { margin: 0; color: var(--soft); flex: 1 1 14rem; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .5rem; }
th, td { text-align: left; padding: .5rem .75rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-size: .85rem; color: var(--soft); font-weight: 600; }
.number { text-align: right; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; margin: 0 0 1.5rem; }
dt { color: var(--soft); } dd { margin: 0; }
.pages { display: flex; gap: 1rem; align-items: center; justify-content: space-between; margin-top: 1rem; }
"""


def page(title: str, body: str, account: str = "") -> bytes:
    """A whole page around `body`, with the menu of `account` if there is one."""
    menu = (
        '<nav aria-label="Main"><a href="/orders">Orders</a><a href="/exports/new">Export</a></nav>'
        f'<form method="post" action="/logout"><span>{escape(account)}</span>'
        '<button class="quiet">Log out</button></form>'
        if account
        else '<nav aria-label="Main"><a href="/prices">Prices</a><a href="/messages/new">Write to us</a></nav>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} · Corner Goods</title><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/style.css"></head><body>'
        f'<header class="bar"><div><a class="brand" href="/">Corner Goods</a>{menu}</div></header>'
        f"<main><h1>{escape(title)}</h1>{body}</main></body></html>"
    ).encode()


def login_page(problem: str = "", username: str = "", following: str = "") -> bytes:
    """User and password."""
    return page(
        "Log in",
        f'<div class="card narrow">{_problem(problem)}<form method="post" action="/login">'
        f'<input type="hidden" name="next" value="{escape(following)}">'
        '<label for="username">User name</label>'
        f'<input id="username" name="username" autocomplete="username" required value="{escape(username)}">'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" required>'
        '<div class="button-row"><button>Log in</button></div></form></div>',
    )


def code_page(problem: str = "", *, by_app: bool = False) -> bytes:
    """The one-time code after the password."""
    hint = (
        "Your authenticator app shows a code of six digits."
        if by_app
        else "We sent a code of six digits to your phone."
    )
    return page(
        "Check your phone",
        f'<div class="card narrow">{_problem(problem)}<p>{hint}: a code of six digits.</p>'
        '<form method="post" action="/login/code"><label for="code">One-time code</label>'
        '<input id="code" name="code" inputmode="numeric" autocomplete="one-time-code" required maxlength="6">'
        '<div class="button-row"><button>Confirm</button></div></form></div>',
    )


def orders_page(account: str, number: int, page_size: int) -> bytes:
    """One page of the table; `number` counts from 1."""
    pages = -(-len(ORDERS) // page_size)
    first = (number - 1) * page_size
    rows = "".join(_order_row(order) for order in ORDERS[first : first + page_size])
    previous = f'<a rel="prev" href="/orders?page={number - 1}">Previous</a>' if number > 1 else "<span></span>"
    following = f'<a rel="next" href="/orders?page={number + 1}">Next</a>' if number < pages else "<span></span>"
    return page(
        "Orders",
        f'<div class="tools"><p>{len(ORDERS)} orders, newest first</p>'
        '<a class="button" href="/orders/export.csv" download>Download CSV</a></div>'
        '<div class="card scroll" role="region" aria-label="All orders" tabindex="0">'
        '<table><thead><tr><th scope="col">Order</th><th scope="col">Date</th>'
        '<th scope="col">Customer</th><th scope="col" class="number">Total</th><th scope="col">Status</th></tr></thead>'
        f'<tbody>{rows}</tbody></table></div><nav class="pages" aria-label="Pages">{previous}'
        f"<span>Page {number} of {pages}</span>{following}</nav>",
        account,
    )


def _order_row(order: Order) -> str:
    return (
        f'<tr><td><a href="/orders/{order.id}">{order.id}</a></td>'
        f'<td><time datetime="{order.day.isoformat()}">{order.day.isoformat()}</time></td>'
        f'<td>{escape(order.customer)}</td><td class="number">{money(order.total_cents)}</td>'
        f"<td>{order.status}</td></tr>"
    )


def order_page(account: str, order: Order) -> bytes:
    """One order with its lines and its invoice."""
    rows = "".join(
        f'<tr><td>{escape(line.goods)}</td><td class="number">{line.quantity}</td>'
        f'<td class="number">{money(line.price_cents)}</td><td class="number">{money(line.total_cents)}</td></tr>'
        for line in order.lines
    )
    return page(
        f"Order {order.id}",
        f'<div class="card"><dl><dt>Customer</dt><dd>{escape(order.customer)}</dd><dt>Date</dt>'
        f"<dd>{order.day.isoformat()}</dd><dt>Status</dt><dd>{order.status}</dd><dt>Total</dt>"
        f'<dd>{money(order.total_cents)}</dd></dl><div class="scroll"><table><thead><tr><th scope="col">Goods</th>'
        '<th scope="col" class="number">Quantity</th><th scope="col" class="number">Price</th>'
        f'<th scope="col" class="number">Amount</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p><a class="button" href="/orders/{order.id}/invoice.pdf" download>Download invoice</a></p></div>'
        '<p><a href="/orders">Back to the orders</a></p>',
        account,
    )


def export_page(account: str, export: Export, *, is_confirmation: bool = False) -> bytes:
    """The state of one export; while it waits, the button that hands it over."""
    if export.collected_at is None:
        state = "Waiting"
        action = (
            f'<form method="post" action="/exports/{export.id}/collect">'
            "<button>Mark export as collected</button></form>"
        )
    else:
        state = "Collected"
        moment = datetime.fromtimestamp(export.collected_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        action = f'<p class="note" role="status">This export was collected on {moment}.</p>'
    thanks = "<p>Thank you. Your books are up to date.</p>" if is_confirmation else ""
    return page(
        f"Export {export.id}",
        f'{thanks}<div class="card"><dl><dt>Reference</dt><dd>{escape(export.run_ref)}</dd><dt>Orders</dt>'
        f"<dd>{len(ORDERS)}</dd><dt>State</dt><dd>{state}</dd></dl>{action}</div>",
        account,
    )


def error_page(title: str, text: str, account: str = "") -> bytes:
    """Something is not there, or went wrong."""
    return page(title, f'<div class="card"><p>{escape(text)}</p><p><a href="/">To the shop</a></p></div>', account)


def _problem(text: str) -> str:
    return f'<p class="note bad" role="alert">{escape(text)}</p>' if text else ""
