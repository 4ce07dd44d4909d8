"""`/api-keys`: who may call, and as what. For keys of level admin only."""

from __future__ import annotations

from litestar import Response, delete, get, post
from litestar.params import FromPath

from api_gateway.key_store import NewKey
from api_gateway.listing import Listing
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_admin, principal_of
from api_gateway.surfaces.api_v2.about import About
from api_gateway.surfaces.api_v2.key_views import (
    ApiKey,
    CreateApiKey,
    CreatedApiKey,
    api_key_view,
    created_key_view,
)
from api_gateway.surfaces.api_v2.reading import (
    Answer,
    answer_once,
    body_of,
    encode,
    page_answer,
    tagged_answer,
    uuid_of,
    window_of,
)
from api_gateway.surfaces.api_v2.views import Page
from api_gateway.surfaces.plain import JSON
from kernel.domain.ids import RequestId
from kernel.errors import Detail, Rejected


@post(
    "/api-keys",
    guards=[needs_admin],
    opt=About("Make an API key; it is shown in this answer only", CreatedApiKey, 201, CreateApiKey).opt(),
)
async def create_api_key(request: AnyRequest) -> Response[bytes]:
    body = await body_of(request, CreateApiKey)
    gateway, by = gateway_of(request), principal_of(request)
    if not by.level.covers(body.level):
        raise Rejected("forbidden", f"a key of level {by.level} makes none of level {body.level}")
    new = NewKey(
        level=body.level,
        description=body.description,
        created_by=by.user_id,
        expires_ms=_expiry(body, gateway.services.clock.now_ms()),
        brand=body.prefix,
    )
    shown = b""

    async def act(_request_id: RequestId | None) -> Answer:
        nonlocal shown
        created = await gateway.api_keys.create(by.organization_id, new)
        shown = encode(created_key_view(created, shown=True))
        return 201, encode(created_key_view(created, shown=False))

    # What is kept for repetitions has no secret in it; whoever asked first gets it here.
    answer = await answer_once(request, act)
    return Response(shown, status_code=201, media_type=JSON) if shown else answer


def _expiry(body: CreateApiKey, now_ms: int) -> int:
    if body.expires_at is None:
        return 0
    expires_ms = int(body.expires_at.timestamp() * 1000)
    if expires_ms <= now_ms:
        spot = Detail("/expiresAt", "validation_failed", "must lie in the future")
        raise Rejected("validation_failed", "the key would be over before it began", (spot,))
    return expires_ms


@get("/api-keys", guards=[needs_admin], opt=About("List API keys", Page[ApiKey], paged=True).opt())
async def list_api_keys(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    organization = principal_of(request).organization_id
    keys, total = await gateway_of(request).api_keys.list(organization, window.limit, window.offset)
    return page_answer(Listing(keys, total), window, api_key_view)


@get("/api-keys/{api_key_id:str}", guards=[needs_admin], opt=About("Read an API key", ApiKey, tagged=True).opt())
async def get_api_key(request: AnyRequest, api_key_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(api_key_id, "apiKeyId")
    answer = await gateway_of(request).api_keys.get(principal_of(request).organization_id, id_)
    return tagged_answer(request, api_key_view(answer))


@delete(
    "/api-keys/{api_key_id:str}",
    guards=[needs_admin],
    opt=About("Revoke an API key for good; it stays listed", None, 204).opt(),
)
async def revoke_api_key(request: AnyRequest, api_key_id: FromPath[str]) -> Response[None]:
    id_ = uuid_of(api_key_id, "apiKeyId")
    gateway = gateway_of(request)
    revoked = await gateway.api_keys.revoke(principal_of(request).organization_id, id_)
    gateway.authenticator.forget(revoked.public_id)
    return Response(None, status_code=204)


HANDLERS = (create_api_key, list_api_keys, get_api_key, revoke_api_key)
