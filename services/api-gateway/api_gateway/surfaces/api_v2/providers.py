"""`/providers`: the web applications that workflows are written for."""

from __future__ import annotations

from typing import TypeVar

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from api_gateway.definition_commands import ProviderFields
from api_gateway.gateway import Gateway
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_admin, needs_read, principal_of
from api_gateway.surfaces.api_v2.about import About
from api_gateway.surfaces.api_v2.definition_views import ChangeProvider, CreateProvider, Provider, provider_view
from api_gateway.surfaces.api_v2.reading import (
    Answer,
    answer_once,
    body_of,
    encode,
    json_answer,
    named_version,
    no_answer,
    page_answer,
    slug_of,
    tagged_answer,
    window_of,
)
from api_gateway.surfaces.api_v2.views import Page
from kernel.domain.ids import OrganizationId, ProviderSlug, RequestId

T = TypeVar("T")


@post("/providers", guards=[needs_admin], opt=About("Register a provider", Provider, 201, CreateProvider).opt())
async def create_provider(request: AnyRequest) -> Response[bytes]:
    body = await body_of(request, CreateProvider)
    gateway, by = gateway_of(request), principal_of(request)

    async def act(request_id: RequestId | None) -> Answer:
        await gateway.definition_commands.create_provider(by, body.slug, _fields(body), request_id)
        return 201, encode(await _provider(gateway, by.organization_id, body.slug))

    return await answer_once(request, act)


@get("/providers", guards=[needs_read], opt=About("List providers", Page[Provider], paged=True).opt())
async def list_providers(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    organization = principal_of(request).organization_id
    gateway = gateway_of(request)
    found = await gateway.definition_queries.providers(organization, window)
    healths = await gateway.healths.of(organization, [ProviderSlug(answer.slug) for answer in found.items])
    return page_answer(found, window, lambda answer: provider_view(answer, healths[ProviderSlug(answer.slug)]))


@get("/providers/{slug:str}", guards=[needs_read], opt=About("Read a provider", Provider, tagged=True).opt())
async def get_provider(request: AnyRequest, slug: FromPath[str]) -> Response[bytes]:
    organization = principal_of(request).organization_id
    shown = await _provider(gateway_of(request), organization, slug_of(slug))
    return tagged_answer(request, shown, _definition(shown))


@patch(
    "/providers/{slug:str}",
    guards=[needs_admin],
    opt=About(
        "Change a provider; what is left out stays, null clears", Provider, body=ChangeProvider, tagged=True
    ).opt(),
)
async def patch_provider(request: AnyRequest, slug: FromPath[str]) -> Response[bytes]:
    body = await body_of(request, ChangeProvider)
    gateway, by = gateway_of(request), principal_of(request)
    current = await gateway.definition_queries.provider(by.organization_id, slug_of(slug))
    expected = named_version(request, provider_view(current, None), current.version)
    await gateway.definition_commands.change_provider(by, slug, _fields(body), expected)
    return json_answer(await _provider(gateway, by.organization_id, slug))


@delete("/providers/{slug:str}", guards=[needs_admin], opt=About("Delete a provider", None, 204, tagged=True).opt())
async def delete_provider(request: AnyRequest, slug: FromPath[str]) -> Response[None]:
    gateway, by = gateway_of(request), principal_of(request)
    current = await gateway.definition_queries.provider(by.organization_id, slug_of(slug))
    expected = named_version(request, provider_view(current, None), current.version)
    await gateway.definition_commands.delete_provider(by, slug, expected)
    return no_answer()


async def _provider(gateway: Gateway, organization: OrganizationId, slug: str) -> Provider:
    answer = await gateway.definition_queries.provider(organization, slug)
    return provider_view(answer, await gateway.healths.one(organization, ProviderSlug(slug)))


def _definition(shown: Provider) -> Provider:
    return replace(shown, health=None)


def _fields(body: ChangeProvider) -> ProviderFields:
    domains = _given(body.allowed_domains, [])
    job_id = _given(body.default_job_id, "")
    return ProviderFields(
        display_name=_given(body.display_name, ""),
        logo_url=_given(body.logo_url, ""),
        login_url=_given(body.login_url, ""),
        allowed_domains=None if domains is None else tuple(domains),
        default_job_id=None if job_id is None else job_id.lower(),
        concurrency=_given(body.concurrency, 0),
    )


def _given(value: T | UnsetType | None, cleared: T) -> T | None:
    """None for what was left out, `cleared` for null."""
    if value is UNSET:
        return None
    return cleared if value is None else value


HANDLERS = (create_provider, list_providers, get_provider, patch_provider, delete_provider)
