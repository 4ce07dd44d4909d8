"""Fills an empty pretix: an organizer, an event, products, orders, and a user who needs a code to log in.

Runs in pretix's environment. Reads `{"email", "password", "totp_key", "orders"}` from standard input; the key is hex.
Writes what a reader of the pages must find: `{"products": [...], "orders": [{code, email, total, status}]}`, newest
order first. The same input makes the same data.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import django

django.setup()

from django.db import transaction  # noqa: E402 (Django's models may be named only after its setup)
from django_otp.plugins.otp_totp.models import TOTPDevice  # noqa: E402 (as above)
from django_scopes import scopes_disabled  # noqa: E402 (as above)
from pretix.base.models import Event, Item, Order, Organizer, Quota, Team, User  # noqa: E402 (as above)

FIRST_ORDER = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PRODUCTS = (("Day ticket", "23.00"), ("Weekend ticket", "41.50"), ("Workshop", "17.25"))
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def add_user(email: str, password: str, totp_key: str) -> User:
    """A user who is asked for a code of an authenticator app."""
    user = User.objects.create_user(email, password, fullname="Box office", locale="en", timezone="UTC")
    user.require_2fa = True
    user.save()
    TOTPDevice.objects.create(user=user, name="app", confirmed=True, key=totp_key)
    return user


def add_event(user: User) -> Event:
    """An event that the user may do everything with."""
    organizer = Organizer.objects.create(name="Corner Concerts", slug="corner")
    team = Team.objects.create(
        organizer=organizer, name="All", all_events=True, all_event_permissions=True, all_organizer_permissions=True
    )
    team.members.add(user)
    event = Event.objects.create(
        organizer=organizer,
        name="Harbour Festival",
        slug="harbour",
        date_from=FIRST_ORDER + 200 * DAY,
        currency="EUR",
        live=True,
        plugins="pretix.plugins.reports,pretix.plugins.checkinlists",
    )
    event.settings.timezone = "UTC"
    event.settings.locale = "en"
    return event


def add_products(event: Event) -> list[Item]:
    """Products, sold from one pool."""
    items = [event.items.create(name=name, default_price=Decimal(price)) for name, price in PRODUCTS]
    quota: Quota = event.quotas.create(name="House", size=1000)
    quota.items.add(*items)
    return items


def add_order(event: Event, items: list[Item], number: int) -> dict[str, Any]:
    """Order `number`: its code, product, price and status follow from the number."""
    code = "".join(LETTERS[number // 24**place % 24] for place in range(3)) + "7X"
    item = items[number % len(items)]
    paid = number % 4 != 0
    at = FIRST_ORDER + number * timedelta(hours=7)
    order = Order.objects.create(
        code=code,
        event=event,
        email=f"guest{number:03d}@customers.example",
        status=Order.STATUS_PAID if paid else Order.STATUS_PENDING,
        datetime=at,
        expires=at + 400 * DAY,
        total=item.default_price,
        locale="en",
        sales_channel=event.organizer.sales_channels.get(identifier="web"),
    )
    order.positions.create(item=item, price=item.default_price, positionid=1)
    order.create_transactions(is_new=True)
    if paid:
        order.payments.create(provider="manual", state="confirmed", amount=order.total, payment_date=at)
    return {"code": code, "email": order.email, "total": str(order.total), "status": "Paid" if paid else "Pending"}


def main() -> None:
    """Read, fill, tell."""
    asked = json.load(sys.stdin)
    with scopes_disabled(), transaction.atomic():
        event = add_event(add_user(asked["email"], asked["password"], asked["totp_key"]))
        items = add_products(event)
        orders = [add_order(event, items, number) for number in range(asked["orders"])]
    json.dump({"products": [name for name, _ in PRODUCTS], "orders": orders[::-1]}, sys.stdout)


main()
