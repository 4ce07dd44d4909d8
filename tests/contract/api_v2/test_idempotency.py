from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace

from api_gateway.idempotency import KEPT_MS, TAKEOVER_MS, Claim, IdempotencyStore, StoredAnswer, forget_answers
from tests.support.eventually import until
from tests.support.gateways import ACME, RIVAL, RunningGateway, a_workflow, workflow_body

KEY = {"Idempotency-Key": "order-4711"}


async def test_the_same_post_is_done_once(gateway: RunningGateway) -> None:
    first = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=KEY)
    before = await gateway.counts()
    again = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert await gateway.counts() == before


async def test_what_is_kept_for_a_repetition_names_no_customer(gateway: RunningGateway) -> None:
    body = {"workflowId": await a_workflow(gateway.api), "externalId": "customer-of-acme"}
    first = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    again = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    assert again.json() == first.json()
    assert again.json()["externalId"] == "customer-of-acme"
    (row,) = await gateway.services.db.fetch_all("SELECT body FROM idempotency")
    assert b"customer-of-acme" not in row[0]


async def test_neither_the_key_nor_the_body_of_a_post_can_be_guessed_from_what_is_kept(gateway: RunningGateway) -> None:
    content = json.dumps(workflow_body()).encode()
    headers = {**KEY, "Content-Type": "application/json"}
    assert (await gateway.api.post("/api/v2/workflows", content=content, headers=headers)).status_code == 201
    (row,) = await gateway.services.db.fetch_all("SELECT route, key, fingerprint FROM idempotency")
    assert row[1] not in {"order-4711", hashlib.sha256(b"order-4711").hexdigest()}
    plain = hashlib.sha256(b"\0".join((row[0].encode(), b"/api/v2/workflows", content))).digest()
    assert row[2] != plain


async def test_a_repetition_after_the_kept_answers_are_forgotten_finds_the_first_outcome(
    gateway: RunningGateway,
) -> None:
    body = {"workflowId": await a_workflow(gateway.api), "externalId": "customer-of-acme"}
    first = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    await gateway.rival.post("/api/v2/workflows", json=workflow_body(), headers=KEY)
    await forget_answers(gateway.services.db, ACME)
    (row,) = await gateway.services.db.fetch_all("SELECT organization_id FROM idempotency")
    assert row[0] == RIVAL
    before = await gateway.counts()
    again = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert await gateway.counts() == before


async def test_the_same_key_for_another_body_is_refused(gateway: RunningGateway) -> None:
    await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=KEY)
    answer = await gateway.api.post("/api/v2/workflows", json=workflow_body(name="other"), headers=KEY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")


async def test_a_key_belongs_to_its_organization_and_route(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    first = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=KEY)
    rival = await gateway.rival.post("/api/v2/workflows", json=workflow_body(name="other"), headers=KEY)
    run = await gateway.api.post("/api/v2/workflow-runs", json={"workflowId": workflow}, headers=KEY)
    assert [answer.status_code for answer in (first, rival, run)] == [201, 201, 201]


async def test_a_refusal_is_remembered_too(gateway: RunningGateway) -> None:
    body = {"workflowId": "00000000-0000-4000-8000-00000000dead"}
    first = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    again = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    assert (first.status_code, again.status_code) == (404, 404)
    assert again.content == first.content


async def test_while_the_first_is_under_way_the_second_is_told_to_come_back(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    gateway.scheduler.is_silent = True
    body = {"workflowId": workflow}
    first = asyncio.create_task(gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY))
    await until(lambda: gateway.services.waiters._outcomes)
    second = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_in_progress")
    assert second.headers["retry-after"] == "1"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_after_a_crash_the_repetition_finds_the_first_outcome(gateway: RunningGateway) -> None:
    gateway.clock.stand_still()
    workflow = await a_workflow(gateway.api)
    body = {"workflowId": workflow}
    first = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    await gateway.services.db.execute("UPDATE idempotency SET status = 0")  # the process died before it could answer
    before = await gateway.counts()
    early = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    gateway.clock.ahead_ms = TAKEOVER_MS + 1
    late = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    assert (early.status_code, late.status_code) == (409, 201)
    assert late.json()["id"] == first.json()["id"]
    assert await gateway.counts() == before


async def test_a_gateway_that_was_only_paused_changes_nothing_of_what_its_successor_keeps(
    gateway: RunningGateway,
) -> None:
    parts = gateway.services
    store = IdempotencyStore(parts.db, parts.entropy, parts.keys, parts.vault)
    paused = Claim(ACME, "POST /api/v2/job-runs", "key", b"fingerprint", parts.clock.now_ms())
    successor = replace(paused, taken_ms=paused.taken_ms + TAKEOVER_MS + 1)
    assert [await store.begin(claim) for claim in (paused, successor)] == [None, None]
    await store.finish(paused, StoredAnswer(404, b"the job was deleted meanwhile"))
    await store.abandon(paused)
    await store.finish(successor, StoredAnswer(201, b"the run"))
    await store.finish(paused, StoredAnswer(404, b"the job was deleted meanwhile"))
    repetition = replace(paused, taken_ms=successor.taken_ms + 1)
    assert await store.begin(repetition) == StoredAnswer(201, b"the run")


async def test_an_unavailable_answer_is_not_kept(gateway: RunningGateway) -> None:
    body = {"workflowId": await a_workflow(gateway.api)}
    gateway.scheduler.is_silent = True
    object.__setattr__(gateway.services.settings, "outcome_wait_seconds", 0.02)
    assert (await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)).status_code == 503
    gateway.scheduler.is_silent = False
    object.__setattr__(gateway.services.settings, "outcome_wait_seconds", 30.0)
    answer = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=KEY)
    assert answer.status_code == 201
    assert len(gateway.scheduler.started) == 1


async def test_a_key_is_forgotten_after_a_day(gateway: RunningGateway) -> None:
    first = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=KEY)
    gateway.clock.ahead_ms = KEPT_MS + 1
    other = await gateway.api.post("/api/v2/workflows", json=workflow_body(name="other"), headers=KEY)
    assert "idempotency-replayed" not in other.headers
    assert first.status_code == 201


async def test_a_malformed_key_is_refused(gateway: RunningGateway) -> None:
    for key in ("", "x" * 256):
        answer = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_parameter")
