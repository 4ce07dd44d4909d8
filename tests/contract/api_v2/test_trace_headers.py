"""`traceparent` and `tracestate` of a request: in its record, in all that is decided on it, and in no line of a log."""

from __future__ import annotations

import pytest

from kernel.log.topics import Topic
from tests.support.gateways import ACME, RunningGateway, workflow_body
from tests.support.told_lines import telling

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE,rojo@acme=00f067aa0ba902b7"
CARRIED = (Topic.REGISTRY_REQUESTS, Topic.REGISTRY_LEDGER, Topic.DEFINITIONS)
"""What a new workflow passes: asked, decided, told."""

Headers = list[tuple[str, str]]


async def traced(gateway: RunningGateway, headers: Headers) -> dict[Topic, tuple[str | None, str | None]]:
    """What the records of a new workflow say, topic by topic."""
    answer = await gateway.api.post("/api/v2/workflows", json=workflow_body(), headers=headers)
    assert answer.status_code == 201, answer.text
    log, found = gateway.services.log, {}
    for topic in CARRIED:
        for partition in range(log.partitions(topic)):
            for stored in await log.read(topic, partition, 0, max_records=10_000):
                said = dict(stored.record.headers)
                if said.get("ce_organizationid") == ACME:
                    found[topic] = (said.get("ce_traceparent"), said.get("ce_tracestate"))
    return found


async def test_both_are_carried_from_a_request_to_its_fact(gateway: RunningGateway) -> None:
    with telling() as told:
        found = await traced(gateway, [("traceparent", CALLER), ("tracestate", STATE)])
    assert found == dict.fromkeys(CARRIED, (CALLER, STATE))
    assert told.lines("request")
    assert "t61rcWkgMzE" not in told.stream.getvalue()


async def test_several_headers_are_one_list(gateway: RunningGateway) -> None:
    headers = [
        ("tracestate", "congo=t61rcWkgMzE"),
        ("traceparent", CALLER),
        ("tracestate", "rojo@acme=00f067aa0ba902b7"),
    ]
    assert await traced(gateway, headers) == dict.fromkeys(CARRIED, (CALLER, STATE))


@pytest.mark.parametrize("state", ["congo", "congo=1,congo=2", f"a={'v' * 256},b={'v' * 256}", "a=\x1b[31m", " , "])
async def test_a_malformed_state_is_left_out_and_nothing_fails(gateway: RunningGateway, state: str) -> None:
    with telling() as told:
        found = await traced(gateway, [("traceparent", CALLER), ("tracestate", state)])
    assert found == dict.fromkeys(CARRIED, (CALLER, None))
    assert not [line for line in told.lines() if line["level"] == "warning"]


@pytest.mark.parametrize("parent", [[], [("traceparent", "00-nobody")]])
async def test_a_state_that_goes_along_with_no_span_is_left_out(gateway: RunningGateway, parent: Headers) -> None:
    assert await traced(gateway, [*parent, ("tracestate", STATE)]) == dict.fromkeys(CARRIED, (None, None))
