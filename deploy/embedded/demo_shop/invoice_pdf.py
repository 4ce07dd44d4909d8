"""Invoices as small, valid PDF files: one page, two built-in fonts. Pure."""

from __future__ import annotations

from demo_shop.orders import Order, money

_LEFT, _RIGHT, _TOP = 60, 535, 770


def invoice_pdf(order: Order) -> bytes:
    """The invoice of `order`; the same order makes the same bytes."""
    return _document(_page(order))


def _page(order: Order) -> bytes:
    parts = [
        _text(_LEFT, _TOP, "Corner Goods", bold=True, size=20),
        _text(_LEFT, _TOP - 40, f"Invoice for order {order.id}", bold=True, size=13),
        _text(_LEFT, _TOP - 60, f"Date: {order.day.isoformat()}"),
        _text(_LEFT, _TOP - 76, f"Customer: {order.customer}"),
        _rule(_TOP - 96),
    ]
    y = _TOP - 116
    for line in order.lines:
        parts.append(_text(_LEFT, y, f"{line.quantity} x {line.goods}"))
        parts.append(_text(_RIGHT - 80, y, money(line.total_cents)))
        y -= 18
    parts += [
        _rule(y),
        _text(_LEFT, y - 20, "Total", bold=True),
        _text(_RIGHT - 80, y - 20, money(order.total_cents), bold=True),
    ]
    return "\n".join(parts).encode("cp1252", "replace")


def _text(x: int, y: int, text: str, *, bold: bool = False, size: int = 11) -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{'F2' if bold else 'F1'} {size} Tf {x} {y} Td ({escaped}) Tj ET"


def _rule(y: int) -> str:
    return f"0.7 G {_LEFT} {y} m {_RIGHT} {y} l S"


def _document(page: bytes) -> bytes:
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /{} /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 7 0 R >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(page), page),
        font.format("Helvetica").encode(),
        font.format("Helvetica-Bold").encode(),
        b"<< /Font << /F1 5 0 R /F2 6 0 R >> >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)
