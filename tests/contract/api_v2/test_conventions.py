"""The conventions of the surface, a sentence each: what holds for every resource and is no resource's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from api_gateway.surfaces.api_v2.meta import openapi_bytes
from api_gateway.surfaces.api_v2.reading import STEPS_BYTES_MAX
from tests.support.gateways import Json, RunningGateway, a_job, a_run, a_workflow, gateway_in, steps, workflow_body

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY_BYTES_MAX = 1024 * 1024
JSON = {"Content-Type": "application/json"}
PATHS: Json = json.loads(openapi_bytes())["paths"]
OPERATIONS: list[tuple[str, str, Json]] = [
    (method, path, said) for path, place in PATHS.items() for method, said in place.items()
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A running gateway that keeps running."""
    async with gateway_in(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def padded(size: int) -> bytes:
    """A good workflow in a body of exactly `size` bytes."""
    empty = json.dumps(workflow_body(note=""))
    return json.dumps(workflow_body(note="n" * (size - len(empty)))).encode()


# ---------------------------------------------------------------- sizes


async def test_a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not(gateway: RunningGateway) -> None:
    taken = await gateway.api.post("/api/v2/workflows", content=padded(BODY_BYTES_MAX), headers=JSON)
    refused = await gateway.api.post("/api/v2/workflows", content=padded(BODY_BYTES_MAX + 1), headers=JSON)
    assert taken.status_code == 201, taken.text
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")


async def test_steps_of_half_a_mebibyte_are_taken(gateway: RunningGateway) -> None:
    document: Json = {**steps(), "metadata": {"note": ""}}
    room = STEPS_BYTES_MAX - len(json.dumps(document, separators=(",", ":")))
    document["metadata"]["note"] = "n" * room
    answer = await gateway.api.post("/api/v2/workflows", json=workflow_body(stepsJson=document))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("size", "is_read", "closes"),
    [(BODY_BYTES_MAX + 1, True, True), (100_000, False, True), (100_000, True, False), (1000, False, False)],
)
async def test_an_answer_that_comes_before_a_long_body_says_that_the_connection_ends(
    gateway: RunningGateway, size: int, is_read: bool, closes: bool
) -> None:
    caller = gateway.api if is_read else gateway.stranger
    answer = await caller.post("/api/v2/workflows", content=b" " * size, headers=JSON)
    assert answer.status_code >= 400
    assert answer.headers.get("connection") == ("close" if closes else None)


# ---------------------------------------------------------------- request ids


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("a" * 7, False),
        ("a" * 8, True),
        ("A.z_0-" * 21, True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a/b/c/d/e", False),
    ],
)
async def test_a_request_id_has_8_to_128_safe_characters(gateway: RunningGateway, given: str, is_kept: bool) -> None:
    answer = await gateway.api.get("/api/v2/workflows/x", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is is_kept
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


# ---------------------------------------------------------------- versions


async def one_of_each(gateway: RunningGateway) -> dict[str, str]:
    workflow = await a_workflow(gateway.api)
    job = await a_job(gateway.api, workflow)
    run = await a_run(gateway.api)
    job_run = (await gateway.api.post(f"/api/v2/jobs/{job}/run")).json()["id"]
    slug = "of-each"
    await gateway.admin.post("/api/v2/providers", json={"slug": slug})
    key = (await gateway.admin.post("/api/v2/api-keys", json={"level": "read"})).json()["id"]
    return {
        "workflows": workflow, f"workflows/{workflow}/revisions": "1", "jobs": job, "job-runs": job_run,
        "workflow-runs": run, "providers": slug, "api-keys": key,
    }  # fmt: skip


async def test_every_single_read_has_a_tag_that_saves_the_body(gateway: RunningGateway) -> None:
    for kind, id_ in (await one_of_each(gateway)).items():
        path = f"/api/v2/{kind}/{id_}"
        tag = (await gateway.admin.get(path)).headers["etag"]
        for named in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            again = await gateway.admin.get(path, headers={"If-None-Match": named})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), (path, named)
        assert (await gateway.admin.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize("kind", ["workflows", "jobs"])
async def test_put_is_as_partial_as_patch(gateway: RunningGateway, kind: str) -> None:
    workflow = await a_workflow(gateway.api)
    id_ = workflow if kind == "workflows" else await a_job(gateway.api, workflow)
    before = (await gateway.api.get(f"/api/v2/{kind}/{id_}")).json()
    after = (await gateway.api.put(f"/api/v2/{kind}/{id_}", json={"name": "By put"})).json()
    changed = {name for name in before if before[name] != after[name]}
    assert after["name"] == "By put"
    assert changed <= {"name", "updatedAt", "updatedByUserId"}


async def test_type_and_provider_of_a_workflow_are_fixed(gateway: RunningGateway) -> None:
    path = f"/api/v2/workflows/{await a_workflow(gateway.api)}"
    answer = await gateway.api.patch(path, json={"type": "LOGIN", "sourceProvider": "other"})
    assert answer.status_code == 200
    assert (answer.json()["type"], answer.json()["sourceProvider"]) == ("USER_DEFINED", "gusto")


async def test_the_same_steps_again_make_no_revision(gateway: RunningGateway) -> None:
    path = f"/api/v2/workflows/{await a_workflow(gateway.api)}"
    assert (await gateway.api.patch(path, json={"stepsJson": steps()})).json()["revision"] == 1


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("query", "page", "page_size"),
    [
        ("", 1, 10), ("page=3&page_size=7", 3, 7), ("page_size=100", 1, 100), ("limit=5", 1, 5),
        ("limit=5&offset=10", 3, 5), ("page=100000", 100_000, 10),
    ],
)  # fmt: skip
async def test_every_list_has_the_same_envelope_also_past_its_end(
    gateway: RunningGateway, query: str, page: int, page_size: int
) -> None:
    for kind in (
        "workflows",
        "jobs",
        "job-runs",
        "workflow-runs",
        "artifacts",
        "input-requests",
        "providers",
        "api-keys",
    ):
        answer = await gateway.admin.get(f"/api/v2/{kind}?{query}")
        found = answer.json()
        assert answer.status_code == 200, (kind, found)
        assert set(found) == {"data", "page", "page_size", "total", "has_more"}
        assert (found["page"], found["page_size"]) == (page, page_size)
        assert found["has_more"] is ((page - 1) * page_size + len(found["data"]) < found["total"])


@pytest.mark.parametrize("query", ["page=1&offset=0", "page_size=5&limit=5", "limit=0", "limit=101", "page=1.5"])
async def test_no_list_takes_a_page_that_is_none(gateway: RunningGateway, query: str) -> None:
    for kind in (
        "workflows",
        "jobs",
        "job-runs",
        "workflow-runs",
        "artifacts",
        "input-requests",
        "providers",
        "api-keys",
    ):
        answer = await gateway.admin.get(f"/api/v2/{kind}?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_parameter"), kind


# ---------------------------------------------------------------- idempotency


async def test_a_key_does_not_stand_for_two_bodies_of_which_one_is_wrong(gateway: RunningGateway) -> None:
    headers = {"Idempotency-Key": "good-then-bad"}
    first = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=headers)
    wrong = await gateway.api.post("/api/v2/workflows", json={}, headers=headers)
    again = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=headers)
    assert (first.status_code, wrong.status_code, again.json()) == (201, 422, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers


async def test_a_wrong_idempotency_key_is_named(gateway: RunningGateway) -> None:
    for key in ("", "with space", "k" * 256):
        answer = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers={"Idempotency-Key": key})
        assert answer.status_code == 400
        assert answer.json()["error"]["details"][0]["path"] == "/Idempotency-Key"


# ---------------------------------------------------------------- the document


async def test_a_body_that_may_be_left_out_is_not_required(gateway: RunningGateway) -> None:
    optional = {
        path for method, path, said in OPERATIONS if "requestBody" in said and not said["requestBody"]["required"]
    }
    assert optional == {
        "/api/v2/jobs/{jobId}/run", "/api/v2/job-runs/{jobRunId}/retry", "/api/v2/workflow-runs/{workflowRunId}/retry",
    }  # fmt: skip
    job = await a_job(gateway.api, await a_workflow(gateway.api))
    assert (await gateway.api.post(f"/api/v2/jobs/{job}/run")).status_code == 201


async def test_pages_name_their_characters_once(gateway: RunningGateway) -> None:
    answers: list[Any] = [await gateway.stranger.get(f"/api/v2/{path}") for path in ("docs", "docs/page.js")]
    assert [answer.headers["content-type"].count("charset") for answer in answers] == [1, 1]


# ---------------------------------------------------------------- starts


async def test_inputs_for_a_workflow_that_the_job_does_not_name_are_refused(gateway: RunningGateway) -> None:
    workflow, other = await a_workflow(gateway.api), await a_workflow(gateway.api)
    job = await a_job(gateway.api, workflow)
    before = await gateway.counts()
    refused = await gateway.api.post(f"/api/v2/jobs/{job}/run", json={"workflowInputs": {workflow: {}, other: {}}})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (422, "validation_failed")
    assert [spot["path"] for spot in error["details"]] == [f"/workflowInputs/{other}"]
    assert await gateway.counts() == before
    taken = await gateway.api.post(f"/api/v2/jobs/{job}/run", json={"workflowInputs": {workflow.upper(): {}}})
    assert taken.status_code == 201


async def test_a_made_up_cursor_of_a_log_is_named(gateway: RunningGateway) -> None:
    answer = await gateway.api.get(f"/api/v2/workflow-runs/{await a_run(gateway.api)}/logs?cursor=made-up")
    assert answer.status_code == 400
    assert [spot["path"] for spot in answer.json()["error"]["details"]] == ["/cursor"]
