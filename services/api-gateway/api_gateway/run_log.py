"""The log of a workflow run: what its steps did, and what the page's console and network said meanwhile.

Two sources, each in its own order. What steps did is told by the run's facts, by their numbers. Console and network
stand in files of lines (NDJSON) that the runner leaves at the end of each attempt, as artifacts `attempt-<n>.ndjson`. A
page of the log merges both by time; its cursor names the place in each, so nothing is told twice, and what comes later
is told later though it may be older.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from api_gateway.failing import error_code
from api_gateway.queries import Queries
from kernel.domain.ids import OrganizationId
from kernel.domain.values import Failure
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunFailed,
    WorkflowRunRequeued,
    WorkflowRunResumed,
    WorkflowRunStarted,
    WorkflowRunStepFinished,
    WorkflowRunStepStarted,
)
from kernel.errors import Detail, Permanent, Rejected
from kernel.log.codec import decode_value
from kernel.log.topics import TYPES

KINDS = ("step", "console", "network")
READ_BYTES_MAX = 1024 * 1024
"""How far a page reads into one file; a longer stretch without a wanted line goes on with the next page."""
LINE_BYTES_MAX = 64 * 1024
_FILE = re.compile(r"attempt-([0-9]{1,6})\.ndjson")
_LOGGED = (
    WorkflowRunStarted, WorkflowRunRequeued, WorkflowRunAwaitingUserInput, WorkflowRunResumed, WorkflowRunStepStarted,
    WorkflowRunStepFinished, WorkflowRunCompleted, WorkflowRunFailed,
)  # fmt: skip
_WIRES = tuple(sorted(TYPES[kind].wire for kind in _LOGGED))
_FACTS = (
    "SELECT sequence, wire, time_ms, value FROM run_events WHERE root_run_id = ? AND about = ? AND sequence > ?"  # noqa: S608 (marks only)
    f" AND wire IN ({', '.join('?' * len(_WIRES))}) ORDER BY sequence LIMIT ?"
)
_FILES = (
    "SELECT display_name, sha256, size FROM artifacts WHERE workflow_run_id = ? AND type = 'log_file'"
    " AND mime_type = 'application/x-ndjson'"
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the log."""

    time_ms: int
    kind: str
    attempt: int
    level: str
    message: str
    data: dict[str, Any]


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Behind which fact, in which attempt's file, and behind which byte of it the next page begins."""

    sequence: int = 0
    attempt: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of the log; `cursor` is where the next part begins, also when there is none yet."""

    entries: list[LogEntry]
    cursor: str
    has_more: bool


class _Line(msgspec.Struct, frozen=True):
    """A line of an attempt's file."""

    ms: int
    kind: str
    level: str = "info"
    message: str = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _File:
    attempt: int
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class _Head:
    """The next entry of a source, None for what is passed over, and where the source stands behind it."""

    entry: LogEntry | None
    behind: Cursor


def read_cursor(text: str) -> Cursor:
    """What `LogPage.cursor` held. `Rejected("invalid_parameter")` for anything else."""
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise _no_cursor() from None
    if min(cursor.sequence, cursor.attempt, cursor.offset) < 0 or max(cursor.sequence, cursor.offset) >= 1 << 53:
        raise _no_cursor()
    return cursor


def _no_cursor() -> Rejected:
    message = "must be one that a page of this log has named"
    return Rejected("invalid_parameter", f"cursor {message}", (Detail("/cursor", "invalid_parameter", message),))


def cursor_text(cursor: Cursor) -> str:
    """The opaque text of a cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class RunLog:
    """Reads logs. `Rejected("not_found")` for a run that is not there or another organization's."""

    queries: Queries

    async def page(
        self, organization: OrganizationId, workflow_run_id: str, kind: str | None, cursor: Cursor, limit: int
    ) -> LogPage:
        """Up to `limit` entries behind `cursor`, of one kind or of all."""
        place = await self.queries.run_place(organization, workflow_run_id)
        steps: list[_Head] = []
        if kind in {None, "step"}:
            steps = await self._steps(organization, (place.root_run_id, workflow_run_id), cursor.sequence, limit + 1)
        lines: list[_Head] = []
        unread = False
        if kind != "step":
            files = await self._files(organization, place.subject_id, workflow_run_id)
            lines, unread = await self._lines(files, kind, cursor, limit + 1)
        page = _merged(steps, lines, cursor, limit)
        return replace(page, has_more=page.has_more or unread)

    async def _steps(self, organization: OrganizationId, where: tuple[str, str], after: int, limit: int) -> list[_Head]:
        rows = await self.queries.db.fetch_all(_FACTS, (*where, after, *_WIRES, limit))
        heads, attempt = [], await self._attempt_before(where, after)
        for sequence, wire, time_ms, value in rows:
            event = decode_value(wire, bytes(value))
            attempt = getattr(event, "attempt", attempt)
            level, message, data, failure = _told(event)
            text = await self.queries.text(organization, failure.message.subject_id, failure.message.box)
            said = f"{message}: {text}" if text else message
            heads.append(_Head(LogEntry(time_ms, "step", attempt, level, said, data), Cursor(sequence=sequence)))
        return heads

    async def _attempt_before(self, where: tuple[str, str], after: int) -> int:
        row = await self.queries.db.fetch_one(
            "SELECT value FROM run_events WHERE root_run_id = ? AND about = ? AND sequence <= ? AND wire = ?"
            " ORDER BY sequence DESC LIMIT 1",
            (*where, after, TYPES[WorkflowRunStarted].wire),
        )
        return decode_value(TYPES[WorkflowRunStarted].wire, bytes(row[0])).attempt if row else 0

    async def _lines(
        self, files: list[_File], kind: str | None, cursor: Cursor, limit: int
    ) -> tuple[list[_Head], bool]:
        """About `limit` lines behind `cursor`, and whether something behind them was not read."""
        heads: list[_Head] = []
        for file in files:
            offset = cursor.offset if file.attempt == cursor.attempt else 0
            if file.attempt < cursor.attempt or offset >= file.size:
                continue
            if len(heads) >= limit:
                return heads, True
            heads += _heads(file, await self._read(file, offset), offset, kind)
            if heads and heads[-1].behind.offset < file.size:
                return heads, True
        return heads, False

    async def _files(self, organization: OrganizationId, subject: str, workflow_run_id: str) -> list[_File]:
        """In the order of attempts."""
        found = []
        for name, sha256, size in await self.queries.db.fetch_all(_FILES, (workflow_run_id,)):
            match = _FILE.fullmatch(await self.queries.text(organization, subject, name))
            if match:
                found.append(_File(int(match[1]), sha256, size))
        return sorted(found, key=lambda file: file.attempt)

    async def _read(self, file: _File, offset: int) -> bytes:
        """From `offset` on; empty when the bytes were erased."""
        try:
            length = min(file.size - offset, READ_BYTES_MAX)
            chunks = self.queries.store.get(file.sha256, offset=offset, length=length)
            return b"".join([chunk async for chunk in chunks])
        except Permanent:
            return b""


def _heads(file: _File, raw: bytes, offset: int, kind: str | None) -> Iterator[_Head]:
    """The whole lines of `raw`; one of another kind, or that is no line of a log, is passed over."""
    at = 0
    while (end := raw.find(b"\n", at)) >= 0 or (at < len(raw) and offset + len(raw) == file.size):
        end = end if end >= 0 else len(raw)
        text, at = raw[at:end], min(end + 1, len(raw))
        yield _Head(_entry(text, file.attempt, kind), Cursor(attempt=file.attempt, offset=offset + at))
    if at == 0 and len(raw) > LINE_BYTES_MAX:
        yield _Head(None, Cursor(attempt=file.attempt, offset=offset + len(raw)))


def _entry(text: bytes, attempt: int, kind: str | None) -> LogEntry | None:
    try:
        line = msgspec.json.decode(text, type=_Line)
    except msgspec.MsgspecError:
        return None
    if line.kind not in KINDS or (kind is not None and line.kind != kind):
        return None
    return LogEntry(line.ms, line.kind, attempt, line.level, line.message, line.data)


def _merged(steps: list[_Head], lines: list[_Head], cursor: Cursor, limit: int) -> LogPage:
    entries: list[LogEntry] = []
    sequence, attempt, offset = cursor.sequence, cursor.attempt, cursor.offset
    step, line = 0, 0
    while len(entries) < limit and (step < len(steps) or line < len(lines)):
        next_line = lines[line] if line < len(lines) else None
        next_step = steps[step].entry if step < len(steps) else None
        if next_line is not None and (
            next_line.entry is None or next_step is None or next_line.entry.time_ms <= next_step.time_ms
        ):
            attempt, offset, line = next_line.behind.attempt, next_line.behind.offset, line + 1
            entries += [next_line.entry] if next_line.entry is not None else []
        elif next_step is not None:
            entries.append(next_step)
            sequence, step = steps[step].behind.sequence, step + 1
    left = step < len(steps) or any(head.entry is not None for head in lines[line:])
    return LogPage(entries, cursor_text(Cursor(sequence, attempt, offset)), left)


_NOTHING = Failure()


def _told(event: Any) -> tuple[str, str, dict[str, Any], Failure]:
    """Level, message, data and failure of a fact."""
    match event:
        case WorkflowRunStarted(attempt=attempt):
            return "info", f"attempt {attempt} begins", {}, _NOTHING
        case WorkflowRunRequeued(reason=reason):
            return "warning", f"the attempt ended: {reason}", {"reason": reason}, _NOTHING
        case WorkflowRunAwaitingUserInput(input_request_id=id_):
            return "info", "waits for a person", {"inputRequestId": id_}, _NOTHING
        case WorkflowRunResumed():
            return "info", "the answer came; the page goes on", {}, _NOTHING
        case WorkflowRunStepStarted():
            data = {"path": event.path, "stepId": event.step_id, "name": event.name, "kind": event.kind}
            return "info", f"{event.path} is about to act", data, _NOTHING
        case WorkflowRunStepFinished():
            return _told_step(event)
        case WorkflowRunCompleted(status=status):
            return "info", f"the run ended: {status}", {}, _NOTHING
        case WorkflowRunFailed(status=status, failure=failure):
            code = error_code(status, failure.code)
            return "error", f"the run failed: {code}", {"errorCode": code, "errorReason": failure.code}, failure
        case _:
            raise AssertionError(event)


def _told_step(event: WorkflowRunStepFinished) -> tuple[str, str, dict[str, Any], Failure]:
    duration = event.finished_ms - event.started_ms
    data = {
        "path": event.path, "stepId": event.step_id, "name": event.name, "kind": event.kind,
        "status": event.status.name, "tries": event.tries, "durationMs": duration,
    }  # fmt: skip
    if event.status is StepStatus.FAILED:
        code = event.failure.code
        return "error", f"{event.path} failed: {code}", {**data, "errorCode": code}, event.failure
    return "info", f"{event.path} {event.status} in {duration} ms", data, _NOTHING
