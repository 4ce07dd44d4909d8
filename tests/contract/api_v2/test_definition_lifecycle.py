"""Deletes, revisions, filters, and editors who meet each other."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateways import FINISH, RunningGateway, a_job, a_workflow, made, steps, workflow_body


def code(answer: object) -> tuple[int, str]:
    status: int = answer.status_code  # type: ignore[attr-defined]  # an answer of httpx
    return status, answer.json()["error"]["code"]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- workflows


async def test_a_deleted_workflow_is_read_by_its_id_and_is_in_no_list(gateway: RunningGateway) -> None:
    id_ = await a_workflow(gateway.api)
    before = (await gateway.api.get(f"/api/v2/workflows/{id_}")).json()
    deleted = await gateway.api.delete(f"/api/v2/workflows/{id_}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    after = (await gateway.api.get(f"/api/v2/workflows/{id_}")).json()
    assert after["deletedAt"].endswith("Z")
    assert {**before, **{name: after[name] for name in ("deletedAt", "updatedAt")}} == after
    assert (await gateway.api.get(f"/api/v2/workflows/{id_}/revisions/1")).status_code == 200
    assert (await gateway.api.get("/api/v2/workflows")).json()["total"] == 0


async def test_a_deleted_workflow_takes_no_change_no_delete_and_no_run(gateway: RunningGateway) -> None:
    id_ = await a_workflow(gateway.api)
    path = f"/api/v2/workflows/{id_}"
    await gateway.api.delete(path)
    for answer in (
        await gateway.api.patch(path, json={"name": "n"}),
        await gateway.api.put(path, json={"stepsJson": steps()}),
        await gateway.api.delete(path, params={"force": "true"}),
        await gateway.api.post("/api/v2/workflow-runs", json={"workflowId": id_}),
    ):
        assert code(answer) == (409, "workflow_deleted")
    assert answer.json()["error"]["details"][0]["path"] == "/workflowId"


async def test_a_workflow_in_use_is_kept_and_its_jobs_are_named(gateway: RunningGateway) -> None:
    id_ = await a_workflow(gateway.api)
    jobs = sorted([await a_job(gateway.api, id_), await a_job(gateway.api, id_, id_)])
    answer = await gateway.api.delete(f"/api/v2/workflows/{id_}")
    assert code(answer) == (409, "workflow_in_use")
    assert [detail["path"] for detail in answer.json()["error"]["details"]] == [f"/jobs/{job}" for job in jobs]
    for job in jobs:
        assert (await gateway.api.delete(f"/api/v2/jobs/{job}")).status_code == 204
    assert (await gateway.api.delete(f"/api/v2/workflows/{id_}")).status_code == 204


async def test_a_job_that_names_a_deleted_workflow_refuses_to_run_until_it_is_edited(gateway: RunningGateway) -> None:
    kept, gone = await a_workflow(gateway.api), await a_workflow(gateway.api)
    job = await a_job(gateway.api, kept, gone, gone)
    assert (await gateway.api.delete(f"/api/v2/workflows/{gone}?force=true")).status_code == 204
    refused = await gateway.api.post(f"/api/v2/jobs/{job}/run", json={})
    assert code(refused) == (409, "workflow_deleted")
    (detail,) = refused.json()["error"]["details"]
    assert detail["path"] == "/jobConfigJson/workflowExecutionOrder/1"
    renamed = await gateway.api.patch(f"/api/v2/jobs/{job}", json={"name": "still there"})
    assert renamed.json()["jobConfigJson"]["workflowExecutionOrder"] == [kept, gone, gone]
    same = {"jobConfigJson": {"workflowExecutionOrder": [kept, gone]}}
    assert code(await gateway.api.patch(f"/api/v2/jobs/{job}", json=same)) == (422, "validation_failed")
    edited = await gateway.api.patch(f"/api/v2/jobs/{job}", json={"jobConfigJson": {"workflowExecutionOrder": [kept]}})
    assert edited.status_code == 200
    assert (await gateway.api.post(f"/api/v2/jobs/{job}/run", json={})).status_code == 201


async def test_every_revision_stays_readable_with_the_steps_of_then(gateway: RunningGateway) -> None:
    created = await made(gateway.api, "/workflows", workflow_body())
    path = f"/api/v2/workflows/{created['id']}"
    long = {**steps(), "metadata": {"note": "x" * 40_000}}
    await gateway.api.patch(path, json={"name": "renamed"})
    await gateway.api.patch(path, json={"stepsJson": long})
    listing = (await gateway.api.get(f"{path}/revisions")).json()
    assert [(item["revision"], item["stepsJson"]) for item in listing["data"]] == [(2, None), (1, None)]
    assert (listing["total"], listing["has_more"]) == (2, False)
    first = await gateway.api.get(f"{path}/revisions/1")
    assert first.json() == {
        "workflowId": created["id"],
        "revision": 1,
        "stepsJson": steps(),
        "createdAt": created["createdAt"],
        "createdByUserId": created["createdByUserId"],
    }
    assert (await gateway.api.get(f"{path}/revisions/2")).json()["stepsJson"] == long
    again = await gateway.api.get(f"{path}/revisions/1", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("revision", "told"),
    [("3", (404, "not_found")), ("0", (400, "invalid_parameter")), ("x", (400, "invalid_parameter"))],
)
async def test_a_revision_that_is_not_there_is_refused(
    gateway: RunningGateway, revision: str, told: tuple[int, str]
) -> None:
    id_ = await a_workflow(gateway.api)
    assert code(await gateway.api.get(f"/api/v2/workflows/{id_}/revisions/{revision}")) == told


async def test_workflows_are_found_by_any_part_of_their_name_in_any_case(gateway: RunningGateway) -> None:
    for name in ("Payroll ÄPFEL", "100% of it", "under_score", "other!"):
        await a_workflow(gateway.api, name=name)
    found = {}
    for text in ("PAYROLL", "äpfel", "0%", "r_s", "r!", "rxs", "%"):
        page = (await gateway.api.get("/api/v2/workflows", params={"name": text})).json()
        found[text] = sorted(item["name"] for item in page["data"])
    assert found == {
        "PAYROLL": ["Payroll ÄPFEL"], "äpfel": ["Payroll ÄPFEL"], "0%": ["100% of it"], "r_s": ["under_score"],
        "r!": ["other!"], "rxs": [], "%": ["100% of it"],
    }  # fmt: skip


# ---------------------------------------------------------------- jobs


async def test_a_deleted_job_is_gone_and_its_runs_stay(gateway: RunningGateway) -> None:
    job = await a_job(gateway.api, await a_workflow(gateway.api))
    run = await made(gateway.api, f"/jobs/{job}/run", {})
    path = f"/api/v2/jobs/{job}"
    assert (await gateway.api.delete(path, params={"force": "true"})).status_code == 204
    for answer in (
        await gateway.api.get(path),
        await gateway.api.patch(path, json={"name": "n"}),
        await gateway.api.delete(path),
        await gateway.api.post(f"{path}/run", json={}),
        await gateway.api.post("/api/v2/job-runs", json={"jobId": job}),
    ):
        assert code(answer) == (404, "not_found")
    assert (await gateway.api.get("/api/v2/jobs")).json()["total"] == 0
    assert (await gateway.api.get(f"/api/v2/job-runs/{run['id']}")).json()["jobId"] == job


async def test_jobs_are_filtered_by_provider_and_by_workflow(gateway: RunningGateway) -> None:
    first, second = await a_workflow(gateway.api), await a_workflow(gateway.api, provider="toast")
    jobs = [await a_job(gateway.api, first), await a_job(gateway.api, second, provider="toast")]
    for number, params in enumerate(({"workflowId": first}, {"sourceProvider": "toast"})):
        page = (await gateway.api.get("/api/v2/jobs", params=params)).json()
        assert [item["id"] for item in page["data"]] == [jobs[number]]


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize("kind", ["workflows", "jobs"])
async def test_of_editors_of_one_version_exactly_one_wins(gateway: RunningGateway, kind: str) -> None:
    id_ = await (a_workflow(gateway.api) if kind == "workflows" else a_job(gateway.api))
    path = f"/api/v2/{kind}/{id_}"
    etag = (await gateway.api.get(path)).headers["etag"]
    answers = await asyncio.gather(
        *(gateway.api.patch(path, json={"name": f"n{number}"}, headers={"If-Match": etag}) for number in range(8)),
        gateway.api.delete(path, headers={"If-Match": etag}),
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[1:] == [412] * 8 or (statuses[0], set(statuses[1:])) == (204, {404, 409, 412})


@pytest.mark.parametrize("kind", ["workflows", "jobs"])
async def test_a_delete_of_another_version_is_refused(gateway: RunningGateway, kind: str) -> None:
    id_ = await (a_workflow(gateway.api) if kind == "workflows" else a_job(gateway.api))
    path = f"/api/v2/{kind}/{id_}"
    etag = (await gateway.api.get(path)).headers["etag"]
    assert (await gateway.api.patch(path, json={"name": "n"})).status_code == 200
    assert code(await gateway.api.delete(path, headers={"If-Match": etag})) == (412, "precondition_failed")
    assert (await gateway.api.delete(path, headers={"If-Match": "*"})).status_code == 204


async def test_a_foreign_definition_cannot_be_deleted_or_looked_into(gateway: RunningGateway) -> None:
    workflow, job = await a_workflow(gateway.api), await a_job(gateway.api)
    for path in (f"workflows/{workflow}", f"jobs/{job}"):
        assert code(await gateway.rival.delete(f"/api/v2/{path}")) == (404, "not_found")
    for path in (f"workflows/{workflow}/revisions", f"workflows/{workflow}/revisions/1"):
        assert code(await gateway.rival.get(f"/api/v2/{path}")) == (404, "not_found")


# ---------------------------------------------------------------- what is sent


async def test_unknown_members_are_ignored_at_the_top_and_refused_in_steps(gateway: RunningGateway) -> None:
    await made(gateway.api, "/workflows", workflow_body(unheard=1))
    answer = await gateway.api.post("/api/v2/workflows", json=workflow_body(stepsJson={**steps(), "unheard": 1}))
    assert code(answer) == (422, "validation_failed")


async def test_steps_above_half_a_mebibyte_are_too_large(gateway: RunningGateway) -> None:
    long = {"version": 1, "steps": [FINISH], "metadata": {"note": "x" * (512 * 1024)}}
    answer = await gateway.api.post("/api/v2/workflows", json=workflow_body(stepsJson=long))
    assert code(answer) == (413, "body_too_large")
    path = f"/api/v2/workflows/{await a_workflow(gateway.api)}"
    assert code(await gateway.api.patch(path, json={"stepsJson": long})) == (413, "body_too_large")


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", None, 5])
async def test_a_name_has_one_to_two_hundred_printable_characters(gateway: RunningGateway, name: object) -> None:
    answer = await gateway.api.post("/api/v2/workflows", json={**workflow_body(), "name": name})
    assert code(answer) == (422, "validation_failed")
    assert answer.json()["error"]["details"][0]["path"] == "/name"
