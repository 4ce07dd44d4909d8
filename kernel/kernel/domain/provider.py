"""A provider: the web application that workflows are written for.

registered -> registered again (all fields as they stand now)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from kernel.domain.ids import OrganizationId, ProviderSlug, RequestId, UserId

# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class ProviderRegisterRequested:
    """Internal."""

    request_id: RequestId
    organization_id: OrganizationId
    slug: ProviderSlug
    display_name: str
    login_url: str
    allowed_domains: tuple[str, ...]
    requested_by: UserId
    valid_until_ms: int


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class ProviderRegistered:
    """The provider as it stands now; the key of the record is organization and slug."""

    organization_id: OrganizationId
    slug: ProviderSlug
    display_name: str
    login_url: str
    allowed_domains: tuple[str, ...]
    registered_by: UserId
    request_id: RequestId


ProviderEvent = ProviderRegistered

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the registry keeps it."""

    slug: ProviderSlug = ProviderSlug("")
    display_name: str = ""
    login_url: str = ""
    allowed_domains: tuple[str, ...] = ()
    sequence: int = 0


def evolve(provider: Provider, event: ProviderEvent) -> Provider:
    """Fold one fact."""
    match event:
        case ProviderRegistered():
            return replace(
                provider,
                slug=event.slug,
                display_name=event.display_name,
                login_url=event.login_url,
                allowed_domains=event.allowed_domains,
            )
        case _:
            assert_never(event)
