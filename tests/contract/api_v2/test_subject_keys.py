"""Keys of subjects for subscribers: who gets them, what they open, and that an erasure ends it."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from api_gateway.key_store import KeyStore, NewKey
from api_gateway.principal import Level
from kernel.domain.ids import OrganizationId, SubjectId
from kernel.domain.workflow_run import WorkflowRunRequested
from kernel.log.codec import decode
from tests.support.gateways import ACME, PEPPER, RIVAL, RunningGateway, a_run, client_of
from towpath.errors import Unreadable
from towpath.event_log.sealed import unseal

PATH = "/api/v2/subject-keys"


async def subscriber(gateway: RunningGateway, organization: OrganizationId = ACME) -> tuple[httpx.AsyncClient, str]:
    """A client with a key of level events, and the key's public id."""
    store = KeyStore(gateway.services.db, PEPPER, gateway.clock, gateway.services.entropy)
    made = await store.create(organization, NewKey(Level.EVENTS))
    return client_of(gateway.app, made.text), made.answer.public_id


async def sealed_external_id(gateway: RunningGateway, external_id: str) -> tuple[SubjectId, bytes]:
    """What a run of this customer has put into the log."""
    await a_run(gateway.api, externalId=external_id)
    log = gateway.services.log
    stored = [record for p in range(log.partitions("run_requests")) for record in await log.read("run_requests", p, 0)]
    events = [decode(one).event for one in stored]
    asked: WorkflowRunRequested = next(event for event in events if isinstance(event, WorkflowRunRequested))
    return asked.external_id.subject_id, asked.external_id.box


async def answer(client: httpx.AsyncClient, *subjects: str) -> dict[str, Any]:
    found = await client.get(PATH, params=[("subjectId", subject) for subject in subjects])
    assert found.status_code == 200, found.text
    assert found.headers["cache-control"] == "no-store"
    body: dict[str, Any] = found.json()
    return body


async def test_a_subscriber_opens_what_travels_sealed_until_the_customer_is_erased(gateway: RunningGateway) -> None:
    subject, box = await sealed_external_id(gateway, "ada@example.com")
    client, _ = await subscriber(gateway)
    found = await answer(client, subject)
    (one,) = found["data"]
    assert (one["subjectId"], found["gone"]) == (subject, [])
    key = base64.b64decode(one["key"])
    assert unseal(box, key, subject) == b"ada@example.com"
    with pytest.raises(Unreadable):
        unseal(box, key, subject, "json")
    await gateway.services.vault.erase_subject(subject)
    assert await answer(client, subject) == {"data": [], "gone": [subject]}


async def test_of_many_subjects_each_is_told_once(gateway: RunningGateway) -> None:
    vault = gateway.services.vault
    subjects = [await vault.subject_for(ACME, f"customer-{number}") for number in range(3)]
    client, _ = await subscriber(gateway)
    unknown = "00000000-0000-4000-8000-00000000beef"
    found = await answer(client, *subjects, subjects[0].upper(), unknown)
    assert [one["subjectId"] for one in found["data"]] == subjects
    assert len({one["key"] for one in found["data"]}) == 3
    assert found["gone"] == [unknown]


async def test_subjects_of_another_organization_are_not_there(gateway: RunningGateway) -> None:
    subject = await gateway.services.vault.subject_for(RIVAL, "bob")
    client, _ = await subscriber(gateway)
    assert await answer(client, subject) == {"data": [], "gone": [subject]}
    theirs, _ = await subscriber(gateway, RIVAL)
    assert len((await answer(theirs, subject))["data"]) == 1


async def test_it_needs_the_level_events_which_does_nothing_else(gateway: RunningGateway) -> None:
    subject = await gateway.services.vault.subject_for(ACME, "ada")
    for client in (gateway.reader, gateway.api):
        refused = await client.get(PATH, params={"subjectId": subject})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert len((await answer(gateway.admin, subject))["data"]) == 1
    client, _ = await subscriber(gateway)
    for path in ("/jobs", "/job-runs", "/api-keys", "/artifacts"):
        refused = await client.get(f"/api/v2{path}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden"), path


async def test_only_an_admin_makes_keys_of_that_level(gateway: RunningGateway) -> None:
    made = await gateway.admin.post("/api/v2/api-keys", json={"level": "events"})
    assert (made.status_code, made.json()["level"]) == (201, "events")
    assert (await gateway.api.post("/api/v2/api-keys", json={"level": "events"})).status_code == 403


async def test_every_key_that_leaves_is_audited_with_whom_it_was_handed_to(gateway: RunningGateway) -> None:
    subject = await gateway.services.vault.subject_for(ACME, "ada")
    client, public_id = await subscriber(gateway)
    await answer(client, subject, "00000000-0000-4000-8000-00000000beef")
    rows = await gateway.services.db.fetch_all(
        "SELECT organization_id, opener, kind, ref, outcome FROM vault_audit WHERE opener LIKE 'key:%' ORDER BY outcome"
    )
    assert [tuple(row) for row in rows] == [
        (ACME, f"key:{public_id}", "subject_key", subject, "granted"),
        (ACME, f"key:{public_id}", "subject_key", "00000000-0000-4000-8000-00000000beef", "refused: no such secret"),
    ]


@pytest.mark.parametrize("subjects", [(), ("x",), tuple(f"00000000-0000-4000-8000-{n:012d}" for n in range(101))])
async def test_it_takes_one_to_a_hundred_subjects(gateway: RunningGateway, subjects: tuple[str, ...]) -> None:
    client, _ = await subscriber(gateway)
    refused = await client.get(PATH, params=[("subjectId", subject) for subject in subjects])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_parameter")
