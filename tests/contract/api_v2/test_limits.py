"""Limits as callers meet them: calls a minute, open calls, slow bodies; and what HEAD and OPTIONS answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from api_gateway.app import create_app
from kernel.egress.policy import parse_networks
from tests.support.eventually import until
from tests.support.gateways import ACME, RunningGateway, a_run, a_workflow, client_of, gateway_in, workflow_body

JOBS = "/api/v2/jobs"


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway where a key has ten calls at once and sixty a minute, an address half of it, and time stands still."""
    async with gateway_in(
        tmp_path, rate_per_minute=60, rate_burst=10, address_rate_per_minute=30, address_rate_burst=5
    ) as running:
        running.clock.stand_still()
        yield running


async def statuses(client: httpx.AsyncClient, calls: int, path: str = JOBS) -> list[int]:
    return [(await client.get(path)).status_code for _ in range(calls)]


# ---------------------------------------------------------------- calls a minute


async def test_a_key_has_so_many_calls_at_once_and_is_told_when_to_go_on(limited: RunningGateway) -> None:
    assert await statuses(limited.api, 10) == [200] * 10
    refused = await limited.api.get(JOBS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert refused.json()["error"]["request_id"] == refused.headers["x-request-id"]
    assert int(refused.headers["retry-after"]) == 1
    limited.clock.ahead_ms += 1000 * int(refused.headers["retry-after"])
    assert (await limited.api.get(JOBS)).status_code == 200


async def test_every_answer_says_where_the_key_stands(limited: RunningGateway) -> None:
    first, missing = await limited.api.get(JOBS), await limited.api.get(f"{JOBS}/{ACME}")
    assert first.headers["ratelimit-policy"] == '"default";q=60;w=60'
    assert first.headers["ratelimit"] == '"default";r=9;t=1'
    assert missing.headers["ratelimit"] == '"default";r=8;t=2'
    assert "retry-after" not in first.headers
    await statuses(limited.api, 8)
    refused = await limited.api.get(JOBS)
    assert refused.headers["ratelimit"] == '"default";r=0;t=1'
    assert "ratelimit" not in (await limited.api.get("/healthz")).headers


async def test_one_key_s_calls_are_not_another_s(limited: RunningGateway) -> None:
    assert 429 in await statuses(limited.api, 12)
    for other in (limited.reader, limited.rival):
        assert await statuses(other, 3) == [200] * 3


async def test_health_and_metrics_have_no_limit(limited: RunningGateway) -> None:
    for path in ("/healthz", "/health/ready", "/metrics"):
        assert await statuses(limited.stranger, 30, path) == [200] * 30


async def test_calls_without_a_key_are_counted_by_address(limited: RunningGateway) -> None:
    assert await statuses(limited.stranger, 7) == [401] * 5 + [429] * 2
    assert await statuses(limited.api, 3) == [200] * 3, "a good key is not held back by strangers"
    assert await statuses(limited.stranger, 1, "/api/v2/openapi.json") == [429]


async def test_behind_a_trusted_proxy_each_caller_has_an_address(tmp_path: Path) -> None:
    proxies = parse_networks("127.0.0.0/8")
    async with gateway_in(
        tmp_path, address_rate_per_minute=30, address_rate_burst=1, trusted_proxies=proxies
    ) as gateway:
        gateway.clock.stand_still()
        found = [
            (await gateway.stranger.get(JOBS, headers={"X-Forwarded-For": caller})).status_code
            for caller in ("198.51.100.1", "198.51.100.1", "198.51.100.2")
        ]
    assert found == [401, 429, 401]


async def test_two_replicas_on_one_file_admit_no_more_than_one(limited: RunningGateway) -> None:
    second = create_app(limited.services)
    clients = [limited.api, client_of(second, limited.write_key)]
    answers = await asyncio.gather(*(clients[call % 2].get(JOBS) for call in range(60)))
    assert sum(answer.status_code == 200 for answer in answers) == 10
    rows = await limited.services.db.fetch_all("SELECT name, version FROM rate_limits")
    assert [name.partition(":")[0] for name, _ in rows] == ["key"]
    assert rows[0][1] <= 20, "sixty calls were far fewer writes"
    await clients[1].aclose()


async def test_without_a_limit_nothing_is_said_and_nothing_is_written(gateway: RunningGateway) -> None:
    answers = [await gateway.api.get(JOBS) for _ in range(120)]
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit" not in answers[-1].headers
    assert await gateway.services.db.fetch_all("SELECT name FROM rate_limits") == []


# ---------------------------------------------------------------- open calls


async def test_an_organization_has_so_many_streams_open_and_the_next_one_may_come_when_one_ends(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, open_streams_max=2) as gateway:
        run, foreign = await a_run(gateway.api), await a_run(gateway.rival)
        streams = gateway.app.state.gateway.limits.streams
        following = [asyncio.create_task(_follow(gateway.app, gateway.write_key, run)) for _ in range(2)]
        await until(lambda: streams.count(ACME) == 2)
        live = {"Accept": "text/event-stream"}
        refused = await gateway.api.get(f"/api/v2/workflow-runs/{run}/events", headers=live)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        assert refused.headers["retry-after"] == "1"
        polled = await gateway.api.get(f"/api/v2/workflow-runs/{run}/events?wait=1&after=1000000")
        assert polled.status_code == 429, "a long poll is a stream, too"
        assert (await gateway.api.get(f"/api/v2/workflow-runs/{run}/events")).status_code == 200
        assert (await gateway.rival.get(f"/api/v2/workflow-runs/{foreign}/events?wait=1")).status_code == 200
        following[0].cancel()
        await until(lambda: streams.count(ACME) == 1)
        following[1].cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await until(lambda: streams.count(ACME) == 0)


async def _follow(app: Litestar, key: str, run: str) -> None:
    """Open a live stream and never let it end, as a reader does that has forgotten it."""
    path = f"/api/v2/workflow-runs/{run}/events"
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"accept", b"text/event-stream")]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("gateway.test", 80),
    }  # fmt: skip

    async def receive() -> dict[str, object]:
        return await asyncio.Future()

    async def send(_message: object) -> None:
        return

    await app(scope, receive, send)  # type: ignore[arg-type]  # two wordings of ASGI


async def test_an_organization_has_so_many_requests_under_way(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, open_requests_max=1) as gateway:
        requests = gateway.app.state.gateway.limits.requests
        leave = requests.enter(ACME)
        assert (await gateway.api.get(JOBS)).status_code == 429
        assert (await gateway.rival.get(JOBS)).status_code == 200
        leave()
        assert await statuses(gateway.api, 3) == [200] * 3
        assert (await gateway.reader.post(JOBS, json={})).status_code == 403
        assert requests.count(ACME) == 0


async def test_a_body_that_comes_drop_by_drop_is_not_waited_for(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, body_seconds_max=0.05) as gateway:

        async def drops() -> AsyncIterator[bytes]:
            yield b'{"name": '
            await asyncio.get_running_loop().create_future()

        headers = {"Content-Type": "application/json"}
        answer = await gateway.api.post("/api/v2/workflows", content=drops(), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "request_timeout")
        assert gateway.app.state.gateway.limits.requests.count(ACME) == 0


# ---------------------------------------------------------------- HEAD and OPTIONS


async def test_head_is_answered_as_get_without_its_body(gateway: RunningGateway) -> None:
    path = f"/api/v2/workflows/{await a_workflow(gateway.api)}"
    read, head = await gateway.api.get(path), await gateway.api.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-type", "content-length"):
        assert head.headers[name] == read.headers[name]
    assert (await gateway.stranger.head(path)).status_code == 401
    assert (await gateway.rival.head(path)).status_code == 404
    assert (await gateway.stranger.head("/healthz")).status_code == 200
    run = await a_run(gateway.api, workflowId=path.rsplit("/", 1)[1])
    events = f"/api/v2/workflow-runs/{run}/events"
    assert (await gateway.api.head(events, headers={"Accept": "text/event-stream"})).status_code == 200


async def test_options_names_the_methods_and_opens_nothing_to_other_origins(gateway: RunningGateway) -> None:
    answer = await gateway.stranger.options("/api/v2/workflows", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 204
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    wrong = await gateway.api.delete("/api/v2/workflows")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_refused_post_leaves_no_idempotency_record_behind(limited: RunningGateway) -> None:
    await statuses(limited.api, 10)
    key = {"Idempotency-Key": "after-the-limit"}
    refused = await limited.api.post("/api/v2/workflows", json=workflow_body(), headers=key)
    assert refused.status_code == 429
    limited.clock.ahead_ms += 10_000
    assert (await limited.api.post("/api/v2/workflows", json=workflow_body(), headers=key)).status_code == 201
