"""Every operation of the OpenAPI document, asked by those who may not: another organization, a lower level, nobody.

The matrix is made from the document itself. A new operation is asked as soon as it stands there; when it names
something that this file cannot name for another organization, or needs a body that this file does not know, it fails.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest

from api_gateway import signed_url
from api_gateway.signed_url import Grant
from api_gateway.surfaces.api_v2.meta import openapi_bytes
from api_gateway.surfaces.api_v2.views import UUID_PATTERN
from kernel.domain.artifact import ArtifactCreated
from kernel.domain.ids import ArtifactId, InputRequestId, JobRunId, OrganizationId, WorkflowRunId
from kernel.domain.input_request import InputField, InputRequestOpened
from kernel.domain.values import Sealed
from kernel.domain.workflow_run import WorkflowRunAwaitingUserInput, WorkflowRunRequested
from kernel.ids import derived_id
from kernel.sealing import Sealer
from kernel.store.port import GatewayOpener, PutHeader
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.gateways import ACME, KEYS, RIVAL, Json, RunningGateway, a_job, a_run, a_workflow, made, steps

DOCUMENT: Json = json.loads(openapi_bytes())
Ids = dict[str, str]
_PATH_ID = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Operation:
    """One operation as the document tells it."""

    method: str
    path: str
    said: Json

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def id(self) -> str:
        return str(self.said["operationId"])

    @property
    def path_ids(self) -> list[str]:
        return _PATH_ID.findall(self.path)

    @property
    def filters(self) -> list[str]:
        """Query parameters that are ids."""
        asked = self.said.get("parameters", [])
        return [p["name"] for p in asked if p["in"] == "query" and p["schema"].get("format") == "uuid"]

    def at(self, ids: Ids) -> str:
        return _PATH_ID.sub(lambda found: ids[found[1]], self.path)


OPERATIONS = [
    Operation(method.upper(), path, said)
    for path, methods in DOCUMENT["paths"].items()
    for method, said in methods.items()
]
GUARDED = [operation for operation in OPERATIONS if operation.said["security"]]

BODIES: dict[str, Callable[[Ids], Json]] = {
    "create_workflow": lambda _: {"name": "n", "sourceProvider": "p", "type": "LOGIN", "stepsJson": steps()},
    "patch_workflow": lambda _: {"name": "n"},
    "put_workflow": lambda _: {"name": "n"},
    "create_job": lambda ids: {"name": "n", "sourceProvider": "gusto", "jobConfigJson": _order(ids)},
    "patch_job": lambda ids: {"jobConfigJson": _order(ids)},
    "put_job": lambda ids: {"jobConfigJson": _order(ids)},
    "run_job": lambda _: {},
    "create_job_run": lambda ids: {"jobId": ids["jobId"]},
    "create_workflow_run": lambda ids: {"workflowId": ids["workflowId"]},
    "answer_input_request": lambda _: {"values": {"code": "1"}},
    "create_provider": lambda ids: {"slug": "another", "defaultJobId": ids["jobId"]},
    "patch_provider": lambda ids: {"defaultJobId": ids["jobId"]},
    "create_api_key": lambda _: {"level": "read"},
    "retry_job_run": lambda _: {"from": "start"},
    "retry_workflow_run": lambda _: {"from": "start"},
}
"""A body that is good if its ids are the caller's own."""
FILTERS = frozenset({"workflowId", "jobId", "jobRunId", "workflowRunId"})
"""The query parameters that are ids, each by the name that paths give it."""
ANSWERS_WHAT_IS_NAMED = {"list_subject_keys"}
"""Lists nothing by itself; `test_subject_keys` names subjects of another organization."""
INSTALLATION = {"get_doctor"}
"""Operations about the installation, which no organization owns."""


def _order(ids: Ids) -> Json:
    return {"workflowExecutionOrder": [ids["workflowId"]]}


def body_of(operation: Operation, ids: Ids) -> Json | None:
    if "requestBody" not in operation.said:
        return None
    if operation.id in BODIES:
        return BODIES[operation.id](ids)
    schema = _resolved(operation.said["requestBody"])["content"]["application/json"]["schema"]
    needs_sample = schema.get("required") or names_ids(operation)
    assert not needs_sample, f"{operation}: give its body a sample in BODIES"
    return {}


def names_ids(operation: Operation) -> bool:
    """Whether the body's schema has a member that is an id."""
    text = json.dumps(_resolved(operation.said.get("requestBody", {})))
    return json.dumps(UUID_PATTERN) in text


def _resolved(value: Any) -> Any:
    match value:
        case {"$ref": str(reference)}:
            return _resolved(DOCUMENT["components"]["schemas"][reference.rsplit("/", 1)[1]])
        case dict():
            return {name: _resolved(inner) for name, inner in value.items()}
        case list():
            return [_resolved(inner) for inner in value]
        case _:
            return value


# ---------------------------------------------------------------- two organizations with one of everything


@dataclass(frozen=True)
class Two:
    """Acme and its rival, each with one of everything; the rival asks for what is Acme's."""

    gateway: RunningGateway
    acme: Ids
    rival: Ids
    signed: str

    async def ask(
        self, operation: Operation, client: httpx.AsyncClient, path_ids: Ids, body_ids: Ids
    ) -> httpx.Response:
        body = body_of(operation, body_ids)
        return await client.request(operation.method, operation.at(path_ids), json=body)


@pytest.fixture
async def two(gateway: RunningGateway) -> Two:
    acme = await one_of_everything(gateway, ACME, gateway.api, gateway.admin)
    rival = await one_of_everything(gateway, RIVAL, gateway.rival, gateway.rival_admin)
    signed = (await gateway.api.get(f"/api/v2/artifacts/{acme['artifactId']}")).json()["signedUrl"]
    return Two(gateway, acme, rival, signed)


async def one_of_everything(
    gateway: RunningGateway, organization: OrganizationId, api: httpx.AsyncClient, admin: httpx.AsyncClient
) -> Ids:
    workflow = await a_workflow(api)
    job = await a_job(api, workflow)
    run = await a_run(api, externalId=f"customer-of-{organization}")
    artifact, question = ArtifactId(derived_id("a", organization)), InputRequestId(derived_id("q", organization))
    await _say_of(gateway, organization, run, artifact, question)
    found = {
        "workflowId": workflow,
        "revision": "1",
        "jobId": job,
        "jobRunId": (await made(api, "/job-runs", {"jobId": job}))["id"],
        "workflowRunId": run,
        "artifactId": artifact,
        "inputRequestId": question,
        "slug": f"shop-of-{organization[-2:]}",
        "apiKeyId": (await made(admin, "/api-keys", {"level": "read"}))["id"],
    }
    await made(admin, "/providers", {"slug": found["slug"]})
    await _projected(api, f"/api/v2/input-requests/{question}")
    return found


async def _projected(api: httpx.AsyncClient, path: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await api.get(path)).status_code != 200:  # noqa: ASYNC110 (the projector follows on its own)
            await asyncio.sleep(0.002)


async def _say_of(
    gateway: RunningGateway, organization: OrganizationId, run: str, artifact: ArtifactId, question: InputRequestId
) -> None:
    """Facts about a run: it made a file, and asks for a code."""
    start = gateway.scheduler.started[run]
    assert isinstance(start, WorkflowRunRequested)
    services, subject, opener = gateway.services, start.subject_id, GatewayOpener(organization)
    staged = await services.store.put_bytes(b"a,b\n", PutHeader(subject, opener))
    sealer = Sealer(services.keys, services.store, services.entropy, opener)
    code = InputField("code", "Code", "mfa_code", True, (), "")
    await gateway.scheduler.say(
        run,
        ArtifactCreated(
            artifact, WorkflowRunId(run), JobRunId(""), start.workflow.workflow_id, organization, subject, "s",
            "download", await sealer.seal_text(subject, "a.csv"), "text/csv", staged.size, staged.sha256,
        ),
        InputRequestOpened(
            question, WorkflowRunId(run), JobRunId(""), organization, subject, Sealed(subject), "s", "mfa_code",
            await sealer.seal_text(subject, "The code?"), (code,), 1, 9,
        ),
        WorkflowRunAwaitingUserInput(WorkflowRunId(run), question),
    )  # fmt: skip


# ---------------------------------------------------------------- the matrix


def refused(answer: httpx.Response) -> str:
    code: str = answer.json()["error"]["code"]
    return code


async def test_what_is_another_organization_s_is_not_there_whatever_names_it_in_the_path(two: Two) -> None:
    before = await two.gateway.counts()
    for operation in GUARDED:
        if not operation.path_ids:
            continue
        assert set(operation.path_ids) <= set(two.acme), f"{operation} names something new: add it to one_of_everything"
        answer = await two.ask(operation, two.gateway.rival_admin, two.acme, two.rival)
        assert (answer.status_code, refused(answer)) == (404, "not_found"), operation
    assert await two.gateway.counts() == before, "and nothing was asked of any decider"


async def test_what_is_another_organization_s_is_not_there_whatever_names_it_in_a_body(two: Two) -> None:
    naming = [operation for operation in GUARDED if names_ids(operation)]
    assert {operation.id for operation in naming} >= {"create_job", "create_job_run", "create_workflow_run"}
    for operation in naming:
        foreign = await two.ask(operation, two.gateway.rival_admin, two.rival, two.acme)
        assert _is_not_found(foreign), (operation, foreign.text)
        own = await two.ask(operation, two.gateway.rival_admin, two.rival, two.rival)
        assert not _is_not_found(own), f"{operation}: the sample is good but for the id: {own.text}"


def _is_not_found(answer: httpx.Response) -> bool:
    """404, or 422 with a pointer to what names nothing."""
    spots = answer.json().get("error", {}).get("details", [])
    named = [spot for spot in spots if spot["code"] == "not_found" and spot["path"].startswith("/")]
    return answer.status_code == 404 or (answer.status_code == 422 and bool(named))


async def test_what_is_another_organization_s_is_in_no_list_whatever_filter_names_it(two: Two) -> None:
    lists = [operation for operation in GUARDED if operation.method == "GET" and not operation.path_ids]
    assert len(lists) >= 7
    acme = set(two.acme.values()) - {"1"}
    for operation in lists:
        if operation.id in {*INSTALLATION, *ANSWERS_WHAT_IS_NAMED}:
            continue
        answer = await two.gateway.rival_admin.get(operation.path)
        assert answer.status_code == 200, operation
        assert not [id_ for id_ in acme if id_ in answer.text], operation
        assert answer.json()["total"] == len(answer.json()["data"]) > 0, f"{operation}: the rival has one of everything"
        for name in operation.filters:
            assert name in FILTERS, f"{operation} filters by {name}: is it an id?"
            filtered = await two.gateway.rival_admin.get(operation.path, params={name: two.acme[name]})
            assert (filtered.status_code, filtered.json()["data"]) == (200, []), (operation, name)
        if "externalId" in {parameter["name"] for parameter in operation.said.get("parameters", [])}:
            named = await two.gateway.rival_admin.get(operation.path, params={"externalId": f"customer-of-{ACME}"})
            assert (named.status_code, named.json()["data"]) == (200, []), operation


async def test_a_signed_address_opens_what_its_organization_has_and_nothing_else(two: Two) -> None:
    path = f"/api/v2/artifacts/{two.acme['artifactId']}/content"
    assert (await two.gateway.rival.get(path)).status_code == 403, "no key opens bytes"
    assert (await two.gateway.stranger.get(two.signed.replace(ACME, RIVAL))).status_code == 403
    expires_ms = two.gateway.clock.now_ms() + 60_000
    grant = Grant(RIVAL, ArtifactId(two.acme["artifactId"]), "attachment", "a.csv", expires_ms)
    assert (await two.gateway.stranger.get(signed_url.sign(grant, path, KEYS))).status_code == 404
    assert (await two.gateway.stranger.get(two.signed)).content == b"a,b\n"


async def test_nobody_gets_anything_without_a_key(two: Two) -> None:
    for operation in GUARDED:
        answer = await two.ask(operation, two.gateway.stranger, two.acme, two.acme)
        assert (answer.status_code, refused(answer)) == (401, "unauthenticated"), operation


async def test_a_key_of_a_lower_level_is_refused_before_anything_is_looked_at(two: Two) -> None:
    before = await two.gateway.counts()
    for operation, client in _too_low(two.gateway):
        for ids in (two.acme, two.rival):
            answer = await two.ask(operation, client, ids, ids)
            assert (answer.status_code, refused(answer)) == (403, "forbidden"), operation
    assert await two.gateway.counts() == before


def _too_low(gateway: RunningGateway) -> Iterator[tuple[Operation, httpx.AsyncClient]]:
    for operation in GUARDED:
        if operation.said["x-level"] in {"write", "admin"}:
            yield operation, gateway.reader
        if operation.said["x-level"] == "admin":
            yield operation, gateway.api


def test_whatever_changes_something_asks_for_more_than_the_level_read() -> None:
    for operation in GUARDED:
        assert (operation.method == "GET") or operation.said["x-level"] in {"write", "admin"}, operation
    open_to_all = {str(operation) for operation in OPERATIONS if not operation.said["security"]}
    assert open_to_all == {"GET /api/v2/artifacts/{artifactId}/content"}


# ---------------------------------------------------------------- idempotency keys, on every POST


POSTS = [operation for operation in OPERATIONS if operation.method == "POST"]


async def test_every_post_is_done_once_per_idempotency_key(two: Two) -> None:
    for operation in POSTS:
        key = {"Idempotency-Key": f"once-{operation.id}"}
        path, body = operation.at(two.acme), body_of(operation, two.acme)
        first = await two.gateway.admin.post(path, json=body, headers=key)
        assert 200 <= first.status_code < 500, (operation, first.text)
        counts, keys = await two.gateway.counts(), await _keys(two)
        again = await two.gateway.admin.post(path, json=body, headers=key)
        assert again.headers.get("idempotency-replayed") == "true", operation
        assert again.status_code == first.status_code, operation
        assert _without_secret(again) == _without_secret(first), operation
        assert (await two.gateway.counts(), await _keys(two)) == (counts, keys), f"{operation} was done twice"
        other = await two.gateway.admin.post(path, json={**(body or {}), "other": 1}, headers=key)
        assert (other.status_code, refused(other)) == (422, "idempotency_key_reused"), operation
        await two.gateway.services.db.execute("UPDATE idempotency SET status = 0")
        running = await two.gateway.admin.post(path, json=body, headers=key)
        assert (running.status_code, refused(running)) == (409, "idempotency_in_progress"), operation
        assert int(running.headers["retry-after"]) >= 1


async def _keys(two: Two) -> int:
    row = await two.gateway.services.db.fetch_one("SELECT count(*) FROM api_keys")
    return int(row[0]) if row else 0


def _without_secret(answer: httpx.Response) -> Json:
    body: Json = msgspec.json.decode(answer.content)
    return {name: value for name, value in body.items() if name != "key"}


def test_every_post_tells_of_its_idempotency_key() -> None:
    for operation in POSTS:
        assert "Idempotency-Key" in {parameter["name"] for parameter in operation.said["parameters"]}, operation
