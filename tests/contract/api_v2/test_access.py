from __future__ import annotations

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from structlog.testing import capture_logs

from api_gateway import api_key, edge
from api_gateway.auth import KEEP_MS
from api_gateway.definition_queries import DefinitionQueries
from api_gateway.key_store import KeyStore, NewKey
from api_gateway.principal import Level
from api_gateway.surfaces.access import LEVELS, by_address
from api_gateway.surfaces.api_v2.errors import STATUS
from kernel.ids import SystemEntropy
from tests.support.gateways import ACME, PEPPER, RunningGateway, a_run, a_workflow, workflow_body


def handlers(app: Litestar) -> list[tuple[str, object]]:
    return [
        (f"{method} {route.path}", handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    ]


async def test_every_route_has_a_guard_or_is_marked_public(gateway: RunningGateway) -> None:
    public = set()
    for name, handler in handlers(gateway.app):
        guards = [guard for guard in (handler.guards or ()) if guard in LEVELS]  # type: ignore[attr-defined]  # a route handler
        is_public = bool(handler.opt.get("public"))  # type: ignore[attr-defined]  # a route handler
        assert bool(guards) != is_public, name
        if is_public:
            public.add(name)
            assert (by_address in (handler.guards or ())) == name.startswith(("GET /api/", "GET /events")), name  # type: ignore[attr-defined]  # a route handler
    assert public == {
        "GET /healthz", "GET /health/live", "GET /health/ready", "GET /health/startup", "GET /version",
        "GET /metrics",
        "GET /api/v2/docs", "GET /api/v2/docs/{name:str}", "GET /api/v2/openapi.json", "GET /api/v2/schemas/steps-json",
        "GET /api/v2/artifacts/{artifact_id:str}/content",
        "GET /events", "GET /events/{path:path}",
    }  # fmt: skip


async def test_every_guarded_route_refuses_a_stranger(gateway: RunningGateway) -> None:
    for name, handler in handlers(gateway.app):
        if handler.opt.get("public"):  # type: ignore[attr-defined]  # a route handler
            continue
        method, path = name.split(" ")
        address = "/".join("00000000-0000-4000-8000-000000000001" if "{" in part else part for part in path.split("/"))
        answer = await gateway.stranger.request(method, address)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated"), name
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_read_key_reads_and_does_not_write(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    assert (await gateway.reader.get(f"/api/v2/workflows/{workflow}")).status_code == 200
    before = await gateway.counts()
    for method, path in (("POST", "workflows"), ("PATCH", f"workflows/{workflow}"), ("POST", "workflow-runs")):
        answer = await gateway.reader.request(method, f"/api/v2/{path}", json=workflow_body())
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), path
    assert await gateway.counts() == before


async def test_a_key_is_known_by_every_character(gateway: RunningGateway) -> None:
    key = gateway.write_key
    wrong = [key[:-1] + ("0" if key[-1] != "0" else "1"), key.replace("towpath", "anon"), "x", "", key + " x"]
    other = api_key.make_key(SystemEntropy()).text
    for text in (*wrong, other):
        answer = await gateway.stranger.get("/api/v2/jobs", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 401, text
    answer = await gateway.stranger.get("/api/v2/jobs", headers={"Authorization": f"bearer {key}"})
    assert answer.status_code == 200
    assert (await gateway.stranger.get("/api/v2/jobs", headers={"Authorization": f"Basic {key}"})).status_code == 401


async def test_a_revoked_or_expired_key_opens_nothing(gateway: RunningGateway) -> None:
    services = gateway.services
    soon = gateway.clock.now_ms() + 60_000
    store = KeyStore(services.db, PEPPER, gateway.clock, services.entropy)
    key = await store.create(ACME, NewKey(Level.READ, expires_ms=soon))
    headers = {"Authorization": f"Bearer {key.text}"}
    assert (await gateway.stranger.get("/api/v2/jobs", headers=headers)).status_code == 200
    gateway.clock.ahead_ms = 61_000
    assert (await gateway.stranger.get("/api/v2/jobs", headers=headers)).status_code == 401
    gateway.clock.ahead_ms = 0
    await services.db.execute("UPDATE api_keys SET revoked_ms = 1 WHERE id = ?", (key.answer.id,))
    authenticator = gateway.app.state.gateway.authenticator
    authenticator._kept.clear()  # what `KEEP_MS` would do by itself
    assert KEEP_MS <= 5_000
    assert (await gateway.stranger.get("/api/v2/jobs", headers=headers)).status_code == 401


async def test_health_needs_no_key_and_takes_any(gateway: RunningGateway) -> None:
    for client in (gateway.api, gateway.stranger):
        for path in ("/healthz", "/health/live", "/health/ready", "/health/startup"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"}), path


async def test_metrics_name_routes_and_never_ids(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    await gateway.api.get(f"/api/v2/workflows/{workflow}")
    await gateway.api.get(f"/secret/{workflow}")
    text = (await gateway.stranger.get("/metrics")).text
    assert 'route="/api/v2/workflows/{workflow_id}"' in text or 'route="/api/v2/workflows/{workflow_id:str}"' in text
    assert 'route="unmatched"' in text
    assert workflow not in text
    assert ACME not in text


def test_every_documented_code_has_a_status() -> None:
    assert all(400 <= status <= 599 for status in STATUS.values())


async def test_an_unforeseen_error_says_nothing_of_itself(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(DefinitionQueries, "jobs", broken)
    answer = await gateway.api.get("/api/v2/jobs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


async def test_the_access_log_names_the_route_and_no_query(gateway: RunningGateway) -> None:
    with capture_logs() as lines:
        await gateway.api.get("/api/v2/workflow-runs?externalId=ann-the-planted-customer")
        await gateway.stranger.get("/nowhere/ann-the-planted-customer")
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["route"] for line in requests] == ["/api/v2/workflow-runs", "unmatched"]
    assert [line["organization_id"] for line in requests] == [ACME, None]
    assert "ann-the-planted-customer" not in repr(lines)
    assert gateway.write_key not in repr(lines)


async def test_a_slow_read_is_told_in_the_access_log_and_one_that_waited_is_not(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await a_run(gateway.api)
    monkeypatch.setattr(edge, "SLOW_MS", 0.0)
    with capture_logs() as lines:
        await gateway.api.get(f"/api/v2/workflow-runs/{run}")
        await gateway.api.get(f"/api/v2/workflow-runs/{run}/events?wait=1")
    levels = {line["route"].rpartition("/")[2]: line["log_level"] for line in lines if line["event"] == "request"}
    assert levels == {"{workflow_run_id}": "info", "events": "debug"}


async def test_answers_are_kept_by_no_cache(gateway: RunningGateway) -> None:
    for path in ("/api/v2/jobs", "/api/v2/nowhere", "/healthz"):
        assert (await gateway.api.get(path)).headers["cache-control"] == "no-store", path
