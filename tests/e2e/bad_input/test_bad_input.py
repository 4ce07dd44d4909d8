"""Bad input of every kind against the product as it is shipped: named answers, no effect, no way to private networks.

What a gateway proves within one process is in `tests/contract/api_v2`. Here is the rest: a real socket and server, all
operations of the contract, and runs whose addresses are known only while they run.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_gateway.key_store import KeyStore, NewKey
from api_gateway.principal import Level
from api_gateway.signed_url import LIFETIME_MS, SKEW_MS, Grant, SigningKeys, sign
from embedded.platform import gateway_settings, open_ground
from embedded.settings import Settings
from kernel.clock import SystemClock
from kernel.domain.ids import ArtifactId, OrganizationId
from kernel.redaction import LiveSecrets
from tests.support.chromium import chromium_path, needs_chromium
from tests.support.gateways import steps, workflow_body
from tests.support.listener import Listener
from tests.support.platform_process import PlatformProcess, Trace

pytestmark = [needs_chromium, pytest.mark.timeout(300)]

Json = dict[str, Any]
RIVAL = OrganizationId("00000000-0000-4000-8000-0000000000b2")
JSON = {"Content-Type": "application/json"}
MEGABYTE = 1024 * 1024
DEEP = b"[" * 100_000
ASKED_AND_SAID = ("registry_requests", "run_requests", "definitions", "links", "job_runs", "webhooks")
GROWS_BY_ITSELF = ("log_", "projection_positions", "projected_streams", "vault_audit")


@dataclass
class Product:
    """The running product, and what a test needs of it."""

    platform: PlatformProcess
    api: httpx.Client
    rival: httpx.Client
    """Holds an administrator's key of another organization."""
    own: dict[str, str]
    """One id of each kind, by the name of the parameter that takes it."""
    signed_url: str

    def state(self) -> Json:
        """Rows of every table and records of every topic that a request may add to."""
        path = self.platform.data / "towpath.sqlite"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as file:
            names = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            kept = [name for name in names if not name.startswith(GROWS_BY_ITSELF)]
            rows: Json = {name: file.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in kept}
        return rows | {topic: len(Trace(self.platform.data, topic).read()) for topic in ASKED_AND_SAID}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product on public networks only, with one thing of each kind in it."""
    folder = tmp_path_factory.mktemp("product")
    (folder / "data").mkdir()
    rival_key = asyncio.run(_key_of_the_rival(folder / "data"))
    with PlatformProcess(folder, browser=chromium_path(), TOWPATH_DEMO="0", TOWPATH_EGRESS_ALLOW="") as platform:
        platform.start()
        platform.await_ready()
        key = (platform.data / "api-key").read_text().strip()
        base = f"{platform.url}/api/v2"
        with (
            httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=30) as api,
            httpx.Client(base_url=base, headers={"Authorization": f"Bearer {rival_key}"}, timeout=30) as rival,
        ):
            yield _with_one_of_each(platform, api, rival)


async def _key_of_the_rival(data: Path) -> str:
    async with AsyncExitStack() as stack:
        ground = await open_ground(Settings(data), stack, LiveSecrets())
        pepper = gateway_settings(ground.settings, ground.entropy).pepper
        keys = KeyStore(ground.db, pepper, ground.clock, ground.entropy)
        return (await keys.create(RIVAL, NewKey(Level.ADMIN))).text


def _with_one_of_each(platform: PlatformProcess, api: httpx.Client, rival: httpx.Client) -> Product:
    ask = {"id": "ask", "type": "ask_user", "params": {"fields": [{"name": "x"}], "holdSeconds": 0}}
    picture = {"id": "picture", "type": "screenshot", "params": {}}
    body = workflow_body(stepsJson=steps(picture, ask))
    workflow = made(api, "/workflows", body)["id"]
    order = {"workflowExecutionOrder": [workflow]}
    job = made(api, "/jobs", {"name": "j", "sourceProvider": "gusto", "jobConfigJson": order})["id"]
    run = made(api, "/job-runs", {"jobId": job, "externalId": "somebody"})
    until(lambda: api.get("/input-requests?status=OPEN").json()["data"])
    (question,) = api.get("/input-requests").json()["data"]
    (artifact,) = until(lambda: api.get("/artifacts").json()["data"])
    own = {
        "workflowId": workflow,
        "jobId": job,
        "jobRunId": run["id"],
        "workflowRunId": question["workflowRunId"],
        "inputRequestId": question["id"],
        "artifactId": artifact["id"],
        "revision": "1",
        "slug": made(api, "/providers", {"slug": "known"})["slug"],
        "apiKeyId": made(api, "/api-keys", {"level": "read"})["id"],
    }
    until(lambda: api.get(f"/workflow-runs/{own['workflowRunId']}").json()["status"] == "AWAITING_USER_INPUT")
    product = Product(platform, api, rival, own, api.get(f"/artifacts/{artifact['id']}").json()["signedUrl"])
    until(lambda: product.state()["provider_outcomes"])  # the figures of its step come a moment later
    return product


def made(api: httpx.Client, path: str, body: Json) -> Json:
    """POST that must succeed with 201."""
    answer = api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


def until(look: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `look` gives once that is true."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return found


def refused(answer: httpx.Response, status: int, code: str, pointer: str = "") -> None:
    """The documented error body, with its place when there is one."""
    assert answer.status_code == status, answer.text[:500]
    error = answer.json()["error"]
    assert error.keys() == {"code", "message", "details", "request_id"}
    assert (error["code"], error["request_id"]) == (code, answer.headers["x-request-id"])
    assert all(detail.keys() == {"path", "code", "message"} for detail in error["details"])
    if pointer:
        assert pointer in [detail["path"] for detail in error["details"]], error


# ---------------------------------------------------------------- bodies and heads


def chunks() -> Iterator[bytes]:
    for _ in range(10):
        yield b" " * MEGABYTE


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "pointer"),
    [
        (b"", "application/json", 400, "malformed_json", ""),
        (b'{"name": "x', "application/json", 400, "malformed_json", ""),
        (b'\xef\xbb\xbf{"name": "x"}', "application/json", 400, "malformed_json", ""),
        (b'{"name": NaN}', "application/json", 400, "malformed_json", ""),
        (DEEP, "application/json", 400, "malformed_json", ""),
        (DEEP + b"]" * 100_000, "application/json", 400, "malformed_json", ""),
        (b'{"stepsJson":' * 50_000, "application/json", 400, "malformed_json", ""),
        (b'"\\ud800"', "application/json", 400, "malformed_json", ""),
        (b"7", "application/json", 422, "validation_failed", ""),
        (b'{"name": {"a": []}}', "application/json", 422, "validation_failed", "/name"),
        (b" " * 10 * MEGABYTE, "application/json", 413, "body_too_large", ""),
        (chunks, "application/json", 413, "body_too_large", ""),
        (b"{}", "text/plain", 415, "unsupported_media_type", ""),
        (b"{}", "multipart/form-data; boundary=x", 415, "unsupported_media_type", ""),
        (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type", ""),
    ],
)  # fmt: skip
def test_a_bad_body_is_named_and_changes_nothing(  # noqa: PLR0917 (a row of the table)
    product: Product, body: Any, content_type: str, status: int, code: str, pointer: str
) -> None:
    before = product.state()
    for path in ("/workflows", "/job-runs"):
        content = body() if callable(body) else body
        answer = product.api.post(path, content=content, headers={"Content-Type": content_type})
        refused(answer, status, code, pointer if path == "/workflows" else "")
    assert product.state() == before


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/nowhere", 404, "not_found"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
        ("GET", "/jobs/..%2f..%2fetc%2fpasswd", 404, "not_found"),
        ("GET", "/jobs/%00", 400, "invalid_parameter"),
        ("GET", "/jobs/%ff%fe", 400, "invalid_parameter"),
        ("GET", "/jobs/" + "a" * 20_000, 400, "invalid_parameter"),
        ("GET", "/job-runs/1", 400, "invalid_parameter"),
        ("GET", "/job-runs?page=99999999999999999999", 400, "invalid_parameter"),
        ("GET", "/job-runs?status=%F0%9F%92%A9", 400, "invalid_parameter"),
        ("DELETE", "/job-runs", 405, "method_not_allowed"),
        ("PATCH", "/artifacts", 405, "method_not_allowed"),
        ("BREW", "/jobs", 405, "method_not_allowed"),
        ("TRACE", "/jobs", 405, "method_not_allowed"),
    ],
)
def test_a_bad_address_is_named_and_changes_nothing(
    product: Product, method: str, path: str, status: int, code: str
) -> None:
    before = product.state()
    refused(product.api.request(method, path), status, code)
    assert product.state() == before


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * MEGABYTE,
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"POST /api/v2/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
        b"POST /api/v2/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v2/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"POST /api/v2/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{",
        b"GET /api/v2/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_hardly_http_ends_with_a_4xx_or_nothing_and_the_next_one_is_served(
    product: Product, sent: bytes
) -> None:
    before = product.state()
    with closing(socket.create_connection(("127.0.0.1", product.platform.port), timeout=5)) as connection:
        connection.settimeout(10)
        answer = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
        except TimeoutError:
            raise
        except OSError:
            pass  # It was cut while we were still sending.
    assert answer == b"" or answer.split(b" ")[1].startswith(b"4"), answer
    assert product.api.get("/jobs").status_code == 200
    assert product.state() == before


# ---------------------------------------------------------------- other people's things


def test_every_operation_that_names_a_thing_answers_404_for_another_organization(product: Product) -> None:
    contract = product.api.get("/openapi.json").json()
    before, asked = product.state(), 0
    for path, operations in contract["paths"].items():
        for method in operations:
            names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
            if not names or path.endswith("/content"):
                continue
            address = path.removeprefix("/api/v2").format(**product.own)
            body = {"name": "stolen", "values": {"x": "stolen"}}
            answer = product.rival.request(method.upper(), address, json=None if method == "get" else body)
            refused(answer, 404, "not_found")
            asked += 1
    assert asked >= 16
    for path in ("/workflows", "/jobs", "/job-runs", "/workflow-runs", "/artifacts", "/input-requests"):
        assert product.rival.get(path).json()["total"] == 0
        for name in ("workflowId", "jobId", "workflowRunId"):
            assert product.rival.get(path, params={name: product.own[name]}).json().get("total", 0) == 0
    assert product.rival.get("/job-runs?externalId=somebody").json()["total"] == 0
    assert product.state() | {"subjects": 0} == before | {"subjects": 0}


def test_a_key_that_is_not_one_opens_nothing(product: Product) -> None:
    good = product.api.headers["authorization"]
    for bad in ("", "Bearer", "Bearer x", good[:-1], good + "0", good.lower(), good.replace("Bearer", "Basic")):
        answer = httpx.get(f"{product.platform.url}/api/v2/jobs", headers={"Authorization": bad})
        refused(answer, 401, "unauthenticated")


def test_a_signed_url_is_good_for_one_artifact_as_it_is_and_for_its_time(product: Product) -> None:
    url = httpx.URL(product.platform.url).join(product.signed_url)
    assert httpx.get(url).status_code == 200
    for name, value in url.params.items():
        changed = "1" + value if name == "exp" else value[:-1] + ("A" if value[-1] != "A" else "B")
        refused(httpx.get(url.copy_set_param(name, changed)), 403, "signature_invalid")
        refused(httpx.get(url.copy_remove_param(name)), 403, "signature_invalid")
    elsewhere = url.copy_with(path=url.path.replace(product.own["artifactId"], product.own["jobId"]))
    refused(httpx.get(elsewhere), 403, "signature_invalid")
    refused(httpx.post(url), 405, "method_not_allowed")
    keys = SigningKeys("k1", {"k1": bytes.fromhex((product.platform.data / "signing-key").read_text())})
    now_ms = SystemClock().now_ms()
    organization = OrganizationId(url.params["org"])
    for owner, expires_ms, status, code in (
        (organization, now_ms - SKEW_MS - 2000, 410, "signed_url_expired"),
        (RIVAL, now_ms + LIFETIME_MS, 404, "not_found"),
    ):
        grant = Grant(owner, ArtifactId(product.own["artifactId"]), "attachment", "a.jpg", expires_ms)
        refused(httpx.get(url.join(sign(grant, url.path, keys))), status, code)


# ---------------------------------------------------------------- addresses

PRIVATE = (
    "file:///etc/passwd", "http://127.0.0.1/", "http://10.1.2.3/", "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/", "http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/", "http://[::ffff:127.0.0.1]/",
    "http://0/", "http://localhost/", "http://a.localhost/", "http://metadata.internal/", "http://192.168.0.1:8080/",
    "http://[fe80::1]/", "http://[fd00::1]/", "http://100.64.0.1/", "javascript:alert(1)", "data:text/html,x",
    "ftp://example.com/", "chrome://version", "about:blank", "http://user:pass@example.com/", "http://\uff11\uff12\uff17.0.0.1/",
)  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_a_literal_address_that_is_not_public_is_refused_when_it_is_saved(product: Product, url: str) -> None:
    before = product.state()
    element = {"locators": [{"css": "a"}]}
    spots: tuple[tuple[Json, str], ...] = (
        ({"id": "a", "type": "navigate", "params": {"url": url}}, "/stepsJson/steps/0/params/url"),
        ({"id": "a", "type": "download", "params": {"url": url}}, "/stepsJson/steps/0/params/url"),
        (
            {"id": "a", "type": "click", "params": {"target": element, "check": {"open": url, "text": "x"}}},
            "/stepsJson/steps/0/params/check/open",
        ),
    )
    for step, pointer in spots:
        refused(
            product.api.post("/workflows", json=workflow_body(stepsJson=steps(step))), 422, "url_not_allowed", pointer
        )
    document = steps() | {"startOrigins": ["https://example.com", url]}
    answer = product.api.post("/workflows", json=workflow_body(stepsJson=document))
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == "/stepsJson/startOrigins/1"
    assert product.state() == before


def test_a_run_reaches_no_private_address_and_no_file(product: Product) -> None:
    with Listener() as listener, Listener("::1") as other:
        port = listener.port
        urls = [
            f"http://127.0.0.1:{port}/", f"http://localhost:{port}/", f"http://0x7f.1:{port}/",
            f"http://2130706433:{port}/", f"http://[::ffff:127.0.0.1]:{port}/", f"http://[::1]:{other.port}/",
            "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "file:///etc/passwd",
            "view-source:file:///etc/passwd", "chrome://version", "data:text/html,<p>x</p>", "about:blank",
        ]  # fmt: skip
        runs = {url: _run(product.api, "navigate", url) for url in urls}
        runs |= {f"download {url}": _run(product.api, "download", url) for url in urls[:9]}
        ended = {url: _ended(product.api, run) for url, run in runs.items()}
        assert (listener.connections, other.connections) == (0, 0)
    ends = {url: (run["status"], run["errorCode"]) for url, run in ended.items()}
    assert {url: end for url, end in ends.items() if end != ("FAILED", "navigation_blocked")} == {}
    data = product.api.get("/artifacts?type=extracted_data").json()
    assert data["total"] == 0, data


def _run(api: httpx.Client, kind: str, url: str) -> str:
    """Start a run that opens `url`, which nobody could know when its workflow was saved, and reads the page."""
    key = f"/workflows?name={kind}"
    body = {"rows": {"css": "body"}, "fields": {"text": {}}}
    document = steps(
        {"id": "open", "type": kind, "params": {"url": "{{inputs.url}}"}, "retry": {"maxAttempts": 1}},
        {"id": "read", "type": "extract", "params": body},
        inputs={"url": {"type": "string"}},
    ) | {"startOrigins": ["https://example.com"]}
    known = api.get(key).json()["data"]
    workflow = known[0]["id"] if known else made(api, "/workflows", workflow_body(name=kind, stepsJson=document))["id"]
    run: str = made(api, "/workflow-runs", {"workflowId": workflow, "inputs": {"url": url}})["id"]
    return run


def _ended(api: httpx.Client, run: str) -> Json:
    def look() -> Any:
        found = api.get(f"/workflow-runs/{run}").json()
        return found if found["completedAt"] else None

    ended: Json = until(look)
    return ended
