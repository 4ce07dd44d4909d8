"""`/api-keys`: made once, shown once, revoked for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from api_gateway.app import create_app
from api_gateway.auth import KEEP_MS, LAST_USE_GRAIN_MS
from api_gateway.key_store import KeyStore, NewKey
from api_gateway.principal import Level
from tests.support.eventually import until
from tests.support.gateways import ACME, PEPPER, Json, RunningGateway, client_of, made

KEYS = "/api/v2/api-keys"
JOBS = "/api/v2/jobs"


async def a_key(gateway: RunningGateway, **body: object) -> Json:
    return await made(gateway.admin, "/api-keys", {"level": "write", **body})


async def test_a_key_is_shown_in_the_answer_that_made_it_and_nowhere_else(gateway: RunningGateway) -> None:
    created = await a_key(gateway, description="nightly payroll")
    key = created.pop("key")
    assert key.startswith(f"towpath_live_{created['publicId']}_")
    read = (await gateway.admin.get(f"{KEYS}/{created['id']}")).json()
    assert read == created
    assert (read["description"], read["level"], read["lastUsedAt"], read["revokedAt"]) == (
        "nightly payroll", "write", None, None
    )  # fmt: skip
    listed = await gateway.admin.get(KEYS)
    assert listed.json()["data"][0] == created
    assert listed.json()["total"] == 4
    secret = key.split("_")[3]
    rows = await gateway.services.db.fetch_all("SELECT * FROM api_keys")
    assert secret not in listed.text + repr(rows)
    opened = client_of(gateway.app, key)
    assert (await opened.get(JOBS)).status_code == 200
    await opened.aclose()


async def test_what_a_key_makes_bears_the_service_user_of_that_key(gateway: RunningGateway) -> None:
    created = await a_key(gateway)
    admins = [key for key in (await gateway.admin.get(KEYS)).json()["data"] if key["level"] == "admin"]
    assert created["createdByUserId"] == admins[0]["userId"]
    assert created["userId"] != created["createdByUserId"]


async def test_a_repetition_says_that_a_key_was_made_and_not_which(gateway: RunningGateway) -> None:
    header = {"Idempotency-Key": "the-same"}
    first = await gateway.admin.post(KEYS, json={"level": "read"}, headers=header)
    again = await gateway.admin.post(KEYS, json={"level": "read"}, headers=header)
    assert (again.status_code, again.json()) == (201, {**first.json(), "key": None})
    (row,) = await gateway.services.db.fetch_all("SELECT body FROM idempotency")
    assert first.json()["key"].encode() not in row[0]


async def test_a_revoked_key_opens_nothing_from_that_moment_on(gateway: RunningGateway) -> None:
    created = await a_key(gateway)
    opened = client_of(gateway.app, created["key"])
    assert (await opened.get(JOBS)).status_code == 200
    revoked = await gateway.admin.delete(f"{KEYS}/{created['id']}")
    assert (revoked.status_code, revoked.content) == (204, b"")
    assert (await opened.get(JOBS)).status_code == 401
    await opened.aclose()
    read = (await gateway.admin.get(f"{KEYS}/{created['id']}")).json()
    assert read["revokedAt"]
    assert (await gateway.admin.delete(f"{KEYS}/{created['id']}")).status_code == 204, "again changes nothing"
    assert (await gateway.admin.get(f"{KEYS}/{created['id']}")).json() == read


async def test_another_replica_takes_a_revoked_key_no_longer_than_it_keeps_rows(gateway: RunningGateway) -> None:
    created = await a_key(gateway)
    other = create_app(gateway.services)
    opened = client_of(other, created["key"])
    assert (await opened.get(JOBS)).status_code == 200
    await gateway.admin.delete(f"{KEYS}/{created['id']}")
    kept = other.state.gateway.authenticator._kept[created["publicId"]]
    kept.read_at_ms -= KEEP_MS
    assert (await opened.get(JOBS)).status_code == 401
    assert KEEP_MS <= 2000
    await opened.aclose()


async def test_a_key_ends_when_it_was_said_to(gateway: RunningGateway) -> None:
    ends = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()  # noqa: TID251 (what a caller would send)
    created = await a_key(gateway, expiresAt=ends)
    opened = client_of(gateway.app, created["key"])
    assert (await opened.get(JOBS)).status_code == 200
    gateway.clock.ahead_ms = 61_000
    assert (await opened.get(JOBS)).status_code == 401
    await opened.aclose()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "/level"),
        ({"level": "owner"}, "/level"),
        ({"level": "read", "description": "x" * 201}, "/description"),
        ({"level": "read", "description": "a\nb"}, "/description"),
        ({"level": "read", "expiresAt": "2020-01-01T00:00:00Z"}, "/expiresAt"),
        ({"level": "read", "expiresAt": "2030-01-01T00:00:00"}, "/expiresAt"),
        ({"level": "read", "prefix": "acme"}, "/prefix"),
    ],
)
async def test_a_bad_key_is_refused_with_its_place(gateway: RunningGateway, body: Json, path: str) -> None:
    answer = await gateway.admin.post(KEYS, json=body)
    assert answer.status_code == 422
    assert [spot["path"] for spot in answer.json()["error"]["details"]] == [path]


async def test_keys_of_the_published_product_s_form_are_made_and_taken(gateway: RunningGateway) -> None:
    created = await a_key(gateway, prefix="anon")
    assert created["key"].startswith("anon_live_")
    opened = client_of(gateway.app, created["key"])
    assert (await opened.get(JOBS)).status_code == 200
    await opened.aclose()


async def test_the_last_key_of_level_admin_cannot_be_revoked(gateway: RunningGateway) -> None:
    keys = (await gateway.admin.get(KEYS)).json()["data"]
    (only,) = [key for key in keys if key["level"] == "admin"]
    refused = await gateway.admin.delete(f"{KEYS}/{only['id']}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "last_admin_key")
    second = await a_key(gateway, level="admin")
    assert (await gateway.admin.delete(f"{KEYS}/{only['id']}")).status_code == 204
    opened = client_of(gateway.app, second["key"])
    assert (await opened.delete(f"{KEYS}/{second['id']}")).status_code == 409
    await opened.aclose()


async def test_a_key_that_has_ended_is_no_other_admin(gateway: RunningGateway) -> None:
    store = KeyStore(gateway.services.db, PEPPER, gateway.clock, gateway.services.entropy)
    ends_ms = gateway.clock.now_ms() + 1000
    await store.create(ACME, NewKey(Level.ADMIN, expires_ms=ends_ms))
    gateway.clock.ahead_ms = 2000
    keys = (await gateway.admin.get(KEYS)).json()["data"]
    (only,) = [key for key in keys if key["level"] == "admin" and not key["expiresAt"]]
    assert (await gateway.admin.delete(f"{KEYS}/{only['id']}")).status_code == 409


async def test_when_a_key_was_used_is_noted_at_most_once_an_hour_and_nobody_waits_for_it(
    gateway: RunningGateway,
) -> None:
    created = await a_key(gateway)
    opened = client_of(gateway.app, created["key"])
    authenticator = gateway.app.state.gateway.authenticator

    async def used() -> str | None:
        for _ in range(3):
            assert (await opened.get(JOBS)).status_code == 200
        await until(lambda: not authenticator._noting)
        found: str | None = (await gateway.admin.get(f"{KEYS}/{created['id']}")).json()["lastUsedAt"]
        return found

    first = await used()
    assert first is not None
    gateway.clock.ahead_ms = LAST_USE_GRAIN_MS - 60_000
    assert await used() == first
    gateway.clock.ahead_ms = LAST_USE_GRAIN_MS + 60_000
    assert await used() != first
    await opened.aclose()
