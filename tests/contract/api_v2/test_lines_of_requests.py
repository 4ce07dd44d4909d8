"""What the gateway logs while it answers names the request, its organization and its trace; afterwards nothing does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from api_gateway.auth import Authenticator
from api_gateway.commands import Commands
from api_gateway.definition_queries import DefinitionQueries
from kernel.errors import Rejected
from tests.support.gateways import ACME, RunningGateway
from tests.support.told_lines import Told, telling

NAMES = ("request_id", "organization_id", "trace_id")
TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"X-Request-Id": "request-17", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
_log = structlog.get_logger("tests.deep_below")


def about(told: Told, event: str) -> list[dict[str, Any]]:
    return [{name: line[name] for name in NAMES if name in line} for line in told.lines(event)]


@pytest.mark.parametrize(
    ("operation", "asked", "name"),
    [("GET jobs", DefinitionQueries, "jobs"), ("POST workflow-runs", Commands, "start_workflow_run")],
)
async def test_a_line_of_a_request_has_its_ids_and_one_of_what_goes_on_behind_it_has_none(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, operation: str, asked: type, name: str
) -> None:
    over, behind = asyncio.Event(), []

    async def go_on() -> None:
        _log.info("begun")
        await over.wait()
        _log.info("outlived")

    def refuse(*_: object, **__: object) -> object:
        _log.info("inside")
        behind.append(asyncio.create_task(go_on()))
        raise ZeroDivisionError

    monkeypatch.setattr(asked, name, refuse)
    method, path = operation.split()
    with telling() as told:
        body = {"workflowId": "0b5fd1b1-6b5a-4d7d-8f9b-1a2b3c4d5e6f"} if method == "POST" else None
        answer = await gateway.api.request(method, f"/api/v2/{path}", json=body, headers=HEADERS)
        assert answer.status_code == 500, answer.text
        _log.info("afterwards")
        over.set()
        await asyncio.gather(*behind)
    known = {"request_id": "request-17", "organization_id": ACME, "trace_id": TRACE}
    for event in ("inside", "request.failed", "request"):
        assert about(told, event) == [known], event
    for event in ("afterwards", "outlived"):
        assert about(told, event) == [{}], event


async def test_a_strangers_line_names_the_request_only(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(*_: object) -> None:
        _log.info("inside")
        raise Rejected("unauthenticated", "nobody")

    monkeypatch.setattr(Authenticator, "principal", nobody)
    with telling() as told:
        await gateway.stranger.get("/api/v2/jobs", headers={"X-Request-Id": "request-17"})
    assert about(told, "inside") == [{"request_id": "request-17"}]
