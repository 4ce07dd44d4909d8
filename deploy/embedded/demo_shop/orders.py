"""What the shop sold: sixty orders, the same in every life of every shop. Pure."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import date, timedelta

ORDER_COUNT = 60

_CUSTOMERS = (
    "Adler & Sons", "Beacon Bakery", "Café Marmot", "Dune Surf Hire", "Elm Street Books", "Fern Florists",
    "Grünwald Optics", "Harbour Diner", "Iris Ceramics", "Juniper Bar", "Kite & Co.", "Larkspur School",
)  # fmt: skip
GOODS = (
    ("Paper bags, 100", 1290), ("Olive oil, 5 l", 4850), ("Candles, 24", 2199), ("Tea towels, 6", 1745),
    ("Storage jars, 12", 3360), ("Hand soap, 1 l", 895), ("Coffee beans, 2 kg", 3990),
)  # fmt: skip
"""Name and price in cents."""
_STATUSES = ("Delivered", "Delivered", "Shipped", "Delivered", "Processing", "Delivered", "Returned")
_NEWEST = date(2026, 9, 30)


@dataclass(frozen=True, slots=True)
class Line:
    """So many of one thing."""

    goods: str
    quantity: int
    price_cents: int

    @property
    def total_cents(self) -> int:
        return self.quantity * self.price_cents


@dataclass(frozen=True, slots=True)
class Order:
    """One sale."""

    id: str
    day: date
    customer: str
    status: str
    lines: tuple[Line, ...]

    @property
    def total_cents(self) -> int:
        return sum(line.total_cents for line in self.lines)


def _order(index: int) -> Order:
    goods = [GOODS[(index + step * 2) % len(GOODS)] for step in range(1 + index * 5 % 3)]
    lines = tuple(Line(name, 1 + (index * 7 + step) % 5, price) for step, (name, price) in enumerate(goods))
    return Order(
        id=f"CG-{1060 - index}",
        day=_NEWEST - timedelta(days=index + index // 3),
        customer=_CUSTOMERS[index * 5 % len(_CUSTOMERS)],
        status=_STATUSES[index * 3 % len(_STATUSES)],
        lines=lines,
    )


ORDERS: tuple[Order, ...] = tuple(_order(index) for index in range(ORDER_COUNT))
"""Newest first."""


def money(cents: int) -> str:
    """`€1,234.50`."""
    return f"€{cents // 100:,}.{cents % 100:02}"


def orders_csv() -> bytes:
    """All orders as a spreadsheet reads them."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(["Order", "Date", "Customer", "Total", "Status"])
    for order in ORDERS:
        amount = f"{order.total_cents / 100:.2f}"
        rows.writerow([order.id, order.day.isoformat(), order.customer, amount, order.status])
    return text.getvalue().encode()
