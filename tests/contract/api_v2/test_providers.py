from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kernel.domain.job_run import JobRunRequested
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.workflow_run import WorkflowRunRequested
from kernel.log.codec import decode
from tests.support.gateways import RunningGateway, a_job, a_workflow, made, seen, steps, workflow_body

GUSTO = {
    "slug": "gusto",
    "displayName": "Gusto",
    "logoUrl": "https://cdn.gusto.test/logo.svg",
    "loginUrl": "https://login.gusto.test/",
    "allowedDomains": [".Gusto.test", "files.example", ".gusto.test"],
    "concurrency": 3,
}
OPEN = {"id": "open", "type": "navigate", "params": {"url": "https://own.example/"}}


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def planned(gateway: RunningGateway) -> PlannedWorkflow:
    """The first workflow of the newest run that was asked for."""
    log = gateway.services.log
    found: list[tuple[int, Any]] = []
    for partition in range(log.partitions("run_requests")):
        for stored in await log.read("run_requests", partition, 0, max_records=1000, wait_seconds=0):
            message = decode(stored)
            found.append((message.envelope.time_ms, message.event))
    event = max(found, key=lambda entry: entry[0])[1]
    assert isinstance(event, JobRunRequested | WorkflowRunRequested)
    plan = event.plan[0] if isinstance(event, JobRunRequested) else event.workflow
    assert isinstance(plan, PlannedWorkflow)
    return plan


async def test_a_provider_is_read_back_as_it_was_registered(gateway: RunningGateway) -> None:
    created = await made(gateway.admin, "/providers", GUSTO)
    assert created == {
        **GUSTO,
        "allowedDomains": [".gusto.test", "files.example"],
        "defaultJobId": None,
        "createdAt": created["createdAt"],
        "updatedAt": created["createdAt"],
        "health": created["health"],
    }
    assert created["health"]["status"] == "unknown"
    read = await gateway.reader.get("/api/v2/providers/gusto")
    assert read.json() == created
    again = await gateway.reader.get("/api/v2/providers/gusto", headers={"If-None-Match": read.headers["etag"]})
    assert again.status_code == 304


async def test_a_slug_is_enough(gateway: RunningGateway) -> None:
    created = await made(gateway.admin, "/providers", {"slug": "home_depot", "unheard": 1})
    assert (created["displayName"], created["allowedDomains"], created["concurrency"]) == ("home_depot", [], None)


async def test_a_slug_is_registered_once(gateway: RunningGateway) -> None:
    await made(gateway.admin, "/providers", GUSTO)
    assert code(await gateway.admin.post("/api/v2/providers", json=GUSTO)) == (409, "provider_exists")
    both = await asyncio.gather(*(gateway.admin.post("/api/v2/providers", json={"slug": "toast"}) for _ in range(6)))
    assert sorted(answer.status_code for answer in both) == [201, 409, 409, 409, 409, 409]


async def test_a_repeated_registration_under_one_key_is_one(gateway: RunningGateway) -> None:
    headers = {"Idempotency-Key": "set-up-of-gusto"}
    first, second = [await gateway.admin.post("/api/v2/providers", json=GUSTO, headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code, first.json()) == (201, 201, second.json())
    assert second.headers["idempotency-replayed"] == "true"


async def test_a_change_keeps_what_it_leaves_out_and_null_clears(gateway: RunningGateway) -> None:
    created = await made(gateway.admin, "/providers", GUSTO)
    path = "/api/v2/providers/gusto"
    changed = (await gateway.admin.patch(path, json={"concurrency": None, "logoUrl": None})).json()
    assert changed == {**created, "concurrency": None, "logoUrl": None, "updatedAt": changed["updatedAt"]}
    cleared = (await gateway.admin.patch(path, json={"loginUrl": None, "allowedDomains": []})).json()
    assert (cleared["loginUrl"], cleared["allowedDomains"], cleared["displayName"]) == (None, [], "Gusto")


async def test_of_two_editors_of_one_version_exactly_one_wins(gateway: RunningGateway) -> None:
    await made(gateway.admin, "/providers", GUSTO)
    path = "/api/v2/providers/gusto"
    etag = (await gateway.admin.get(path)).headers["etag"]
    answers = await asyncio.gather(
        *(
            gateway.admin.patch(path, json={"concurrency": number}, headers={"If-Match": etag})
            for number in range(10, 16)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 5]
    assert code(await gateway.admin.delete(path, headers={"If-Match": etag})) == (412, "precondition_failed")


async def test_a_deleted_provider_is_gone_until_it_is_registered_again(gateway: RunningGateway) -> None:
    await made(gateway.admin, "/providers", GUSTO)
    path = "/api/v2/providers/gusto"
    deleted = await gateway.admin.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (
        await gateway.admin.get(path),
        await gateway.admin.patch(path, json={"concurrency": 1}),
        await gateway.admin.delete(path),
    ):
        assert code(answer) == (404, "not_found")
    assert (await gateway.admin.get("/api/v2/providers")).json()["total"] == 0
    anew = await made(gateway.admin, "/providers", {"slug": "gusto"})
    assert (anew["loginUrl"], anew["concurrency"]) == (None, None)


async def test_providers_are_listed_newest_first_in_pages(gateway: RunningGateway) -> None:
    for slug in ("adp", "toast", "rippling"):
        await made(gateway.admin, "/providers", {"slug": slug})
    await gateway.admin.patch("/api/v2/providers/adp", json={"concurrency": 2})
    page = (await gateway.reader.get("/api/v2/providers", params={"page_size": 2})).json()
    assert ([item["slug"] for item in page["data"]], page["total"]) == (["rippling", "toast"], 3)
    assert (await gateway.rival.get("/api/v2/providers")).json()["total"] == 0


async def test_only_an_admin_key_changes_providers(gateway: RunningGateway) -> None:
    await made(gateway.admin, "/providers", GUSTO)
    for answer in (
        await gateway.api.post("/api/v2/providers", json={"slug": "toast"}),
        await gateway.api.patch("/api/v2/providers/gusto", json={}),
        await gateway.api.delete("/api/v2/providers/gusto"),
    ):
        assert code(answer) == (403, "forbidden")
    assert code(await gateway.rival.get("/api/v2/providers/gusto")) == (404, "not_found")
    assert code(await gateway.api.get("/api/v2/providers/No%20Slug")) == (400, "invalid_parameter")


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"slug": "Gusto"}, "/slug", "validation_failed"),
        ({"slug": ""}, "/slug", "validation_failed"),
        ({"displayName": "x" * 201}, "/displayName", "validation_failed"),
        ({"displayName": None}, "/displayName", "validation_failed"),
        ({"loginUrl": "ftp://gusto.test"}, "/loginUrl", "validation_failed"),
        ({"loginUrl": "https://{{inputs.host}}/"}, "/loginUrl", "url_not_allowed"),
        ({"loginUrl": "https://user:pass@gusto.test/"}, "/loginUrl", "url_not_allowed"),
        ({"logoUrl": "http://10.0.0.1/logo"}, "/logoUrl", "url_not_allowed"),
        ({"logoUrl": "javascript:alert(1)"}, "/logoUrl", "validation_failed"),
        ({"allowedDomains": ["gusto.test", "https://x.test"]}, "/allowedDomains/1", "validation_failed"),
        ({"allowedDomains": ["*.gusto.test"]}, "/allowedDomains/0", "validation_failed"),
        ({"allowedDomains": ["."]}, "/allowedDomains/0", "validation_failed"),
        ({"allowedDomains": ["a.test"] * 101}, "/allowedDomains", "validation_failed"),
        ({"concurrency": 0}, "/concurrency", "validation_failed"),
        ({"concurrency": 10_001}, "/concurrency", "validation_failed"),
        ({"concurrency": True}, "/concurrency", "validation_failed"),
        ({"defaultJobId": "x"}, "/defaultJobId", "validation_failed"),
        ({"defaultJobId": "00000000-0000-4000-8000-00000000dead"}, "/defaultJobId", "validation_failed"),
    ],
)
async def test_a_field_that_breaks_a_rule_is_refused_with_its_spot(
    gateway: RunningGateway, fields: dict[str, Any], path: str, told: str
) -> None:
    answer = await gateway.admin.post("/api/v2/providers", json={**GUSTO, **fields})
    assert code(answer) == (422, told)
    assert [detail["path"] for detail in answer.json()["error"]["details"]] == [path]


async def test_a_default_job_is_one_of_the_organization_for_this_provider(gateway: RunningGateway) -> None:
    job, toast = await a_job(gateway.api), await a_job(gateway.api, provider="toast")
    created = await made(gateway.admin, "/providers", {**GUSTO, "defaultJobId": job.upper()})
    assert created["defaultJobId"] == job
    refused = await gateway.admin.patch("/api/v2/providers/gusto", json={"defaultJobId": toast})
    assert code(refused) == (422, "provider_mismatch")
    foreign = await a_job(gateway.rival)
    assert code(await gateway.admin.patch("/api/v2/providers/gusto", json={"defaultJobId": foreign})) == (
        422, "validation_failed",
    )  # fmt: skip


async def test_a_run_is_planned_with_what_its_provider_says_at_that_time(gateway: RunningGateway) -> None:
    workflow = (await made(gateway.api, "/workflows", workflow_body(stepsJson=steps(OPEN))))["id"]
    body = {"workflowId": workflow}
    plans = []
    for change in (
        gateway.admin.post("/api/v2/providers", json=GUSTO),
        gateway.admin.patch("/api/v2/providers/gusto", json={"concurrency": 1, "allowedDomains": []}),
        gateway.admin.delete("/api/v2/providers/gusto"),
    ):
        assert (await change).status_code < 300
        run = await made(gateway.api, "/workflow-runs", body)
        await seen(gateway, f"/workflow-runs/{run['id']}")
        plan = await planned(gateway)
        plans.append((plan.concurrency, plan.allowed_hosts))
    assert plans == [
        (3, (".gusto.test", "files.example", "own.example")),
        (1, ("own.example",)),
        (0, ("own.example",)),
    ]


async def test_a_deleted_default_job_stands_in_no_way(gateway: RunningGateway) -> None:
    job = await a_job(gateway.api, await a_workflow(gateway.api))
    await made(gateway.admin, "/providers", {**GUSTO, "defaultJobId": job})
    assert (await gateway.api.delete(f"/api/v2/jobs/{job}")).status_code == 204
    changed = await gateway.admin.patch("/api/v2/providers/gusto", json={"concurrency": 5})
    assert (changed.status_code, changed.json()["defaultJobId"]) == (200, job)
