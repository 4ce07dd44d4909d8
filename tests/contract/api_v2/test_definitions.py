from __future__ import annotations

from tests.support.gateways import RunningGateway, a_job, a_workflow, made, steps, workflow_body


async def test_a_created_workflow_is_read_back_with_all_its_fields(gateway: RunningGateway) -> None:
    created = await made(gateway.api, "/workflows", workflow_body())
    read = await gateway.api.get(f"/api/v2/workflows/{created['id']}")
    assert read.status_code == 200
    assert read.json() == created
    assert created["stepsJson"] == steps()
    assert created["revision"] == 1
    assert created["deletedAt"] is None
    assert created["createdAt"].endswith("Z")
    assert set(created) == {
        "id", "organizationId", "name", "sourceProvider", "type", "stepsJson", "revision", "createdAt", "updatedAt",
        "createdByUserId", "updatedByUserId", "deletedAt",
    }  # fmt: skip


async def test_new_steps_make_a_new_revision_and_a_new_name_does_not(gateway: RunningGateway) -> None:
    path = f"/api/v2/workflows/{await a_workflow(gateway.api)}"
    renamed = (await gateway.api.patch(path, json={"name": "Other"})).json()
    assert (renamed["name"], renamed["revision"]) == ("Other", 1)
    changed = (
        await gateway.api.put(path, json={"stepsJson": steps({"id": "x", "type": "finish", "params": {}})})
    ).json()
    assert (changed["name"], changed["revision"]) == ("Other", 2)


async def test_a_long_document_travels_by_reference_and_reads_the_same(gateway: RunningGateway) -> None:
    document = {**steps(), "metadata": {"note": "x" * 40_000}}
    created = await made(gateway.api, "/workflows", workflow_body(stepsJson=document))
    assert created["stepsJson"] == document
    assert (await gateway.api.get(f"/api/v2/workflows/{created['id']}")).json()["stepsJson"] == document


async def test_an_update_of_another_version_is_refused(gateway: RunningGateway) -> None:
    path = f"/api/v2/workflows/{await a_workflow(gateway.api)}"
    etag = (await gateway.api.get(path)).headers["etag"]
    first = await gateway.api.patch(path, json={"name": "A"}, headers={"If-Match": etag})
    second = await gateway.api.patch(path, json={"name": "B"}, headers={"If-Match": etag})
    assert (first.status_code, second.status_code) == (200, 412)
    assert second.json()["error"]["code"] == "precondition_failed"


async def test_an_unchanged_resource_is_not_sent_again(gateway: RunningGateway) -> None:
    path = f"/api/v2/workflows/{await a_workflow(gateway.api)}"
    etag = (await gateway.api.get(path)).headers["etag"]
    again = await gateway.api.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


async def test_workflows_are_listed_newest_first_in_pages(gateway: RunningGateway) -> None:
    ids = [await a_workflow(gateway.api, name=f"w{number}") for number in range(3)]
    page = (await gateway.api.get("/api/v2/workflows", params={"page": 1, "page_size": 2})).json()
    assert [item["id"] for item in page["data"]] == [ids[2], ids[1]]
    assert (page["total"], page["has_more"], page["page"], page["page_size"]) == (3, True, 1, 2)
    rest = (await gateway.api.get("/api/v2/workflows", params={"limit": 2, "offset": 2})).json()
    assert [item["id"] for item in rest["data"]] == [ids[0]]
    assert rest["has_more"] is False
    beyond = (await gateway.api.get("/api/v2/workflows", params={"page": 9})).json()
    assert (beyond["data"], beyond["total"]) == ([], 3)
    assert page["data"][0]["stepsJson"] is None


async def test_workflows_are_filtered(gateway: RunningGateway) -> None:
    toast = await a_workflow(gateway.api, provider="toast")
    await a_workflow(gateway.api)
    found = (await gateway.api.get("/api/v2/workflows", params={"sourceProvider": "toast"})).json()
    assert [item["id"] for item in found["data"]] == [toast]
    assert (await gateway.api.get("/api/v2/workflows", params={"type": "LOGIN"})).json()["total"] == 0


async def test_a_job_names_existing_workflows_of_its_provider(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    job = await a_job(gateway.api, workflow, workflow)
    read = (await gateway.api.get(f"/api/v2/jobs/{job}")).json()
    assert read["jobConfigJson"] == {"workflowExecutionOrder": [workflow, workflow]}
    emptied = await gateway.api.patch(f"/api/v2/jobs/{job}", json={"jobConfigJson": {"workflowExecutionOrder": []}})
    assert emptied.json()["jobConfigJson"] == {"workflowExecutionOrder": []}
    listing = (await gateway.api.get("/api/v2/jobs", params={"workflowId": workflow})).json()
    assert listing["total"] == 0


async def test_a_job_with_an_unknown_workflow_is_refused_with_its_place(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    absent = "00000000-0000-4000-8000-00000000dead"
    body = {"name": "j", "sourceProvider": "gusto", "jobConfigJson": {"workflowExecutionOrder": [workflow, absent]}}
    answer = await gateway.api.post("/api/v2/jobs", json=body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "validation_failed"
    assert error["details"][0]["path"] == "/jobConfigJson/workflowExecutionOrder/1"
    assert error["details"][0]["code"] == "not_found"


async def test_a_job_of_another_provider_is_refused(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api, provider="toast")
    body = {"name": "j", "sourceProvider": "gusto", "jobConfigJson": {"workflowExecutionOrder": [workflow]}}
    answer = await gateway.api.post("/api/v2/jobs", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "provider_mismatch")
