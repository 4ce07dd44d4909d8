"""What lies below `/events`: AsyncAPI, descriptor set, JSON Schemas, proto files. Public, and the same for everybody.

`python -m tools.events` writes them beside this module; they are read once, when the application is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec
from litestar import Response, Router, get
from litestar.params import FromPath

from api_gateway.surfaces.access import PUBLIC, AnyRequest, by_address
from kernel.errors import Rejected

PREFIX = "/events"
_MEDIA = {
    ".yaml": "application/yaml",
    ".pb": "application/octet-stream",
    ".proto": "text/plain",
    ".json": "application/json",
}
_SCHEMA, _ASYNCAPI = "application/schema+json", "application/vnd.aai.asyncapi"


@dataclass(frozen=True, slots=True)
class _Document:
    content: bytes
    media_type: str
    etag: str


def router() -> Router:
    """The index and every document."""
    documents = dict(_documents())
    index = _document("index.json", _index(documents))

    @get("/", guards=[by_address], opt=PUBLIC)
    async def get_events_index(request: AnyRequest) -> Response[bytes]:
        return _answer(request, index)

    @get("/{path:path}", guards=[by_address], opt=PUBLIC)
    async def get_events_document(request: AnyRequest, path: FromPath[str]) -> Response[bytes]:
        document = documents.get(path.lstrip("/"))
        if document is None:
            raise Rejected("not_found", "no such document; GET /events lists them")
        return _answer(request, document)

    return Router(PREFIX, route_handlers=[get_events_index, get_events_document])


def _documents() -> Iterator[tuple[str, _Document]]:
    for path, content in _files(files("api_gateway.surfaces.events") / "documents", ""):
        yield path, _document(path, content)


def _files(folder: Traversable, below: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _files(entry, f"{below}{entry.name}/")
        else:
            yield f"{below}{entry.name}", entry.read_bytes()


def _document(path: str, content: bytes) -> _Document:
    ending = path[path.rindex(".") :]
    media_type = _SCHEMA if path.startswith("schemas/") else _MEDIA[ending]
    if path.startswith("asyncapi."):
        media_type = f"{_ASYNCAPI}+{ending[1:]};version=3.1.0"
    return _Document(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _index(documents: dict[str, _Document]) -> bytes:
    """Where everything is, and which types there are."""
    shown = {
        "asyncapi": [f"{PREFIX}/asyncapi.yaml", f"{PREFIX}/asyncapi.json"],
        "descriptors": f"{PREFIX}/descriptors.pb",
        "schemas": {
            path.removeprefix("schemas/").removesuffix(".json"): f"{PREFIX}/{path}"
            for path in documents
            if path.startswith("schemas/")
        },
        "protos": [f"{PREFIX}/{path}" for path in documents if path.startswith("protos/")],
    }
    return msgspec.json.format(msgspec.json.encode(shown), indent=2)


def _answer(request: AnyRequest, document: _Document) -> Response[bytes]:
    headers = {"ETag": document.etag, "Cache-Control": "public, no-cache"}
    named = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if document.etag in named or "*" in named:
        return Response(b"", status_code=304, headers=headers, media_type=document.media_type)
    return Response(document.content, headers=headers, media_type=document.media_type)
