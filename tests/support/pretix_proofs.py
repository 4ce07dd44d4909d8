"""What a run on pretix must have brought home, held to what was seeded."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from zipfile import ZipFile

from pypdf import PdfReader

from tests.support.pretix_jobs import Customer
from towpath.resources import JobRun

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def prove_orders(customer: Customer, run: JobRun) -> None:
    """The extracted rows are the seeded orders, all pages of them, in the order of the page."""
    content, kind = customer.read(run, "extracted_data", "read_orders.json")
    assert kind == "application/json"
    rows = [(row["code"], row["email"], row["total"], row["status"]) for row in json.loads(content)["rows"]]
    assert rows == [
        (order.code, order.email, f"€{order.total if order.is_paid else '0.00'} / €{order.total}", order.status)
        for order in customer.site.orders
    ]


def prove_exports(customer: Customer, run: JobRun) -> None:
    """Three files of three kinds, each with the orders that it should hold."""
    assert [file.display_name for file in customer.artifacts(run, "download")] == [
        *("orders.csv", "orders.xlsx", "overview.pdf")
    ]
    seeded = customer.site.orders
    content, kind = customer.read(run, "download", "orders.csv")
    assert kind == "text/csv"
    listed = {
        row["Order code"]: (row["Email"], row["Order total"]) for row in csv.DictReader(io.StringIO(content.decode()))
    }
    assert listed == {order.code: (order.email, order.total) for order in seeded}
    content, kind = customer.read(run, "download", "orders.xlsx")
    assert kind == XLSX
    with ZipFile(io.BytesIO(content)) as book:
        text = "".join(book.read(name).decode() for name in book.namelist() if name.endswith(".xml"))
    # pretix exports paid orders only unless it is told otherwise; this time it was not.
    assert {order.code for order in seeded if order.code in text} == {order.code for order in seeded if order.is_paid}
    content, kind = customer.read(run, "download", "overview.pdf")
    assert kind == "application/pdf"
    words = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages).splitlines()
    paid = sum(Decimal(order.total) for order in seeded if order.is_paid)
    everything = sum(Decimal(order.total) for order in seeded)
    wanted = {"Orders by product (incl. taxes)", *customer.site.products, str(paid), str(everything)}
    assert wanted <= set(words), f"not in the report: {wanted - set(words)}"


def prove_codes(customer: Customer) -> None:
    """No code of the authenticator app was sent twice, and none was refused."""
    codes = customer.site.codes()
    assert len(codes) == len(set(codes)), f"a code was sent twice: {codes}"
    assert customer.site.rejected_codes() == 0
