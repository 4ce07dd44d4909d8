"""What are runs asking people, and what became of it?"""

from __future__ import annotations

import json
from dataclasses import asdict

from api_gateway.projections.change import Cell, Change, Fact, Kind, Project, Table
from kernel.domain.input_request import (
    InputRequestAnswered,
    InputRequestCancelled,
    InputRequestExpired,
    InputRequestOpened,
    InputRequestStatus,
)

TABLE = Table("input_requests", ("id",))


def _opened(fact: Fact) -> Change:
    event: InputRequestOpened = fact.event
    columns: dict[str, Cell] = {
        "root_run_id": fact.key,
        "organization_id": event.organization_id,
        "workflow_run_id": event.workflow_run_id,
        "job_run_id": event.job_run_id,
        "subject_id": event.subject_id,
        "external_id": event.external_id.box,
        "step_id": event.step_id,
        "kind": event.kind,
        "prompt": event.prompt.box,
        "fields": json.dumps([asdict(field) for field in event.fields], separators=(",", ":")),
        "status": InputRequestStatus.OPEN.value,
        "attempt": event.attempt,
        "created_ms": fact.time_ms,
        "expires_ms": event.expires_ms,
    }
    return Change(Kind.PUT, TABLE, (event.input_request_id,), columns)


def _answered(fact: Fact) -> Change:
    return _closed(fact, InputRequestStatus.ANSWERED)


def _expired(fact: Fact) -> Change:
    return _closed(fact, InputRequestStatus.EXPIRED)


def _cancelled(fact: Fact) -> Change:
    return _closed(fact, InputRequestStatus.CANCELLED)


def _closed(fact: Fact, status: InputRequestStatus) -> Change:
    columns: dict[str, Cell] = {"status": status.value, "closed_ms": fact.time_ms}
    return Change(Kind.PATCH, TABLE, (fact.event.input_request_id,), columns)


ON: dict[type, Project] = {
    InputRequestOpened: _opened,
    InputRequestAnswered: _answered,
    InputRequestExpired: _expired,
    InputRequestCancelled: _cancelled,
}
