"""The typed client of `/api/v2`: one small synchronous implementation.

    with Client.from_environment() as towpath:
        run = towpath.jobs.run(job_id, inputs={"user_name": "ada"})
        for progress in watch(towpath, run.id):
            ...

Calls block; reads and writes are retried as `towpath.transport` says. Errors are those of `towpath.errors`.
Every POST takes an `idempotency_key`; without one a random key is used, the same for all tries of that call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx
import msgspec

from towpath import downloads, server_sent, settings
from towpath.errors import ApiError
from towpath.resources import (
    ApiKey,
    Artifact,
    CreatedApiKey,
    Event,
    Examination,
    Explanation,
    InputRequest,
    InputRequestStatus,
    Job,
    JobRun,
    JobRunStatus,
    Json,
    KeyLevel,
    Log,
    LogEntry,
    Page,
    Provider,
    Schedule,
    Step,
    SubjectKeys,
    Workflow,
    WorkflowRevision,
    WorkflowRun,
    WorkflowRunStatus,
    WorkflowType,
)
from towpath.transport import TRIES_MAX, Surroundings, Transport, decode, delay_seconds

T = TypeVar("T")

_RUN_ENDS = frozenset({"workflow_run.completed", "workflow_run.failed"})
_QUIET_SECONDS_MAX = 45.0
_UNSET: Any = msgspec.UNSET


class ProviderFields(TypedDict, total=False):
    """What can be said about a provider; what is left out stays as it is."""

    display_name: str
    logo_url: str | None
    login_url: str | None
    allowed_domains: Sequence[str]
    default_job_id: str | None
    concurrency: int | None


_CAMEL = {field.name: field.encode_name for field in msgspec.structs.fields(Provider)}


class Client:
    """All calls, grouped by resource. Use as a context manager, or call `close`."""

    def __init__(
        self,
        at: settings.Settings,
        *,
        surroundings: Surroundings | None = None,
        network: httpx.BaseTransport | None = None,
    ) -> None:
        transport = Transport(at, surroundings=surroundings or Surroundings(), network=network)
        self._transport = transport
        self.workflows = Workflows(transport)
        self.jobs = Jobs(transport)
        self.providers = Providers(transport)
        self.job_runs = JobRuns(transport)
        self.workflow_runs = WorkflowRuns(transport)
        self.artifacts = Artifacts(transport)
        self.input_requests = InputRequests(transport)
        self.api_keys = ApiKeys(transport)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """A client by TOWPATH_URL, TOWPATH_API_KEY and TOWPATH_DATA. MissingApiKey when there is no key."""
        return cls(settings.from_environment(environment))

    @property
    def url(self) -> str:
        """Where the gateway is served."""
        return self._transport.url

    @property
    def surroundings(self) -> Surroundings:
        """Sleep and chance as this client takes them."""
        return self._transport.surroundings

    def doctor(self) -> Examination:
        """Examine the installation; needs a key of level admin and may take seconds."""
        return self._transport.call("GET", "/doctor", Examination)

    def subject_keys(self, subject_ids: Sequence[str]) -> dict[str, str]:
        """Keys of at most 100 subjects, in base64, for who may open sealed values; those without a key are left out.

        Needs a key of level events. What the keys are for: `towpath.event_log.sealed`.
        """
        query = {"subjectId": tuple(subject_ids)}
        found = self._transport.call("GET", "/subject-keys", SubjectKeys, query=query)
        return {one.subject_id: one.key for one in found.data}

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def each(page_of: Callable[[int], Page[T]]) -> Iterator[T]:
    """All items of a list: `each(lambda page: client.jobs.list(page=page, page_size=100))`."""
    number = 1
    while True:
        page = page_of(number)
        yield from page.data
        if not page.has_more or not page.data:
            return
        number += 1


class _Calls:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport


class Workflows(_Calls):
    """Definitions of workflows."""

    def create(
        self,
        *,
        name: str,
        source_provider: str,
        type_: WorkflowType,
        steps_json: Json,
        idempotency_key: str | None = None,
    ) -> Workflow:
        """Make a workflow, revision 1."""
        body = {"name": name, "sourceProvider": source_provider, "type": type_.value, "stepsJson": steps_json}
        return self._transport.call("POST", "/workflows", Workflow, body=body, key=idempotency_key)

    def list(
        self,
        *,
        source_provider: str | None = None,
        type_: WorkflowType | None = None,
        name: str | None = None,
        page: int = 1,
        page_size: int = 10,
    ) -> Page[Workflow]:
        """One page, newest first."""
        query = {"sourceProvider": source_provider, "type": type_, "name": name, "page": page, "page_size": page_size}
        return self._transport.call("GET", "/workflows", Page[Workflow], query=query)

    def get(self, workflow_id: str) -> Workflow:
        """Read one, with its steps."""
        return self._transport.call("GET", f"/workflows/{_segment(workflow_id)}", Workflow)

    def change(self, workflow_id: str, *, name: str | None = None, steps_json: Json | None = None) -> Workflow:
        """Change what is given; runs under way keep their snapshot."""
        body = _given(name=name, stepsJson=steps_json)
        return self._transport.call("PATCH", f"/workflows/{_segment(workflow_id)}", Workflow, body=body)

    def delete(self, workflow_id: str, *, force: bool = False) -> None:
        """Delete one; it stays readable by its id. ApiError `workflow_in_use` names jobs in the way, unless `force`."""
        self._transport.delete(f"/workflows/{_segment(workflow_id)}", query={"force": force or None})

    def revisions(self, workflow_id: str, *, page: int = 1, page_size: int = 10) -> Page[WorkflowRevision]:
        """One page of its revisions, newest first, without their steps."""
        path = f"/workflows/{_segment(workflow_id)}/revisions"
        query = {"page": page, "page_size": page_size}
        return self._transport.call("GET", path, Page[WorkflowRevision], query=query)

    def revision(self, workflow_id: str, revision: int) -> WorkflowRevision:
        """Read one revision, with the steps of then."""
        path = f"/workflows/{_segment(workflow_id)}/revisions/{revision}"
        return self._transport.call("GET", path, WorkflowRevision)


class Jobs(_Calls):
    """Definitions of jobs."""

    def create(
        self,
        *,
        name: str,
        source_provider: str,
        workflow_ids: Sequence[str],
        schedule: Schedule | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Make a job that runs `workflow_ids` in this order."""
        body = {"name": name, "sourceProvider": source_provider, "jobConfigJson": _order(workflow_ids)}
        body |= _given(schedule=schedule)
        return self._transport.call("POST", "/jobs", Job, body=body, key=idempotency_key)

    def list(
        self,
        *,
        source_provider: str | None = None,
        workflow_id: str | None = None,
        page: int = 1,
        page_size: int = 10,
    ) -> Page[Job]:
        """One page, newest first."""
        query = {"sourceProvider": source_provider, "workflowId": workflow_id, "page": page, "page_size": page_size}
        return self._transport.call("GET", "/jobs", Page[Job], query=query)

    def get(self, job_id: str) -> Job:
        """Read one."""
        return self._transport.call("GET", f"/jobs/{_segment(job_id)}", Job)

    def change(
        self,
        job_id: str,
        *,
        name: str | None = None,
        workflow_ids: Sequence[str] | None = None,
        schedule: Schedule | None = _UNSET,
    ) -> Job:
        """Change what is given; `schedule=None` takes the schedule away."""
        body = _given(name=name, jobConfigJson=_order(workflow_ids) if workflow_ids is not None else None)
        if schedule is not _UNSET:
            body["schedule"] = schedule
        return self._transport.call("PATCH", f"/jobs/{_segment(job_id)}", Job, body=body)

    def delete(self, job_id: str, *, force: bool = False) -> None:
        """Delete one; its runs stay."""
        self._transport.delete(f"/jobs/{_segment(job_id)}", query={"force": force or None})

    def run(
        self,
        job_id: str,
        *,
        external_id: str | None = None,
        inputs: Json | None = None,
        workflow_inputs: Mapping[str, Json] | None = None,
        test_mode: bool = False,
        debug: Json | None = None,
        idempotency_key: str | None = None,
    ) -> JobRun:
        """Start a run; `workflow_inputs` (by workflow id) win over `inputs`."""
        body = _start(external_id, inputs, test_mode, debug) | _given(workflowInputs=workflow_inputs)
        return self._transport.call("POST", f"/jobs/{_segment(job_id)}/run", JobRun, body=body, key=idempotency_key)


class Providers(_Calls):
    """The web applications that workflows are written for; changes need a key of level admin."""

    def create(self, slug: str, *, idempotency_key: str | None = None, **fields: Unpack[ProviderFields]) -> Provider:
        """Register one; ApiError `provider_exists` when its slug is taken."""
        body = {"slug": slug, **_provider(fields)}
        return self._transport.call("POST", "/providers", Provider, body=body, key=idempotency_key)

    def list(self, *, page: int = 1, page_size: int = 10) -> Page[Provider]:
        """One page, newest first."""
        query = {"page": page, "page_size": page_size}
        return self._transport.call("GET", "/providers", Page[Provider], query=query)

    def get(self, slug: str) -> Provider:
        """Read one."""
        return self._transport.call("GET", f"/providers/{_segment(slug)}", Provider)

    def change(self, slug: str, **fields: Unpack[ProviderFields]) -> Provider:
        """Change what is given; None clears a field."""
        return self._transport.call("PATCH", f"/providers/{_segment(slug)}", Provider, body=_provider(fields))

    def delete(self, slug: str) -> None:
        """Register it no more; its workflows go on with the hosts that their own steps name."""
        self._transport.delete(f"/providers/{_segment(slug)}")


class JobRuns(_Calls):
    """Runs of jobs."""

    def list(
        self,
        *,
        job_id: str | None = None,
        status: JobRunStatus | None = None,
        external_id: str | None = None,
        test_mode: bool | None = None,
        page: int = 1,
        page_size: int = 10,
    ) -> Page[JobRun]:
        """One page, newest first."""
        query = {"jobId": job_id, "status": status, "externalId": external_id, "testMode": test_mode}
        paged = {**query, "page": page, "page_size": page_size}
        return self._transport.call("GET", "/job-runs", Page[JobRun], query=paged)

    def get(self, job_run_id: str) -> JobRun:
        """Read one."""
        return self._transport.call("GET", f"/job-runs/{_segment(job_run_id)}", JobRun)

    def cancel(self, job_run_id: str, *, idempotency_key: str | None = None) -> JobRun:
        """Ask it to stop, which takes seconds; ApiError `run_already_ended` when it had ended otherwise."""
        path = f"/job-runs/{_segment(job_run_id)}/cancel"
        return self._transport.call("POST", path, JobRun, key=idempotency_key)

    def retry(self, job_run_id: str, *, begin: str = "failed", idempotency_key: str | None = None) -> JobRun:
        """A new run with the same snapshot, from the `failed` workflow on or from the `start`.

        ApiError `run_not_ended`, `run_not_failed`, `run_not_retryable` or `inputs_gone`.
        """
        path = f"/job-runs/{_segment(job_run_id)}/retry"
        return self._transport.call("POST", path, JobRun, body={"from": begin}, key=idempotency_key)

    def explain(self, job_run_id: str) -> Explanation:
        """Why it stands where it stands, told by its newest workflow run."""
        return self._transport.call("GET", f"/job-runs/{_segment(job_run_id)}/explain", Explanation)


class WorkflowRuns(_Calls):
    """Runs of workflows, alone or as part of a job run."""

    def create(
        self,
        *,
        workflow_id: str,
        external_id: str | None = None,
        inputs: Json | None = None,
        test_mode: bool = False,
        debug: Json | None = None,
        stop_after_step: str | None = None,
        idempotency_key: str | None = None,
    ) -> WorkflowRun:
        """Run one workflow alone."""
        body = {"workflowId": workflow_id} | _start(external_id, inputs, test_mode, debug)
        body |= _given(stopAfterStep=stop_after_step)
        return self._transport.call("POST", "/workflow-runs", WorkflowRun, body=body, key=idempotency_key)

    def list(
        self,
        *,
        workflow_id: str | None = None,
        job_run_id: str | None = None,
        status: WorkflowRunStatus | None = None,
        external_id: str | None = None,
        test_mode: bool | None = None,
        page: int = 1,
        page_size: int = 10,
    ) -> Page[WorkflowRun]:
        """One page, newest first."""
        query = {"workflowId": workflow_id, "jobRunId": job_run_id, "status": status, "externalId": external_id}
        paged = {**query, "testMode": test_mode, "page": page, "page_size": page_size}
        return self._transport.call("GET", "/workflow-runs", Page[WorkflowRun], query=paged)

    def get(self, workflow_run_id: str) -> WorkflowRun:
        """Read one."""
        return self._transport.call("GET", f"/workflow-runs/{_segment(workflow_run_id)}", WorkflowRun)

    def cancel(self, workflow_run_id: str, *, idempotency_key: str | None = None) -> WorkflowRun:
        """Ask it to stop, which takes seconds; its job run stops too."""
        path = f"/workflow-runs/{_segment(workflow_run_id)}/cancel"
        return self._transport.call("POST", path, WorkflowRun, key=idempotency_key)

    def retry(self, workflow_run_id: str, *, begin: str = "failed", idempotency_key: str | None = None) -> WorkflowRun:
        """A new run of this workflow; where it belongs to a job, the first one of a new job run. Errors as there."""
        path = f"/workflow-runs/{_segment(workflow_run_id)}/retry"
        return self._transport.call("POST", path, WorkflowRun, body={"from": begin}, key=idempotency_key)

    def explain(self, workflow_run_id: str) -> Explanation:
        """Why it stands where it stands, what was tried, what comes next."""
        return self._transport.call("GET", f"/workflow-runs/{_segment(workflow_run_id)}/explain", Explanation)

    def logs(
        self, workflow_run_id: str, *, kind: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Log:
        """A part of its log, of one kind (`step`, `console`, `network`) or of all; `cursor` of the part before."""
        path = f"/workflow-runs/{_segment(workflow_run_id)}/logs"
        query = {"kind": kind, "cursor": cursor, "limit": limit}
        return self._transport.call("GET", path, Log, query=query)

    def all_logs(self, workflow_run_id: str, *, kind: str | None = None) -> Iterator[LogEntry]:
        """The whole log so far, part after part."""
        cursor: str | None = None
        while True:
            part = self.logs(workflow_run_id, kind=kind, cursor=cursor, limit=1000)
            yield from part.data
            if not part.has_more:
                return
            cursor = part.cursor

    def steps(self, workflow_run_id: str, *, page: int = 1, page_size: int = 100) -> Page[Step]:
        """Steps that ended, all attempts."""
        path = f"/workflow-runs/{_segment(workflow_run_id)}/steps"
        return self._transport.call("GET", path, Page[Step], query={"page": page, "page_size": page_size})

    def artifacts(self, workflow_run_id: str, *, page: int = 1, page_size: int = 100) -> Page[Artifact]:
        """What the run produced."""
        path = f"/workflow-runs/{_segment(workflow_run_id)}/artifacts"
        return self._transport.call("GET", path, Page[Artifact], query={"page": page, "page_size": page_size})

    def events(self, workflow_run_id: str, *, after: str | None = None, wait_seconds: int | None = None) -> Page[Event]:
        """Events so far, oldest first, those `after` a position; waits for the first one up to `wait_seconds`."""
        path = f"/workflow-runs/{_segment(workflow_run_id)}/events"
        return self._transport.call("GET", path, Page[Event], query={"after": after, "wait": wait_seconds})

    def all_events(self, workflow_run_id: str) -> Iterator[Event]:
        """All events so far, oldest first, page after page."""
        after: str | None = None
        while True:
            page = self.events(workflow_run_id, after=after)
            yield from page.data
            if not page.has_more or not page.data or page.data[-1].position == after:
                return
            after = page.data[-1].position

    def follow(self, workflow_run_id: str, *, after: str | None = None) -> Iterator[Event]:
        """Events as they happen, until the run has ended; reconnects by itself and goes on without a gap.

        Blocks between events. Unreachable when the server cannot be reached any more.
        """
        position, breaks = after, 0
        while True:
            pause = None
            # A server that cannot be reached at all raises Unreachable from within; a break of an open stream does not.
            with suppress(httpx.TransportError):
                for message in self._messages(workflow_run_id, position):
                    breaks = 0
                    position = message.id or position
                    pause = message.retry_seconds if message.retry_seconds is not None else pause
                    if message.event == "reconnect":
                        break
                    if message.data:
                        event = decode(message.data, Event)
                        yield event
                        if event.type in _RUN_ENDS:
                            return
            breaks = min(breaks + 1, TRIES_MAX - 1)
            if breaks > 1 and self.get(workflow_run_id).ended:
                return
            delay = delay_seconds(breaks, None, self._transport.surroundings.fraction())
            self._transport.surroundings.sleep(pause if pause is not None else delay or 0.0)

    def _messages(self, workflow_run_id: str, after: str | None) -> Iterator[server_sent.Message]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        path = f"/workflow-runs/{_segment(workflow_run_id)}/events"
        query = {"after": after}
        with self._transport.stream(path, query=query, headers=headers, read_seconds=_QUIET_SECONDS_MAX) as response:
            yield from server_sent.messages(response.iter_bytes())


class Artifacts(_Calls):
    """What runs produced."""

    def list(
        self,
        *,
        workflow_run_id: str | None = None,
        workflow_id: str | None = None,
        job_run_id: str | None = None,
        type_: str | None = None,
        page: int = 1,
        page_size: int = 10,
    ) -> Page[Artifact]:
        """One page, newest first."""
        query = {"workflowRunId": workflow_run_id, "workflowId": workflow_id, "jobRunId": job_run_id, "type": type_}
        paged = {**query, "page": page, "page_size": page_size}
        return self._transport.call("GET", "/artifacts", Page[Artifact], query=paged)

    def get(self, artifact_id: str) -> Artifact:
        """Read one; mints a signed URL that lives 15 minutes."""
        return self._transport.call("GET", f"/artifacts/{_segment(artifact_id)}", Artifact)

    def read(self, artifact_id: str, *, bytes_max: int = 16 * 1024 * 1024) -> bytes:
        """All bytes of a small artifact, checked against its hash. DamagedDownload when they differ."""
        return downloads.read(self._transport, self.get(artifact_id), bytes_max)

    def download(
        self,
        artifact_id: str,
        destination: Path,
        *,
        on_progress: downloads.OnProgress = lambda _done, _total: None,
    ) -> Artifact:
        """Stream to the file `destination`, checked against its hash; goes on where an earlier call broke off.

        `on_progress` gets bytes so far and in all. DamagedDownload, OSError beside the usual errors.
        """
        return downloads.save(self._transport, lambda: self.get(artifact_id), destination, on_progress)


class InputRequests(_Calls):
    """Questions of runs to people."""

    def list(
        self,
        *,
        status: InputRequestStatus | None = None,
        workflow_run_id: str | None = None,
        page: int = 1,
        page_size: int = 10,
    ) -> Page[InputRequest]:
        """One page, newest first."""
        query = {"status": status, "workflowRunId": workflow_run_id, "page": page, "page_size": page_size}
        return self._transport.call("GET", "/input-requests", Page[InputRequest], query=query)

    def get(self, input_request_id: str) -> InputRequest:
        """Read one."""
        return self._transport.call("GET", f"/input-requests/{_segment(input_request_id)}", InputRequest)

    def answer(
        self, input_request_id: str, values: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> InputRequest:
        """Answer it; the first answer wins, a later one gets ApiError `input_already_answered`."""
        path = f"/input-requests/{_segment(input_request_id)}/answer"
        body = {"values": dict(values)}
        return self._transport.call("POST", path, InputRequest, body=body, key=idempotency_key)


class ApiKeys(_Calls):
    """Who may call; needs a key of level admin."""

    def create(
        self,
        *,
        level: KeyLevel,
        description: str = "",
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedApiKey:
        """Make a key; `key` of the answer is shown this once. `expires_at` must be aware."""
        body = _given(level=level.value, description=description, expiresAt=expires_at)
        return self._transport.call("POST", "/api-keys", CreatedApiKey, body=body, key=idempotency_key)

    def list(self, *, page: int = 1, page_size: int = 10) -> Page[ApiKey]:
        """One page, newest first, revoked ones included."""
        return self._transport.call("GET", "/api-keys", Page[ApiKey], query={"page": page, "page_size": page_size})

    def get(self, api_key_id: str) -> ApiKey:
        """Read one."""
        return self._transport.call("GET", f"/api-keys/{_segment(api_key_id)}", ApiKey)

    def revoke(self, api_key_id: str) -> None:
        """End a key for good; ApiError `last_admin_key` for the last one of level admin."""
        self._transport.delete(f"/api-keys/{_segment(api_key_id)}")


def find_run(client: Client, run_id: str) -> JobRun | WorkflowRun:
    """The job run of that id, else the workflow run; ApiError `not_found` when there is neither."""
    try:
        return client.job_runs.get(run_id)
    except ApiError as error:
        if error.status != 404:
            raise
    return client.workflow_runs.get(run_id)


def _segment(resource_id: str) -> str:
    if not resource_id:
        raise ValueError("An id must not be empty.")
    return quote(resource_id, safe="")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _provider(fields: ProviderFields) -> Json:
    return {_CAMEL[name]: value for name, value in fields.items()}


def _order(workflow_ids: Sequence[str]) -> Json:
    return {"workflowExecutionOrder": list(workflow_ids)}


def _start(external_id: str | None, inputs: Json | None, test_mode: bool, debug: Json | None) -> Json:  # noqa: FBT001 (private)
    return _given(externalId=external_id, inputs=inputs, testMode=test_mode or None, debug=debug)
