"""The pages that anybody may see: the price list, and the form for a message. Plain HTML. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from demo_shop.messages import Message
from demo_shop.orders import GOODS, money
from demo_shop.pages import page

_FIELDS = (
    ("reference", "Your reference", "Optional; we quote it in our answer."),
    ("name", "Name", ""),
    ("order", "Order number", "Such as CG-1042."),
)


def prices_page() -> bytes:
    """What the goods cost."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{money(cents)}</td>'
        f"<td>{'In stock' if index % 3 else 'Sold out'}</td></tr>"
        for index, (name, cents) in enumerate(GOODS)
    )
    return page(
        "Price list",
        '<div class="card scroll"><table aria-label="Prices"><thead><tr><th scope="col">Goods</th>'
        '<th scope="col" class="number">Price</th><th scope="col">Availability</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<p><a href="/messages/new">Write to us</a> · <a href="/login">Log in</a></p>',
    )


def message_form(form: Mapping[str, str], faults: Mapping[str, str]) -> bytes:
    """The form, with what was given and what is wrong with it."""
    summary = '<p class="note bad" role="alert">Your message was not sent.</p>' if faults else ""
    inputs = "".join(_input(name, label, hint, form, faults) for name, label, hint in _FIELDS)
    text = escape(form.get("text", ""))
    return page(
        "Write to us",
        f'<div class="card narrow">{summary}<form method="post" action="/messages/new" novalidate>{inputs}'
        f'<label for="text">Message</label><textarea id="text" name="text" rows="5"{_described("text", faults)}>{text}'
        f'</textarea>{_fault("text", faults)}<div class="button-row"><button>Send message</button></div></form></div>',
    )


def _input(name: str, label: str, hint: str, form: Mapping[str, str], faults: Mapping[str, str]) -> str:
    told = f'<small id="{name}-hint">{escape(hint)}</small>' if hint else ""
    value = escape(form.get(name, ""))
    return (
        f'<label for="{name}">{label}</label>'
        f'<input id="{name}" name="{name}" value="{value}"{_described(name, faults)}>{told}{_fault(name, faults)}'
    )


def _described(name: str, faults: Mapping[str, str]) -> str:
    return f' aria-invalid="true" aria-describedby="{name}-fault"' if name in faults else ""


def _fault(name: str, faults: Mapping[str, str]) -> str:
    return f'<p class="fault" id="{name}-fault">{escape(faults[name])}</p>' if name in faults else ""


def messages_page(reference: str, found: list[Message], *, is_thanks: bool) -> bytes:
    """The messages under one reference."""
    thanks = '<p class="note" role="status">Thank you. Your message was received.</p>' if is_thanks else ""
    items = "".join(
        f"<li><strong>{message.id}</strong> about {escape(message.order)}: {escape(message.text)}</li>"
        for message in found
    )
    none = "" if found else "<p>There is no message with this reference.</p>"
    return page(
        f"Messages for {reference}",
        f'{thanks}<div class="card"><p>{len(found)} received under reference {escape(reference)}.</p>'
        f'{none}<ul aria-label="Messages">{items}</ul></div>',
    )
