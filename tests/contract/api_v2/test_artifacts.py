from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from kernel.domain.artifact import ArtifactCreated
from kernel.domain.ids import ArtifactId, JobRunId, WorkflowRunId
from kernel.sealing import Sealer
from kernel.store.port import GatewayOpener, PutHeader
from tests.support.gateways import ACME, Json, RunningGateway, a_run

ARTIFACT = ArtifactId("00000000-0000-4000-8000-0000000000e5")
CONTENT = b"date,amount\n2026-11-22,12.50\n"


async def an_artifact(gateway: RunningGateway, mime_type: str = "text/csv", name: str = 'pay "1".csv') -> Json:
    """A run produced a file; the artifact as it is read."""
    run = await a_run(gateway.api, externalId="c1")
    start = gateway.scheduler.started[run]
    services, opener = gateway.services, GatewayOpener(ACME)
    staged = await services.store.put_bytes(CONTENT, PutHeader(start.subject_id, opener))
    sealer = Sealer(services.keys, services.store, services.entropy, opener)
    fact = ArtifactCreated(
        ARTIFACT, WorkflowRunId(run), JobRunId(""), start.workflow.workflow_id, ACME, start.subject_id, "s",  # type: ignore[union-attr]  # a workflow run alone
        "download", await sealer.seal_text(start.subject_id, name), mime_type, staged.size, staged.sha256,
    )  # fmt: skip
    with services.waiters.stream(run) as projected:
        projected.clear()  # of what was kept since the run was asked for
        await gateway.scheduler.say(run, fact)
        await projected.wait()
    found: Json = (await gateway.api.get(f"/api/v2/artifacts/{ARTIFACT}")).json()
    return found


def local(url: str, **changes: str) -> str:
    """Path and query of a signed URL, with some members exchanged."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return f"{parts.path}?{urlencode({**query, **changes})}"


async def test_an_artifact_is_told_with_size_hash_and_a_fresh_url(gateway: RunningGateway) -> None:
    artifact = await an_artifact(gateway)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert (artifact["fileSize"], artifact["fileHash"], artifact["displayName"]) == (29, digest, 'pay "1".csv')
    assert artifact["storagePath"] == f"sha256/{digest[:2]}/{digest[2:4]}/{digest}"
    run = artifact["workflowRunId"]
    listed = (await gateway.api.get(f"/api/v2/workflow-runs/{run}/artifacts")).json()["data"]
    filtered = (await gateway.api.get("/api/v2/artifacts", params={"type": "download"})).json()["data"]
    assert [item["id"] for item in listed] == [item["id"] for item in filtered] == [ARTIFACT]


async def test_a_signed_url_gives_the_bytes_without_a_key(gateway: RunningGateway) -> None:
    artifact = await an_artifact(gateway)
    answer = await gateway.stranger.get(local(artifact["signedUrl"]))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    headers = answer.headers
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-disposition"].startswith('attachment; filename="pay _1_.csv"; filename*=UTF-8')
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["cache-control"] == "private, no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["accept-ranges"] == "bytes"
    assert headers["etag"] == f'"{artifact["fileHash"]}"'
    assert headers["content-length"] == "29"


@pytest.mark.parametrize(
    ("range_", "status", "expected", "content_range"),
    [
        ("bytes=0-3", 206, CONTENT[:4], "bytes 0-3/29"),
        ("bytes=5-", 206, CONTENT[5:], "bytes 5-28/29"),
        ("bytes=-4", 206, CONTENT[-4:], "bytes 25-28/29"),
        ("bytes=0-999", 200, CONTENT, None),
        ("bytes=0-1,3-4", 200, CONTENT, None),
        ("lines=1", 200, CONTENT, None),
        ("bytes=29-", 416, None, "bytes */29"),
        ("bytes=-0", 416, None, "bytes */29"),
        ("bytes=9-3", 416, None, "bytes */29"),
    ],
)
async def test_a_part_is_given_when_a_part_is_asked_for(
    gateway: RunningGateway, range_: str, status: int, expected: bytes | None, content_range: str | None
) -> None:
    artifact = await an_artifact(gateway)
    answer = await gateway.stranger.get(local(artifact["signedUrl"]), headers={"Range": range_})
    assert answer.status_code == status
    assert answer.headers.get("content-range") == content_range
    if expected is not None:
        assert answer.content == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"sig": "AAAA"},
        {"sig": ""},
        {"exp": "9999999999"},
        {"kid": "k1"},
        {"kid": "unknown"},
        {"org": "00000000-0000-4000-8000-0000000000b2"},
        {"artifact": "00000000-0000-4000-8000-00000000dead"},
        {"disposition": "inline"},
        {"name": "other.exe"},
    ],
)
async def test_a_changed_url_opens_nothing(gateway: RunningGateway, changes: dict[str, str]) -> None:
    artifact = await an_artifact(gateway)
    answer = await gateway.stranger.get(local(artifact["signedUrl"], **changes))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "signature_invalid")


async def test_a_url_for_another_path_opens_nothing(gateway: RunningGateway) -> None:
    artifact = await an_artifact(gateway)
    other = local(artifact["signedUrl"]).replace(ARTIFACT, "00000000-0000-4000-8000-00000000dead", 1)
    assert (await gateway.stranger.get(other)).status_code == 403


@pytest.mark.parametrize(("passed_ms", "status"), [(890_000, 200), (904_000, 200), (907_000, 410)])
async def test_a_url_lives_a_quarter_of_an_hour_and_a_little_for_clocks(
    gateway: RunningGateway, passed_ms: int, status: int
) -> None:
    gateway.clock.stand_still()
    artifact = await an_artifact(gateway)
    gateway.clock.ahead_ms = passed_ms
    answer = await gateway.stranger.get(local(artifact["signedUrl"]))
    assert answer.status_code == status
    if status == 410:
        assert answer.json()["error"]["code"] == "signed_url_expired"


@pytest.mark.parametrize(
    ("mime_type", "sent", "disposition"),
    [
        ("image/png", "image/png", "inline"),
        ("application/pdf", "application/pdf", "inline"),
        ("application/json", "application/json", "attachment"),
        ("image/svg+xml", "application/octet-stream", "attachment"),
        ("text/html", "application/octet-stream", "attachment"),
    ],
)
async def test_only_harmless_types_are_shown_by_a_browser(
    gateway: RunningGateway, mime_type: str, sent: str, disposition: str
) -> None:
    await an_artifact(gateway, mime_type)
    params = {"disposition": "inline"}
    artifact: Any = (await gateway.api.get(f"/api/v2/artifacts/{ARTIFACT}", params=params)).json()
    answer = await gateway.stranger.get(local(artifact["signedUrl"]))
    assert answer.headers["content-type"].split(";")[0] == sent
    assert answer.headers["content-disposition"].startswith(disposition)


async def test_after_an_erasure_the_url_finds_nothing(gateway: RunningGateway) -> None:
    artifact = await an_artifact(gateway)
    await gateway.services.vault.erase_subject(gateway.scheduler.started[artifact["workflowRunId"]].subject_id)
    gone = await gateway.stranger.get(local(artifact["signedUrl"]))
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
    gateway.services.keys.forget(gateway.scheduler.started[artifact["workflowRunId"]].subject_id)
    read = (await gateway.api.get(f"/api/v2/artifacts/{ARTIFACT}")).json()
    assert read["displayName"] == ""


async def test_another_organization_sees_no_artifact(gateway: RunningGateway) -> None:
    await an_artifact(gateway)
    assert (await gateway.rival.get(f"/api/v2/artifacts/{ARTIFACT}")).status_code == 404
