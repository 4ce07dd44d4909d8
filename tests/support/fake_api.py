"""A small `/api/v2` in memory, for tests of the client, the command line and the demo.

A started run plays a script: each read of it (of a part of it: none) plays one more act, so tests need no time.
Everything that was asked is kept in `requests`. `as_transport()` is for httpx.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from towpath.settings import Settings
from towpath.transport import Surroundings

Json = dict[str, Any]
Act = Callable[["FakeApi"], object]

URL = "http://towpath.test"
KEY = "key-for-tests"
SETTINGS = Settings(URL, KEY)
ORGANIZATION = "00000000-0000-4000-8000-000000000001"
TIME = "2026-11-22T10:15:{:06.3f}Z"


def an_id(kind: str, number: int) -> str:
    """A readable UUID: the kind's first letter as a hex digit, then the number."""
    digits = {"workflow": "a", "job": "b", "job_run": "c", "workflow_run": "d", "artifact": "e", "input": "f"}
    digit = {**digits, "api_key": "9"}[kind]
    return f"{digit}0000000-0000-4000-8000-{number:012d}"


@dataclass
class Naps:
    """Surroundings without time: what was slept is kept, `monotonic` is the sum."""

    slept: list[float] = field(default_factory=list)

    def surroundings(self) -> Surroundings:
        keys = iter(f"key-{number}" for number in range(1, 10_000))
        return Surroundings(
            sleep=self.slept.append, monotonic=lambda: sum(self.slept), fraction=lambda: 0.0, new_key=lambda: next(keys)
        )


def problem(
    status: int, code: str, message: str = "", details: list[Json] | None = None, **headers: str
) -> httpx.Response:
    """An error as the API words it; header names with `_` for `-`."""
    body = {"code": code, "message": message or code, "details": details or [], "request_id": "request-1"}
    return httpx.Response(
        status, json={"error": body}, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@dataclass
class FakeApi:
    """The state of the API, and the acts that a run still has to play."""

    workflows: dict[str, Json] = field(default_factory=dict)
    jobs: dict[str, Json] = field(default_factory=dict)
    job_runs: dict[str, Json] = field(default_factory=dict)
    workflow_runs: dict[str, Json] = field(default_factory=dict)
    steps: dict[str, list[Json]] = field(default_factory=dict)
    artifacts: dict[str, Json] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    input_requests: dict[str, Json] = field(default_factory=dict)
    api_keys: dict[str, Json] = field(default_factory=dict)
    events: dict[str, list[Json]] = field(default_factory=dict)
    explanations: dict[str, Json] = field(default_factory=dict)
    logs: dict[str, list[Json]] = field(default_factory=dict)
    script: list[Act] = field(default_factory=list)
    answers: list[httpx.Response | Exception] = field(default_factory=list)
    """Given instead of the real answers, first to last."""
    requests: list[httpx.Request] = field(default_factory=list)
    seconds: float = 0.0

    def as_transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)

    def bodies(self, method: str, path: str) -> list[Any]:
        """What was sent to `path` below the prefix."""
        wanted = [r for r in self.requests if r.method == method and r.url.path == f"/api/v2{path}"]
        return [json.loads(r.content) if r.content else None for r in wanted]

    def now(self, passed: float = 0.0) -> str:
        self.seconds += passed
        return TIME.format(self.seconds)

    # ---------------------------------------------------------------- what tests put in

    def add_workflow(
        self, name: str, provider: str = "shop", type_: str = "USER_DEFINED", steps: Json | None = None
    ) -> str:
        id_ = an_id("workflow", len(self.workflows) + 1)
        self.workflows[id_] = {
            "id": id_, "organizationId": ORGANIZATION, "name": name, "sourceProvider": provider, "type": type_,
            "stepsJson": steps or {"version": 1, "steps": [{"id": "open", "type": "navigate", "name": "opening"}]},
            "revision": 1, "createdAt": self.now(), "updatedAt": self.now(), "deletedAt": None,
        }  # fmt: skip
        return id_

    def add_job(self, name: str, workflow_ids: list[str], provider: str = "shop") -> str:
        id_ = an_id("job", len(self.jobs) + 1)
        self.jobs[id_] = {
            "id": id_, "organizationId": ORGANIZATION, "name": name, "sourceProvider": provider,
            "jobConfigJson": {"workflowExecutionOrder": workflow_ids}, "schedule": None,
            "createdAt": self.now(), "updatedAt": None, "createdByUserId": ORGANIZATION, "updatedByUserId": None,
        }  # fmt: skip
        return id_

    def add_job_run(self, job_id: str, external_id: str | None = None) -> str:
        id_ = an_id("job_run", len(self.job_runs) + 1)
        self.job_runs[id_] = {
            "id": id_, "jobId": job_id, "organizationId": ORGANIZATION, "status": "PENDING",
            "jobConfigJsonSnapshot": self.jobs[job_id]["jobConfigJson"], "workflowRevisions": {}, "workflowRunIds": [],
            "externalId": external_id, "testMode": False, "createdAt": self.now(), "updatedAt": self.now(),
            "startedAt": None, "completedAt": None, "errorCode": None, "errorReason": None, "errorMessage": None,
            "failedStep": None,
        }  # fmt: skip
        return id_

    def add_artifact(self, workflow_run_id: str, type_: str, name: str, mime_type: str, content: bytes) -> str:
        id_ = an_id("artifact", len(self.artifacts) + 1)
        self.contents[id_] = content
        run = self.workflow_runs.get(workflow_run_id, {})
        self.artifacts[id_] = {
            "id": id_, "type": type_, "displayName": name, "mimeType": mime_type, "storagePath": "sha256/ab",
            "fileSize": len(content), "fileHash": hashlib.sha256(content).hexdigest(),
            "workflowId": run.get("workflowId", an_id("workflow", 1)), "workflowRunId": workflow_run_id,
            "jobRunId": run.get("jobRunId"), "createdAt": self.now(),
        }  # fmt: skip
        return id_

    def add_input_request(self, workflow_run_id: str, fields: list[Json]) -> str:
        id_ = an_id("input", len(self.input_requests) + 1)
        self.input_requests[id_] = {
            "id": id_, "workflowRunId": workflow_run_id, "jobRunId": None, "externalId": None, "kind": "mfa_code",
            "prompt": "The code from your phone", "fields": fields, "status": "OPEN", "attempt": 1,
            "createdAt": self.now(), "expiresAt": self.now(),
        }  # fmt: skip
        return id_

    def add_api_key(self, level: str, description: str = "", expires_at: str | None = None) -> str:
        id_ = an_id("api_key", len(self.api_keys) + 1)
        self.api_keys[id_] = {
            "id": id_, "organizationId": ORGANIZATION, "description": description, "level": level,
            "publicId": f"Key{len(self.api_keys):05}", "userId": ORGANIZATION, "createdAt": self.now(),
            "createdByUserId": ORGANIZATION, "lastUsedAt": None, "expiresAt": expires_at, "revokedAt": None,
        }  # fmt: skip
        return id_

    # ---------------------------------------------------------------- acts of a run

    def start_workflow(self, job_run_id: str, workflow_id: str, first_step: str) -> str:
        id_ = an_id("workflow_run", len(self.workflow_runs) + 1)
        run = self.job_runs.get(job_run_id)
        self.workflow_runs[id_] = {
            "id": id_, "workflowId": workflow_id, "status": "IN_PROGRESS", "jobRunId": job_run_id or None,
            "currentStateName": first_step, "workflowRevision": 1, "externalId": None, "testMode": False,
            "retryOf": None, "inputRequestId": None, "createdAt": self.now(), "updatedAt": self.now(),
            "startedAt": self.now(), "completedAt": None, "errorCode": None, "errorReason": None, "errorMessage": None,
            "failedStep": None,
        }  # fmt: skip
        self.steps[id_] = []
        if run:
            run["workflowRunIds"] = [*run["workflowRunIds"], id_]
            run["status"], run["startedAt"] = "IN_PROGRESS", run["startedAt"] or self.now()
        return id_

    def end_step(
        self, workflow_run_id: str, step_id: str, passed: float = 0.5, status: str = "COMPLETED", **more: Any
    ) -> None:
        started = self.now()
        self.steps[workflow_run_id].append({
            "stepId": step_id, "path": step_id, "name": f"{step_id}_name", "kind": "click", "effect": "read",
            "status": status, "attempt": 1, "tries": 1, "startedAt": started, "finishedAt": self.now(passed),
            "output": None, "outputBytes": 0, "error": None, "screenshotArtifactId": None, **more,
        })  # fmt: skip

    def end_workflow(self, workflow_run_id: str, status: str = "COMPLETED", **more: Any) -> None:
        self.workflow_runs[workflow_run_id] |= {"status": status, "completedAt": self.now(), **more}

    def end_job_run(self, job_run_id: str, status: str = "COMPLETED", **more: Any) -> None:
        self.job_runs[job_run_id] |= {"status": status, "completedAt": self.now(), **more}

    # ---------------------------------------------------------------- the wire

    def handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if request.url.path.startswith("/signed/"):
            return self._signed(request)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return problem(401, "unauthenticated", "The API key is missing or unknown.")
        return self._route(request)

    def _route(self, request: httpx.Request) -> httpx.Response:
        path, method = request.url.path.removeprefix("/api/v2"), request.method
        kind, _, rest = path.removeprefix("/").partition("/")
        id_, _, action = rest.partition("/")
        tables = {
            "workflows": self.workflows, "jobs": self.jobs, "job-runs": self.job_runs, "artifacts": self.artifacts,
            "workflow-runs": self.workflow_runs, "input-requests": self.input_requests,
            "api-keys": self.api_keys,
        }  # fmt: skip
        table = tables[kind]
        if method == "GET" and id_ in table and not action and kind in {"job-runs", "workflow-runs"}:
            self._play(table[id_])
        if id_ and id_ not in table:
            return problem(404, "not_found", f"There is no such thing below {kind}.")
        if method == "GET" and not id_:
            return self._page(request, self._chosen(request, list(table.values())))
        if method == "GET" and not action:
            return httpx.Response(200, json=self._resource(kind, table[id_]))
        if method == "GET":
            return self._of_run(request, id_, action)
        if action == "retry":
            return self._retry(id_, json.loads(request.content)["from"])
        return self._write(request, kind, id_, action)

    def _play(self, run: Json) -> None:
        if self.script and not run.get("jobRunId"):
            self.script.pop(0)(self)

    def _resource(self, kind: str, resource: Json) -> Json:
        if kind == "artifacts":
            return resource | {"signedUrl": f"/signed/{resource['id']}?sig=s3cr3t", "signedUrlExpiresAt": self.now()}
        return resource

    def _chosen(self, request: httpx.Request, rows: list[Json]) -> list[Json]:
        filters = {k: v for k, v in request.url.params.items() if k not in {"page", "page_size"}}
        return [row for row in reversed(rows) if all(str(row.get(k)) == v for k, v in filters.items())]

    def _page(self, request: httpx.Request, rows: list[Json]) -> httpx.Response:
        page, size = (int(request.url.params.get(k, d)) for k, d in (("page", 1), ("page_size", 10)))
        shown = rows[(page - 1) * size : page * size]
        more = page * size < len(rows)
        return httpx.Response(
            200, json={"data": shown, "page": page, "page_size": size, "total": len(rows), "has_more": more}
        )

    def _of_run(self, request: httpx.Request, run_id: str, action: str) -> httpx.Response:
        if action == "steps":
            return self._page(request, self.steps[run_id])
        if action == "explain":
            return httpx.Response(200, json=self.explanations[run_id])
        if action == "logs":
            return self._log(request, self.logs[run_id])
        if action == "artifacts":
            return self._page(request, [a for a in self.artifacts.values() if a["workflowRunId"] == run_id])
        after = int(request.url.params.get("after") or 0)
        events = [event for event in self.events.get(run_id, []) if event["data"]["sequence"] > after]
        if request.headers.get("Accept") != "text/event-stream":
            return self._page(request, events)
        text = "".join(f"id: {e['data']['sequence']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
        return httpx.Response(200, content=f": hello\n\n{text}".encode(), headers={"Content-Type": "text/event-stream"})

    def _log(self, request: httpx.Request, entries: list[Json]) -> httpx.Response:
        """Two entries at a time; the cursor is how many were told."""
        told = int(request.url.params.get("cursor") or 0)
        kind = request.url.params.get("kind")
        wanted = [entry for entry in entries if kind in {None, entry["kind"]}]
        shown = wanted[told : told + 2]
        more = told + 2 < len(wanted)
        return httpx.Response(200, json={"data": shown, "cursor": str(told + len(shown)), "has_more": more})

    def _write(self, request: httpx.Request, kind: str, id_: str, action: str) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        match (kind, action):
            case ("workflows", "") if request.method == "POST":
                made = self.add_workflow(body["name"], body["sourceProvider"], body["type"], body["stepsJson"])
                return httpx.Response(201, json=self.workflows[made])
            case ("jobs", "") if request.method == "POST":
                order = body["jobConfigJson"]["workflowExecutionOrder"]
                return httpx.Response(201, json=self.jobs[self.add_job(body["name"], order, body["sourceProvider"])])
            case ("workflows" | "jobs", "") if request.method == "PATCH":
                table = self.workflows if kind == "workflows" else self.jobs
                table[id_] |= body
                return httpx.Response(200, json=table[id_])
            case ("jobs", "run"):
                return httpx.Response(201, json=self.job_runs[self.add_job_run(id_, body.get("externalId"))])
            case ("api-keys", ""):
                return self._write_key(request.method, id_, body)
            case ("workflow-runs", ""):
                return httpx.Response(201, json=self.workflow_runs[self.start_workflow("", body["workflowId"], "open")])
            case ("input-requests", "answer"):
                self.input_requests[id_] |= {"status": "ANSWERED"}
                return httpx.Response(200, json=self.input_requests[id_])
            case (_, "cancel"):
                run = self.job_runs.get(id_) or self.workflow_runs[id_]
                if run["status"] == "COMPLETED":
                    return problem(409, "run_already_ended", "The run has ended.")
                return httpx.Response(202, json=run)
        return problem(404, "not_found", "There is no such call.")

    def _retry(self, id_: str, begin: str) -> httpx.Response:
        run = self.job_runs.get(id_) or self.workflow_runs[id_]
        if run["status"] not in {"COMPLETED", "FAILED"}:
            return problem(409, "run_not_ended", "The run has not ended.")
        if run["status"] == "COMPLETED" and begin == "failed":
            return problem(409, "run_not_failed", "The run did not fail.")
        table = self.job_runs if id_ in self.job_runs else self.workflow_runs
        again = an_id("job_run" if table is self.job_runs else "workflow_run", 900 + len(table))
        table[again] = run | {"id": again, "status": "PENDING", "retryOf": id_, "completedAt": None}
        return httpx.Response(201, json=table[again])

    def _write_key(self, method: str, id_: str, body: Json) -> httpx.Response:
        if method == "DELETE":
            self.api_keys[id_]["revokedAt"] = self.now()
            return httpx.Response(204)
        made = self.add_api_key(body["level"], body["description"], body.get("expiresAt"))
        return httpx.Response(201, json=self.api_keys[made] | {"key": f"towpath_live_{made}"})

    def _signed(self, request: httpx.Request) -> httpx.Response:
        content = self.contents[request.url.path.removeprefix("/signed/")]
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if not asked:
            return httpx.Response(200, content=content)
        start = int(asked[1])
        if start >= len(content):
            return problem(416, "invalid_parameter", "There is nothing behind the end.")
        return httpx.Response(206, content=content[start:])


def a_demo_script(api: FakeApi, job_run_id: str, *, fails: bool = False) -> list[Act]:
    """Two workflows, a loop inside the second one, three artifacts; an act per look."""
    login, collect = api.job_runs[job_run_id]["jobConfigJsonSnapshot"]["workflowExecutionOrder"]
    first, second = an_id("workflow_run", 1), an_id("workflow_run", 2)
    orders = [{"number": f"A-{n}", "date": "2026-11-20", "total": n * 10.5, "status": "shipped"} for n in range(1, 13)]

    def begin_second(api: FakeApi) -> None:
        api.end_workflow(first)
        api.start_workflow(job_run_id, collect, "opening_orders")

    def artifacts(api: FakeApi) -> None:
        api.end_step(second, "orders", 4.0, kind="for_each")
        api.add_artifact(second, "extracted_data", "orders.json", "application/json", json.dumps(orders).encode())
        api.add_artifact(second, "download", "orders.csv", "text/csv", b"number,total\nA-1,10.5\n" * 400)

    def end(api: FakeApi) -> None:
        if fails:
            error = {"errorCode": "step_failed", "errorMessage": "The button [Pay] did not appear within 5 s."}
            told = {"code": "target_missing", "message": error["errorMessage"], "retryable": True, "diagnosis": None}
            api.end_step(second, "pay", 5.0, "FAILED", error=told)
            failed = {**error, "failedStep": {"workflowRunId": second, "stepId": "pay", "name": "pay_name"}}
            api.end_workflow(second, "FAILED", **failed)
            api.end_job_run(job_run_id, "FAILED", **failed)
            return
        api.end_workflow(second)
        api.end_job_run(job_run_id)

    def inside(number: int) -> Act:
        return lambda api: api.end_step(second, "open", 0.3, path=f"orders[{number}].open")

    def ask(api: FakeApi) -> None:
        api.workflow_runs[first] |= {"status": "AWAITING_USER_INPUT", "inputRequestId": an_id("input", 1)}

    def answered(api: FakeApi) -> None:
        api.workflow_runs[first] |= {"status": "IN_PROGRESS", "inputRequestId": None, "currentStateName": "submitting"}

    return [
        lambda _api: None,
        lambda api: api.start_workflow(job_run_id, login, "opening_shop"),
        lambda api: api.end_step(first, "open_shop", 0.41),
        lambda api: api.end_step(first, "fill_name", 0.02),
        lambda api: api.end_step(first, "consent", 0.0, "SKIPPED"),
        ask,
        answered,
        lambda api: api.end_step(first, "submit", 1.2),
        begin_second,
        *(inside(number) for number in range(4)),
        artifacts,
        lambda api: api.end_step(second, "download_csv", 12.5, attempt=2),
        end,
    ]
