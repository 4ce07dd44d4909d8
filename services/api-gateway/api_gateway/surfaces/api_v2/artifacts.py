"""`/artifacts`, and the bytes behind their signed URLs.

A signed URL is a bearer: no key, a quarter of an hour, one artifact. It is verified before anything is looked up. Bytes
leave with a type from a short list, as attachment unless the type is harmless and inline was signed, and in a sandbox.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

from litestar import Response, get
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response import Stream

from api_gateway import signed_url
from api_gateway.answers import ArtifactAnswer
from api_gateway.listing import Where
from api_gateway.signed_url import Grant
from api_gateway.surfaces.access import AnyRequest, by_address, gateway_of, hold_stream, needs_read, principal_of
from api_gateway.surfaces.api_v2.about import About, Param, uuid_query
from api_gateway.surfaces.api_v2.reading import (
    page_answer,
    tagged_answer,
    text_of,
    uuid_of,
    uuid_param,
    window_of,
    word_param,
)
from api_gateway.surfaces.api_v2.views import Artifact, Page, artifact_view
from kernel.domain.ids import ArtifactId
from kernel.errors import Rejected
from kernel.metrics import ARTIFACT_BYTES

PREFIX = "/api/v2"
INLINE_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf"})
NAMED_TYPES = INLINE_TYPES | {"application/json", "text/csv", "text/plain"}
_DISPOSITIONS = {word: word for word in ("attachment", "inline")}
_RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))")
_UNSAFE = re.compile(r"[^A-Za-z0-9._ ()\[\]-]")


def signed_view(request: AnyRequest) -> Callable[[ArtifactAnswer], Artifact]:
    """A view that mints a fresh URL for each artifact."""
    services, organization = gateway_of(request).services, principal_of(request).organization_id
    expires_ms = services.clock.now_ms() + signed_url.LIFETIME_MS
    disposition = word_param(request, "disposition", _DISPOSITIONS) or "attachment"

    def view(answer: ArtifactAnswer) -> Artifact:
        grant = Grant(organization, ArtifactId(answer.id), disposition, answer.display_name, expires_ms)
        path = signed_url.sign(grant, _path(answer.id), services.settings.signing_keys)
        return artifact_view(answer, services.settings.public_url.rstrip("/") + path, expires_ms)

    return view


def _path(artifact_id: str) -> str:
    return f"{PREFIX}/artifacts/{artifact_id}/content"


_DISPOSITION = Param(
    "disposition",
    "`inline` mints URLs that a browser shows, where the type allows it.",
    (("type", "string"), ("enum", list(_DISPOSITIONS))),
)


@get(
    "/artifacts",
    guards=[needs_read],
    opt=About(
        "List artifacts",
        Page[Artifact],
        paged=True,
        params=(
            uuid_query("workflowRunId", "Only those of this workflow run."),
            uuid_query("workflowId", "Only those of this workflow."),
            uuid_query("jobRunId", "Only those of this job run."),
            Param("type", "Only those of this type."),
            _DISPOSITION,
        ),
    ).opt(),
)
async def list_artifacts(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    where: Where = {
        "workflow_run_id": uuid_param(request, "workflowRunId"),
        "workflow_id": uuid_param(request, "workflowId"),
        "job_run_id": uuid_param(request, "jobRunId"),
        "type": text_of(request, "type"),
    }
    found = await gateway_of(request).queries.artifacts(principal_of(request).organization_id, where, window)
    return page_answer(found, window, signed_view(request))


@get(
    "/artifacts/{artifact_id:str}",
    guards=[needs_read],
    opt=About("Read an artifact; mints a signed URL", Artifact, params=(_DISPOSITION,), tagged=True).opt(),
)
async def get_artifact(request: AnyRequest, artifact_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(artifact_id, "artifactId")
    answer = await gateway_of(request).queries.artifact(principal_of(request).organization_id, id_)
    return tagged_answer(request, signed_view(request)(answer))


@get(
    "/artifacts/{artifact_id:str}/content",
    guards=[by_address],
    opt=About(
        "The bytes behind a signed URL",
        media="application/octet-stream",
        public=True,
        params=tuple(Param(name, "Part of the signed URL.") for name in ("org", "artifact", "exp", "kid", "sig")),
    ).opt(),
)
async def get_content(request: AnyRequest, artifact_id: FromPath[str]) -> Stream:
    gateway = gateway_of(request)
    services = gateway.services
    query = {name: str(value) for name, value in request.query_params.items()}
    grant = signed_url.verify(_path(artifact_id), query, services.clock.now_ms(), services.settings.signing_keys)
    hold_stream(request, grant.organization_id)
    artifact = await gateway.queries.artifact(grant.organization_id, grant.artifact_id)
    if await services.store.stat(artifact.sha256) is None:
        raise Rejected("not_found", "the bytes are gone: their owner was erased")
    first, length = _range(_wanted_range(request, artifact), artifact.size)
    headers = _headers(artifact, grant, length)
    status = 200
    if length < artifact.size:
        status = 206
        headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{artifact.size}"
    is_wanted = length and not request.scope["state"].get("is_head")
    chunks = services.store.get(artifact.sha256, offset=first, length=length) if is_wanted else _nothing()
    services.metrics.counter(ARTIFACT_BYTES).labels(artifact.type, "out").inc(length if is_wanted else 0)
    return Stream(chunks, status_code=status, headers=headers, media_type=_media_type(artifact))


def _wanted_range(request: AnyRequest, artifact: ArtifactAnswer) -> str | None:
    """The `Range` of a request; None when it is meant for other bytes (`If-Range`): all of these are sent then."""
    meant = request.headers.get("if-range")
    return request.headers.get("range") if meant in {None, _etag(artifact)} else None


def _etag(artifact: ArtifactAnswer) -> str:
    return f'"{artifact.sha256}"'


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First byte and length. An unreadable or several-part header is ignored, as RFC 9110 allows."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return 0, size
    if match["suffix"] is not None:
        length = min(int(match["suffix"]), size)
        first = size - length
    else:
        first = int(match["first"])
        last = min(int(match["last"]), size - 1) if match["last"] else size - 1
        length = last - first + 1
    if length <= 0 or first >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise HTTPException(detail=f"the artifact has {size} bytes", status_code=416, headers=headers)
    return first, length


def _media_type(artifact: ArtifactAnswer) -> str:
    return artifact.mime_type if artifact.mime_type in NAMED_TYPES else "application/octet-stream"


def _headers(artifact: ArtifactAnswer, grant: Grant, length: int) -> dict[str, str]:
    disposition = "inline" if grant.disposition == "inline" and artifact.mime_type in INLINE_TYPES else "attachment"
    plain = _UNSAFE.sub("_", grant.file_name) or "artifact"
    names = f"filename=\"{plain}\"; filename*=UTF-8''{quote(grant.file_name, safe='')}"
    return {
        "Content-Length": str(length),
        "Content-Disposition": f"{disposition}; {names}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-site",
        "Accept-Ranges": "bytes",
        "ETag": _etag(artifact),
    }


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


HANDLERS = (list_artifacts, get_artifact, get_content)
