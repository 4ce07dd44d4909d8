"""The only way out: rows of the read models become typed answers, personal values opened on the way.

Everything is asked for under an organization; a foreign id is simply not there. What cannot be opened any more (its
subject was erased) reads as empty.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b32encode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar

from api_gateway import listing
from api_gateway.answers import (
    ArtifactAnswer,
    EventAnswer,
    FailureAnswer,
    InputRequestAnswer,
    JobRunAnswer,
    StepAnswer,
    StepFailureAnswer,
    WorkflowRunAnswer,
)
from api_gateway.event_data import failure_of, public_data
from api_gateway.failing import error_code, job_error_code
from api_gateway.listing import Listing, Where, Window
from api_gateway.projections import run_events, workflow_runs
from api_gateway.projections.change import Fact
from kernel.domain.ids import OrganizationId, SubjectId
from kernel.domain.job_run import TRANSITIONS as JOB_RUN_TRANSITIONS
from kernel.domain.job_run import JobRunStatus
from kernel.domain.values import FailureKind, Sealed, SealedBody
from kernel.domain.workflow_run import TERMINAL, WorkflowRunCreated, WorkflowRunStatus, WorkflowRunStepFinished
from kernel.errors import Permanent, Rejected, SecretUnavailable
from kernel.ids import Entropy
from kernel.log.codec import decode_value
from kernel.sealing import Sealer, SubjectKeys
from kernel.sql.port import Database, Row
from kernel.store.port import ByteStore, GatewayOpener

T = TypeVar("T")
Answer = Callable[[Row], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class _Source:
    """Which columns of which table make an answer."""

    table: str
    columns: str


_RUN_PLACE = _Source("workflow_runs", "root_run_id, subject_id, status")
_JOB_RUN_PLACE = _Source("job_runs", "id, subject_id, status")
_JOB_RUN = _Source(
    "job_runs",
    (
        "id, job_id, organization_id, status, workflow_ids, workflow_revisions, subject_id, external_id, test_mode,"
        " retry_of, created_by, created_ms, updated_ms, started_ms, completed_ms, error_code, error_message,"
        " failed_step_id, failed_step_name, failed_workflow_run_id"
    ),
)
_WORKFLOW_RUN_COLUMNS = (
    *("id", "workflow_id", "job_run_id", "status", "revision", "subject_id", "external_id", "test_mode"),
    *("retry_of", "created_by", "created_ms", "updated_ms", "completed_ms", "current_name", "input_request_id"),
    *("error_code", "error_message", "failed_step_id", "failed_step_name"),
)
_WORKFLOW_RUN = _Source("workflow_runs", ", ".join(_WORKFLOW_RUN_COLUMNS))
_WORKFLOW_RUN_ABSENT: dict[str, Any] = {
    **dict.fromkeys(("error_code", "failed_step_id", "failed_step_name", "current_name", "input_request_id"), ""),
    "error_message": b"",
    "completed_ms": 0,
}
_ARTIFACT = _Source(
    "artifacts",
    (
        "id, workflow_id, workflow_run_id, job_run_id, subject_id, type, display_name, mime_type, size, sha256,"
        " created_ms"
    ),
)
_INPUT_REQUEST = _Source(
    "input_requests",
    (
        "id, workflow_run_id, job_run_id, subject_id, external_id, kind, prompt, fields, status, attempt, created_ms,"
        " expires_ms"
    ),
)
_STEP = (
    "s.attempt, s.path, s.step_id, s.name, s.kind, s.effect, s.status, s.tries, s.started_ms, s.finished_ms,"
    " s.error_code, s.error_message, s.screenshot_artifact_id, e.wire, e.value"
)
_STEPS = (
    f"SELECT {_STEP} FROM steps s LEFT JOIN run_events e ON e.root_run_id = ? AND e.sequence = s.sequence"  # noqa: S608 (our own names)
    " WHERE s.workflow_run_id = ? ORDER BY s.sequence LIMIT ? OFFSET ?"
)
"""What a row does not keep stands in its fact."""
OUTPUT_BYTES_MAX = 32 * 1024
"""A longer output of a step is left out of lists."""
_RUNS_OF_JOB_RUN = "SELECT id, status FROM workflow_runs WHERE job_run_id = ? AND job_run_id <> '' ORDER BY position"
"""The second condition is that of the index, which is not used without it."""
EVENTS_MAX = 100
_EVENTS_OF_ROOT = (
    "SELECT sequence, wire, time_ms, value FROM run_events WHERE root_run_id = ? AND sequence > ?"
    " ORDER BY sequence LIMIT ?"
)
_EVENTS = (
    "SELECT sequence, wire, time_ms, value FROM run_events WHERE root_run_id = ? AND sequence > ?"
    " AND (about = ? OR about IN (SELECT id FROM input_requests WHERE workflow_run_id = ?))"
    " ORDER BY sequence LIMIT ?"
)
"""Of one workflow run of a job."""
_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where the events of a run are found, and whether it is over."""

    root_run_id: str
    subject_id: str
    has_ended: bool
    is_alone: bool
    """It is a workflow run that belongs to no job."""


@dataclass(frozen=True, slots=True)
class Queries:
    """All questions about runs. `Rejected("not_found")` for what is not there or another organization's."""

    db: Database
    keys: SubjectKeys
    store: ByteStore
    entropy: Entropy

    # ---------------------------------------------------------------- runs

    async def job_run(self, organization: OrganizationId, job_run_id: str) -> JobRunAnswer:
        return await self._job_run(await self._one(_JOB_RUN, organization, job_run_id))

    async def job_runs(self, organization: OrganizationId, where: Where, window: Window) -> Listing[JobRunAnswer]:
        return await self._list(_JOB_RUN, organization, where, window, self._job_run)

    async def workflow_run(self, organization: OrganizationId, workflow_run_id: str) -> WorkflowRunAnswer:
        row = await self._one(_WORKFLOW_RUN, organization, workflow_run_id)
        return await self._workflow_run(organization, row)

    async def workflow_run_created(self, fact: Fact) -> WorkflowRunAnswer:
        """The run as its first fact tells it: a read of one's own write without a read."""
        event: WorkflowRunCreated = fact.event
        change = workflow_runs.ON[WorkflowRunCreated](fact)
        cells = {**_WORKFLOW_RUN_ABSENT, **change.columns, "id": event.workflow_run_id}
        row = tuple(cells[column] for column in _WORKFLOW_RUN_COLUMNS)
        return await self._workflow_run(event.organization_id, row)

    async def workflow_runs(
        self, organization: OrganizationId, where: Where, window: Window
    ) -> Listing[WorkflowRunAnswer]:
        async def answer(row: Row) -> WorkflowRunAnswer:
            return await self._workflow_run(organization, row)

        return await self._list(_WORKFLOW_RUN, organization, where, window, answer)

    async def steps(self, organization: OrganizationId, workflow_run_id: str, window: Window) -> Listing[StepAnswer]:
        """Steps of all attempts, in the order in which they ended."""
        place = await self.run_place(organization, workflow_run_id)
        total = await self.db.fetch_one("SELECT count(*) FROM steps WHERE workflow_run_id = ?", (workflow_run_id,))
        rows = await self.db.fetch_all(_STEPS, (place.root_run_id, workflow_run_id, window.limit, window.offset))
        items = [await self._step(organization, place.subject_id, row) for row in rows]
        return Listing(items, total[0] if total else 0)

    async def run_place(self, organization: OrganizationId, workflow_run_id: str) -> RunPlace:
        """Where to look for this workflow run's events."""
        root, subject, status = await self._one(_RUN_PLACE, organization, workflow_run_id)
        return RunPlace(root, subject, WorkflowRunStatus(status) in TERMINAL, is_alone=root == workflow_run_id)

    async def job_run_place(self, organization: OrganizationId, job_run_id: str) -> RunPlace:
        """Where to look for this job run's events, those of its workflow runs among them."""
        root, subject, status = await self._one(_JOB_RUN_PLACE, organization, job_run_id)
        return RunPlace(root, subject, not JOB_RUN_TRANSITIONS[JobRunStatus(status)], is_alone=False)

    async def events(self, organization: OrganizationId, run_id: str, place: RunPlace, after: int) -> list[EventAnswer]:
        """Up to a hundred events of a run behind number `after`, oldest first; of a job run all there are."""
        if run_id == place.root_run_id:
            rows = await self.db.fetch_all(_EVENTS_OF_ROOT, (run_id, after, EVENTS_MAX))
        else:
            rows = await self.db.fetch_all(_EVENTS, (place.root_run_id, after, run_id, run_id, EVENTS_MAX))
        return [await self._event_of_row(organization, run_id, place, row) for row in rows]

    async def workflow_run_events(
        self, organization: OrganizationId, workflow_run_id: str, after: int
    ) -> tuple[RunPlace, list[EventAnswer]]:
        """`run_place` and `events` as of one moment, in one read for a run that is its own root."""
        place, rows = await self._place_and_events(_RUN_PLACE, organization, workflow_run_id, after)
        root, subject, status = place
        is_alone = root == workflow_run_id
        found = RunPlace(root, subject, WorkflowRunStatus(status) in TERMINAL, is_alone=is_alone)
        if not is_alone:
            return found, await self.events(organization, workflow_run_id, found, after)
        return found, [await self._event_of_row(organization, workflow_run_id, found, row) for row in rows]

    async def job_run_events(
        self, organization: OrganizationId, job_run_id: str, after: int
    ) -> tuple[RunPlace, list[EventAnswer]]:
        """`job_run_place` and `events` as of one moment."""
        place, rows = await self._place_and_events(_JOB_RUN_PLACE, organization, job_run_id, after)
        root, subject, status = place
        found = RunPlace(root, subject, not JOB_RUN_TRANSITIONS[JobRunStatus(status)], is_alone=False)
        return found, [await self._event_of_row(organization, job_run_id, found, row) for row in rows]

    async def events_of(
        self, organization: OrganizationId, run_id: str, place: RunPlace, facts: Iterable[Fact]
    ) -> list[EventAnswer]:
        """Facts of a root run as `events` would tell them of the rows that they have become."""
        return [
            await self._event(organization, run_id, place, (fact.sequence, fact.wire, fact.time_ms, fact.event))
            for fact in facts
            if type(fact.event) in run_events.ON
        ]

    async def _place_and_events(
        self, source: _Source, organization: OrganizationId, run_id: str, after: int
    ) -> tuple[Row, list[Row]]:
        rows = await self.db.fetch_all(_place_and_events_sql(source), (run_id, after, EVENTS_MAX, run_id, organization))
        if not rows:
            raise _no_such(source)
        return rows[0][:3], [row[3:] for row in rows if row[3] is not None]

    # ---------------------------------------------------------------- artifacts and questions

    async def artifact(self, organization: OrganizationId, artifact_id: str) -> ArtifactAnswer:
        return await self._artifact(organization, await self._one(_ARTIFACT, organization, artifact_id))

    async def artifacts(self, organization: OrganizationId, where: Where, window: Window) -> Listing[ArtifactAnswer]:
        async def answer(row: Row) -> ArtifactAnswer:
            return await self._artifact(organization, row)

        return await self._list(_ARTIFACT, organization, where, window, answer)

    async def input_request(self, organization: OrganizationId, input_request_id: str) -> InputRequestAnswer:
        row = await self._one(_INPUT_REQUEST, organization, input_request_id)
        return await self._input_request(organization, row)

    async def input_requests(
        self, organization: OrganizationId, where: Where, window: Window
    ) -> Listing[InputRequestAnswer]:
        async def answer(row: Row) -> InputRequestAnswer:
            return await self._input_request(organization, row)

        return await self._list(_INPUT_REQUEST, organization, where, window, answer)

    # ---------------------------------------------------------------- rows

    async def _one(self, source: _Source, organization: OrganizationId, id_: str) -> Row:
        row = await self.db.fetch_one(
            f"SELECT {source.columns} FROM {source.table} WHERE id = ? AND organization_id = ?",  # noqa: S608 (our own names)
            (id_, organization),
        )
        if row is None:
            raise _no_such(source)
        return row

    async def _list(
        self, source: _Source, organization: OrganizationId, where: Where, window: Window, answer: Answer[T]
    ) -> Listing[T]:
        listed = listing.LISTED[source.table]
        where = {"organization_id": organization, **where}
        counted = await self.db.fetch_one(*listing.total(listed, where))
        total = int(counted[0]) if counted else 0
        if window.offset >= total:
            return Listing([], total)
        ask = listing.seen_values(listed, where)
        seen = [] if ask is None else [row[0] for row in await self.db.fetch_all(*ask)]
        page = listing.page(listed, source.columns, where, window, count=total, dialect=self.db.dialect, seen=seen)
        rows = await self.db.fetch_all(*page)
        return Listing([await answer(row) for row in rows], total)

    # ---------------------------------------------------------------- answers

    async def _job_run(self, row: Row) -> JobRunAnswer:
        (
            id_, job_id, organization, status, workflow_ids, revisions, subject, external_id, test_mode, retry_of,
            created_by, created_ms, updated_ms, started_ms, completed_ms, code, message, step_id, step_name, failed_run,
        ) = row  # fmt: skip
        order: list[str] = json.loads(workflow_ids)
        runs = await self.db.fetch_all(_RUNS_OF_JOB_RUN, (id_,))
        failed_status = next((WorkflowRunStatus(run[1]) for run in runs if run[0] == failed_run), None)
        word = job_error_code(JobRunStatus(status), failed_status, code)
        return JobRunAnswer(
            id=id_,
            job_id=job_id,
            organization_id=organization,
            status=JobRunStatus(status),
            workflow_ids=order,
            workflow_revisions=dict(zip(order, json.loads(revisions), strict=True)),
            workflow_run_ids=[run[0] for run in runs],
            external_id=await self.text(organization, subject, external_id),
            retry_of=retry_of,
            test_mode=bool(test_mode),
            created_ms=created_ms,
            updated_ms=updated_ms,
            started_ms=started_ms,
            completed_ms=completed_ms,
            created_by=created_by,
            failure=await self._failure(organization, subject, word, (code, message, step_id, step_name), failed_run),
        )

    async def _workflow_run(self, organization: OrganizationId, row: Row) -> WorkflowRunAnswer:
        (
            id_, workflow_id, job_run_id, status, revision, subject, external_id, test_mode, retry_of, created_by,
            created_ms, updated_ms, completed_ms, current_name, input_request_id, code, message, step_id, step_name,
        ) = row  # fmt: skip
        word = error_code(WorkflowRunStatus(status), code)
        return WorkflowRunAnswer(
            id=id_,
            workflow_id=workflow_id,
            job_run_id=job_run_id,
            status=WorkflowRunStatus(status),
            revision=revision,
            external_id=await self.text(organization, subject, external_id),
            retry_of=retry_of,
            test_mode=bool(test_mode),
            created_ms=created_ms,
            updated_ms=updated_ms,
            completed_ms=completed_ms,
            created_by=created_by,
            current_name=current_name,
            input_request_id=input_request_id,
            failure=await self._failure(organization, subject, word, (code, message, step_id, step_name), id_),
        )

    async def _failure(
        self, organization: str, subject: str, word: str, columns: tuple[str, bytes | None, str, str], run_id: str
    ) -> FailureAnswer | None:
        if not word:
            return None
        reason, message, step_id, step_name = columns
        text = await self.text(organization, subject, message)
        return FailureAnswer(word, reason or word, text, run_id, step_id, step_name)

    async def _step(self, organization: OrganizationId, subject: str, row: Row) -> StepAnswer:
        (
            attempt, path, step_id, name, kind, effect, status, tries, started, ended, code, message, shot, wire, value,
        ) = row  # fmt: skip
        fact = decode_value(wire, bytes(value)) if wire else None
        finished = fact if isinstance(fact, WorkflowRunStepFinished) else None
        failure = None
        if code:
            failure = StepFailureAnswer(
                code=code,
                message=await self.text(organization, subject, message),
                is_retryable=finished is not None and finished.failure.kind is FailureKind.TEMPORARY,
                diagnosis=await self._diagnosis(organization, finished),
            )
        output = finished.output if finished else SealedBody()
        return StepAnswer(
            attempt=attempt,
            path=path,
            step_id=step_id,
            name=name,
            kind=kind,
            effect=effect,
            status=status,
            tries=tries,
            started_ms=started,
            finished_ms=ended,
            output=await self._output(organization, output),
            output_bytes=output.size,
            failure=failure,
            screenshot_artifact_id=shot,
        )

    async def _diagnosis(self, organization: OrganizationId, fact: WorkflowRunStepFinished | None) -> Any:
        if fact is None or not fact.diagnosis.box:
            return None
        text = await self.text(organization, fact.diagnosis.subject_id, fact.diagnosis.box)
        return json.loads(text) if text else None

    async def _output(self, organization: OrganizationId, output: SealedBody) -> Any:
        if output.size > OUTPUT_BYTES_MAX:
            return None
        sealer = Sealer(self.keys, self.store, self.entropy, GatewayOpener(organization))
        try:
            return await sealer.open_json(output)
        except (SecretUnavailable, Permanent):
            return None

    async def _event_of_row(self, organization: OrganizationId, run_id: str, place: RunPlace, row: Row) -> EventAnswer:
        sequence, wire, time_ms, value = row
        event = decode_value(wire, bytes(value))
        return await self._event(organization, run_id, place, (sequence, wire, time_ms, event))

    async def _event(
        self, organization: OrganizationId, run_id: str, place: RunPlace, fact: tuple[int, str, int, Any]
    ) -> EventAnswer:
        sequence, wire, time_ms, event = fact
        message = failure_of(event).message
        part = run_id if run_id != place.root_run_id else getattr(event, "workflow_run_id", "")
        data = {
            "sequence": sequence,
            "organization_id": organization,
            "workflow_run_id": part or (run_id if place.is_alone else None),
            "job_run_id": None if place.is_alone else place.root_run_id,
            "error_message": await self.text(organization, message.subject_id, message.box) or None,
            **public_data(event),
        }
        return EventAnswer(_event_id(place.root_run_id, sequence, time_ms), wire, sequence, time_ms, data)

    async def _artifact(self, organization: OrganizationId, row: Row) -> ArtifactAnswer:
        id_, workflow_id, run_id, job_run_id, subject, type_, name, mime_type, size, sha256, created_ms = row
        text = await self.text(organization, subject, name)
        return ArtifactAnswer(id_, workflow_id, run_id, job_run_id, type_, text, mime_type, size, sha256, created_ms)

    async def _input_request(self, organization: OrganizationId, row: Row) -> InputRequestAnswer:
        (
            id_, run_id, job_run_id, subject, external_id, kind, prompt, fields, status, attempt, created_ms,
            expires_ms,
        ) = row  # fmt: skip
        return InputRequestAnswer(
            id=id_,
            workflow_run_id=run_id,
            job_run_id=job_run_id,
            external_id=await self.text(organization, subject, external_id),
            kind=kind,
            prompt=await self.text(organization, subject, prompt),
            fields=json.loads(fields),
            status=status,
            attempt=attempt,
            created_ms=created_ms,
            expires_ms=expires_ms,
        )

    async def text(self, organization: str, subject: str, box: bytes | None) -> str:
        """A sealed text, opened; empty when there is none or its subject was erased."""
        if not box:
            return ""
        sealer = Sealer(self.keys, self.store, self.entropy, GatewayOpener(OrganizationId(organization)))
        try:
            return await sealer.open_text(Sealed(SubjectId(subject), bytes(box)))
        except SecretUnavailable:
            return ""


def _no_such(source: _Source) -> Rejected:
    return Rejected("not_found", f"no such {source.table.removesuffix('s').replace('_', ' ')}")


@cache
def _place_and_events_sql(source: _Source) -> str:
    """Events only where the run is its own root: of no other are there any under its id.

    They are bounded before they are joined; behind the join PostgreSQL would sort all events of the run first.
    """
    root, subject, status = source.columns.split(", ")
    return (
        f"SELECT r.{root}, r.{subject}, r.{status}, e.sequence, e.wire, e.time_ms, e.value FROM {source.table} r"  # noqa: S608 (our own names)
        f" LEFT JOIN ({_EVENTS_OF_ROOT}) e ON r.{root} = r.id"
        " WHERE r.id = ? AND r.organization_id = ? ORDER BY e.sequence"
    )


def _event_id(root_run_id: str, sequence: int, time_ms: int) -> str:
    """`evt_` and a ULID whose random part is derived, so that every reading of a fact names it alike."""
    digest = hashlib.sha256(f"{root_run_id}/{sequence}".encode()).digest()[:10]
    return f"evt_{_time_digits(time_ms)}{b32encode(digest).translate(_CROCKFORD).decode()}"


@lru_cache(maxsize=256)
def _time_digits(time_ms: int) -> str:
    """The first ten characters of a ULID: 48 bits behind two that are 0."""
    return b32encode((time_ms << 30).to_bytes(10)).translate(_CROCKFORD)[:10].decode()
