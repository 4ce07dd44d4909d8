"""Every documented field, enum and pattern of the API, over what the running product really answers.

The tables below are the documentation's, not the code's: a field that is renamed, left out or of another form fails
here even when code, OpenAPI document and client agree about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.chromium import chromium_path, needs_chromium
from tests.support.platform_process import PlatformProcess, until

pytestmark = [needs_chromium, pytest.mark.timeout(300)]
Json = Any
Rule = Callable[[Json], bool]

# ---------------------------------------------------------------- the words of the documentation

_UUID = re.compile(
    r"^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
    r"|00000000-0000-0000-0000-000000000000)$"
)
_TIME = re.compile(
    r"^(?:(?:\d\d[2468][048]|\d\d[13579][26]|\d\d0[48]|[02468][048]00|[13579][26]00)-02-29|\d{4}-(?:(?:0[13578]|1[02])"
    r"-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8])))T(?:[01]\d|2[0-3])"
    r":[0-5]\d(?::[0-5]\d(?:\.\d+)?)?Z$"
)
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_SLUG = re.compile(r"^[a-z0-9][a-z0-9_-]*$")
_MIME = re.compile(r"^[a-z]+/[a-z0-9.+-]+$")


def uuid(value: Json) -> bool:
    return isinstance(value, str) and _UUID.match(value) is not None


def time(value: Json) -> bool:
    return isinstance(value, str) and _TIME.match(value) is not None


def text(value: Json) -> bool:
    return isinstance(value, str)


def filled(value: Json) -> bool:
    return isinstance(value, str) and bool(value)


def slug(value: Json) -> bool:
    return isinstance(value, str) and _SLUG.match(value) is not None


def flag(value: Json) -> bool:
    return isinstance(value, bool)


def count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number_from_1(value: Json) -> bool:
    return count(value) and value >= 1


def thing(value: Json) -> bool:
    return isinstance(value, dict)


def sha256(value: Json) -> bool:
    return isinstance(value, str) and _SHA256.match(value) is not None


def mime(value: Json) -> bool:
    return isinstance(value, str) and _MIME.match(value) is not None


def one_of(*words: str) -> Rule:
    return lambda value: value in words


def maybe(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


def all_of(rule: Rule) -> Rule:
    return lambda value: isinstance(value, list) and all(rule(item) for item in value)


def order(value: Json) -> bool:
    return isinstance(value, dict) and all_of(uuid)(value.get("workflowExecutionOrder"))


def revisions(value: Json) -> bool:
    return isinstance(value, dict) and all(uuid(key) and number_from_1(item) for key, item in value.items())


def failed_step(value: Json) -> bool:
    return isinstance(value, dict) and {"workflowRunId", "stepId", "name"} <= set(value)


ERROR_CODES = (
    *("step_failed", "terminated", "timed_out", "step_timeout", "step_outcome_unknown", "login_failed"),
    *("login_rejected", "connection_locked", "input_expired", "navigation_blocked", "provider_unavailable"),
    *("budget_exhausted", "cancelled", "runner_lost", "internal"),
)
JOB_RUN_STATUS = one_of("PENDING", "IN_PROGRESS", "COMPLETED", "FAILED")
WORKFLOW_RUN_STATUS = one_of(
    *("PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "AWAITING_USER_INPUT", "COMPLETED_WITH_NO_ACTION_TAKEN")
)
_FAILURE: dict[str, Rule] = {"errorCode": maybe(one_of(*ERROR_CODES)), "errorMessage": maybe(text)}
_ORIGIN: dict[str, Rule] = {"testMode": flag, "retryOf": maybe(uuid), "externalId": maybe(text)}

WORKFLOW: dict[str, Rule] = {
    "id": uuid, "organizationId": uuid, "name": filled, "sourceProvider": slug,
    "type": one_of("LOGIN", "USER_DEFINED"), "stepsJson": maybe(thing), "revision": number_from_1, "createdAt": time,
    "updatedAt": time, "createdByUserId": uuid, "updatedByUserId": uuid, "deletedAt": maybe(time),
}  # fmt: skip
JOB: dict[str, Rule] = {
    "id": uuid, "organizationId": uuid, "name": filled, "sourceProvider": slug, "createdAt": maybe(time),
    "updatedAt": maybe(time), "createdByUserId": uuid, "updatedByUserId": uuid, "jobConfigJson": order,
    "schedule": maybe(thing),
}  # fmt: skip
JOB_RUN: dict[str, Rule] = {
    "id": uuid, "jobId": uuid, "organizationId": uuid, "status": JOB_RUN_STATUS, "jobConfigJsonSnapshot": order,
    "workflowRevisions": revisions, "workflowRunIds": all_of(uuid), "linkId": maybe(uuid), "createdAt": time,
    "updatedAt": time, "startedAt": maybe(time), "completedAt": maybe(time), "createdByUserId": uuid,
    "failedStep": maybe(failed_step), **_FAILURE, **_ORIGIN,
}  # fmt: skip
WORKFLOW_RUN: dict[str, Rule] = {
    "id": uuid, "workflowId": uuid, "status": WORKFLOW_RUN_STATUS, "createdAt": time, "updatedAt": time,
    "completedAt": maybe(time), "createdByUserId": uuid, "jobRunId": maybe(uuid), "currentStateName": maybe(filled),
    "workflowRevision": number_from_1, "inputRequestId": maybe(uuid), "failedStep": maybe(failed_step),
    **_FAILURE, **_ORIGIN,
}  # fmt: skip
ARTIFACT: dict[str, Rule] = {
    "id": uuid, "type": filled, "displayName": filled, "mimeType": mime, "storagePath": filled, "fileSize": count,
    "fileHash": sha256, "workflowId": uuid, "workflowRunId": uuid, "jobRunId": maybe(uuid), "signedUrl": filled,
    "signedUrlExpiresAt": time, "createdAt": time,
}  # fmt: skip
INPUT_REQUEST: dict[str, Rule] = {
    "id": uuid, "workflowRunId": uuid, "jobRunId": maybe(uuid), "externalId": maybe(text),
    "kind": one_of("credentials", "mfa_code", "security_answer", "phone", "choice", "confirm", "text"), "prompt": text,
    "fields": all_of(lambda item: {"name", "label", "kind", "secret"} <= set(item)),
    "status": one_of("OPEN", "ANSWERED", "EXPIRED", "CANCELLED"), "attempt": number_from_1, "createdAt": time,
    "expiresAt": time,
}  # fmt: skip
PROVIDER: dict[str, Rule] = {
    "slug": slug, "displayName": filled, "logoUrl": maybe(text), "loginUrl": maybe(text),
    "allowedDomains": all_of(text), "defaultJobId": maybe(uuid), "concurrency": maybe(number_from_1),
}  # fmt: skip
ENVELOPE: dict[str, Rule] = {
    "data": all_of(thing), "page": number_from_1, "page_size": number_from_1, "total": count, "has_more": flag,
}  # fmt: skip


def faults(answer: Json, rules: Mapping[str, Rule]) -> list[str]:
    """What of a documented shape an answer breaks."""
    missing = [f"{name} is left out" for name in rules if name not in answer]
    return missing + [
        f"{name}: {answer[name]!r}" for name, rule in rules.items() if name in answer and not rule(answer[name])
    ]


# ---------------------------------------------------------------- a product with a past


@dataclass
class Product:
    """The running platform after runs that completed, failed, asked, were cancelled, and one that still waits."""

    api: httpx.Client
    shop: str
    runs: dict[str, str] = field(default_factory=dict)

    def made(self, path: str, body: Json) -> Json:
        answer = self.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def run(self, name: str, *steps: Json, **more: Any) -> str:
        """A stand-alone run of these steps."""
        document = {"version": 1, "startOrigins": [self.shop], "steps": list(steps)}
        body = {"name": name, "sourceProvider": "demo_shop", "type": "USER_DEFINED", "stepsJson": document}
        workflow = self.made("/workflows", body)["id"]
        self.runs[name] = self.made("/workflow-runs", {"workflowId": workflow, **more})["id"]
        return self.runs[name]

    def status(self, name: str) -> str:
        return str(self.api.get(f"/workflow-runs/{self.runs[name]}").json()["status"])


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder: Path = tmp_path_factory.mktemp("documented")
    with PlatformProcess(folder, browser=chromium_path()) as platform:
        platform.start()
        platform.await_ready()
        until(lambda: "keeps serving" in platform.said(), 120, "the end of the demo", pause_seconds=0.1)
        key = (platform.data / "api-key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        base = f"{platform.url}/api/v2"
        with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=30) as api:
            yield _with_a_past(Product(api, f"http://127.0.0.1:{platform.port + 1}"))


def _with_a_past(product: Product) -> Product:
    prices = {"id": "open", "name": "open_prices", "type": "navigate", "params": {"url": f"{product.shop}/prices"}}
    gone = {"id": "gone", "name": "press_nothing", "type": "click", "timeoutMs": 500,
            "params": {"target": {"locators": [{"role": "button", "name": "Nothing"}]}}}  # fmt: skip
    ask = {"id": "ask", "name": "ask", "type": "ask_user", "params": {"prompt": "Who?", "fields": [{"name": "who"}]}}
    finish = {"id": "end", "type": "finish", "params": {"outcome": "nothing_to_do"}}
    ended = {"id": "end", "type": "finish", "params": {"outcome": "terminated", "message": "closed"}}
    product.run("fails", prices, gone, testMode=True)
    product.run("asks", ask, externalId="customer-7")
    product.run("nothing", finish)
    product.run("terminates", ended)
    product.run("waits", ask)
    product.made("/providers", {"slug": "demo_shop", "displayName": "Corner Goods"})
    for name in ("asks", "waits"):
        until(lambda name=name: product.status(name) == "AWAITING_USER_INPUT", 60, name)  # type: ignore[misc]
    question = product.api.get("/input-requests", params={"workflowRunId": product.runs["asks"]}).json()["data"][0]
    product.api.post(f"/input-requests/{question['id']}/answer", json={"values": {"who": "me"}}).raise_for_status()
    product.api.post(f"/workflow-runs/{product.runs['waits']}/cancel").raise_for_status()
    product.run("still asks", ask)
    until(lambda: product.status("still asks") == "AWAITING_USER_INPUT", 60, "a question that stays open")
    for name in ("fails", "asks", "nothing", "terminates", "waits"):
        until(lambda name=name: product.status(name).startswith(("COMPLETED", "FAILED")), 60, name)  # type: ignore[misc]
    return product


# ---------------------------------------------------------------- every resource, in the list and alone

RESOURCES: dict[str, tuple[Mapping[str, Rule], str]] = {
    "workflows": (WORKFLOW, "id"),
    "jobs": (JOB, "id"),
    "job-runs": (JOB_RUN, "id"),
    "workflow-runs": (WORKFLOW_RUN, "id"),
    "artifacts": (ARTIFACT, "id"),
    "input-requests": (INPUT_REQUEST, "id"),
    "providers": (PROVIDER, "slug"),
}


@pytest.mark.parametrize("path", RESOURCES)
def test_every_documented_field_is_there_and_of_its_form(product: Product, path: str) -> None:
    rules, id_ = RESOURCES[path]
    listed = product.api.get(f"/{path}", params={"page_size": 100}).json()
    assert faults(listed, ENVELOPE) == []
    assert listed["data"], f"no {path} to look at"
    for item in listed["data"]:
        assert faults(item, rules) == [], item
        alone = product.api.get(f"/{path}/{item[id_]}")
        assert alone.status_code == 200
        assert faults(alone.json(), rules) == [], alone.json()


def test_every_status_and_what_belongs_to_it_was_seen(product: Product) -> None:
    runs = {name: product.api.get(f"/workflow-runs/{id_}").json() for name, id_ in product.runs.items()}
    statuses = {name: run["status"] for name, run in runs.items()}
    assert statuses == {
        "fails": "FAILED", "asks": "COMPLETED", "nothing": "COMPLETED_WITH_NO_ACTION_TAKEN", "terminates": "FAILED",
        "waits": "FAILED", "still asks": "AWAITING_USER_INPUT",
    }  # fmt: skip
    codes = {name: run["errorCode"] for name, run in runs.items() if run["status"] == "FAILED"}
    assert codes["terminates"] == "terminated"
    assert codes["waits"] == "cancelled"
    assert codes["fails"] in {"step_failed", "step_timeout"}
    assert runs["fails"]["failedStep"]["stepId"] == "gone"
    assert runs["fails"]["currentStateName"] == "press_nothing"
    assert runs["fails"]["testMode"] is True
    assert runs["asks"]["externalId"] == "customer-7"
    assert uuid(runs["still asks"]["inputRequestId"])
    assert [name for name, run in runs.items() if (run["completedAt"] is None) != (name == "still asks")] == []


def test_the_snapshot_of_a_job_run_names_the_revisions_that_ran(product: Product) -> None:
    run = product.api.get("/job-runs").json()["data"][0]
    ids = run["jobConfigJsonSnapshot"]["workflowExecutionOrder"]
    assert set(run["workflowRevisions"]) == set(ids)
    ran = [product.api.get(f"/workflow-runs/{id_}").json() for id_ in run["workflowRunIds"]]
    assert [one["workflowId"] for one in ran] == ids
    assert [one["workflowRevision"] for one in ran] == [run["workflowRevisions"][id_] for id_ in ids]


def test_bytes_are_those_that_the_artifact_names(product: Product) -> None:
    for artifact in product.api.get("/artifacts", params={"page_size": 100}).json()["data"]:
        with httpx.Client(trust_env=False) as anybody:
            bytes_ = anybody.get(artifact["signedUrl"])
        assert bytes_.status_code == 200
        assert len(bytes_.content) == artifact["fileSize"]
        assert bytes_.headers["content-disposition"].startswith("attachment")
        assert bytes_.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize("path", [*(f"/{path}/{'0' * 8}-0000-4000-8000-{'0' * 12}" for path in RESOURCES), "/nowhere"])
def test_errors_have_one_form(product: Product, path: str) -> None:
    answer = product.api.get(path)
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert set(error) == {"code", "message", "details", "request_id"}
    assert error["code"] == "not_found"
    assert answer.headers["x-request-id"] == error["request_id"]
