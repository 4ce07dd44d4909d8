"""`towpath events tail` without a run: follows topics of the event log at its brokers."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import msgspec

from towpath.commands.shared import App, out
from towpath.errors import MissingExtra, Unreadable
from towpath.interrupting import Check, remembered_interrupts

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from towpath.event_log.decoding import LogRecord
    from towpath.event_log.sealed import KeyOf

PUBLIC_TOPICS = ("job_runs", "definitions")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be shown. Types may have wildcards; `run` is a root run or a workflow run."""

    topics: tuple[str, ...]
    types: tuple[str, ...]
    run: str
    follow: bool
    since_ms: int | None
    """0: from the beginning; None: from now on."""
    unseal: bool
    as_json: bool


def since(text: str, now: float) -> int | None:
    """`beginning`, `now`, an age such as `15m`, or a time in ISO 8601 (UTC without an offset), as `Wanted.since_ms`."""
    if text in {"beginning", "now"}:
        return 0 if text == "beginning" else None
    if text[-1:] in _UNITS and text[:-1].isdecimal():
        return int((now - int(text[:-1]) * _UNITS[text[-1]]) * 1000)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("say beginning, now, an age such as 15m, or a time such as 2026-01-31T08:00") from None
    aware = given if given.tzinfo else given.replace(tzinfo=UTC)
    return max(1, (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


def tail_log(app: App, bootstrap: str, prefix: str, options: dict[str, str], wanted: Wanted) -> None:
    """Print records until interrupted, or without `follow` up to the present end."""
    with remembered_interrupts() as check:
        tell = _teller(app, wanted)
        for record in _records(app, bootstrap, prefix, options, wanted, check=check):
            tell(record)


def _records(
    app: App, bootstrap: str, prefix: str, options: dict[str, str], wanted: Wanted, *, check: Check
) -> Iterator[LogRecord]:
    try:
        from towpath.event_log import reading  # noqa: PLC0415 (an extra: the rest of the command line works without it)
    except ModuleNotFoundError as error:
        raise MissingExtra("kafka") from error
    at = reading.brokers(bootstrap, prefix, app.environment, options)
    return reading.records(at, list(wanted.topics), since_ms=wanted.since_ms, follow=wanted.follow, check=check)


def _teller(app: App, wanted: Wanted) -> Callable[[LogRecord], None]:
    """What shows a record, or passes over it."""
    from towpath.event_log import decoding, line, sealed  # noqa: PLC0415 (an extra, as above)

    key_of: KeyOf | None = sealed.SubjectKeys(app.client) if wanted.unseal else None
    console = out()

    def tell(record: LogRecord) -> None:
        message = decoding.message_of(record)
        data = None if message is None else decoding.data_of(message)
        if not _is_wanted(record, data, wanted):
            return
        opened = _opened(record, message, key_of) if message is not None and key_of else {}
        if wanted.as_json:
            click.echo(msgspec.json.encode(_as_json(record, data, opened if key_of else None)).decode())
        else:
            console.print(line.line(record, data, opened), soft_wrap=True)

    return tell


def _opened(record: LogRecord, message: Message, key_of: KeyOf) -> dict[str, Any]:
    from towpath.event_log import sealed  # noqa: PLC0415 (an extra, as above)

    try:
        return sealed.opened(message, key_of)
    except Unreadable as error:
        where = f"{record.topic}/{record.partition}/{record.offset}"
        click.echo(f"Warning: sealed values of {where} stay sealed: {error}", err=True)
        return {}


def _is_wanted(record: LogRecord, data: dict[str, Any] | None, wanted: Wanted) -> bool:
    if wanted.types and not any(fnmatch.fnmatchcase(record.type, pattern) for pattern in wanted.types):
        return False
    if not wanted.run or record.key == wanted.run:
        return True
    names = ("workflowRunId", "jobRunId", "rootRunId")
    return any((data or {}).get(name) == wanted.run for name in names)


def _as_json(record: LogRecord, data: dict[str, Any] | None, opened: dict[str, Any] | None) -> dict[str, Any]:
    shown = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key,
        "type": record.type,
        "sequence": record.sequence or None,
        "headers": dict(record.headers),
        "data": data,
    }
    return shown if opened is None else {**shown, "opened": opened}
