"""A provider: the web application that workflows are written for.

registered -> registered again (all fields as they stand now) -> deleted -> registered again
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from kernel.building import replace
from kernel.domain.ids import JobId, OrganizationId, ProviderSlug, RequestId, UserId


class RegisterMode(StrEnum):
    """What a registration expects."""

    PUT = "put"
    """New or known."""
    CREATE = "create"
    """Not known yet."""
    CHANGE = "change"
    """Known."""


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
    logo_url: str = ""
    default_job_id: JobId = JobId("")
    """The job for calls that name only a provider. Empty: none."""
    concurrency: int = 0
    """How many of its workflow runs may work at once; 0: any number."""
    mode: RegisterMode = RegisterMode.PUT
    expected_sequence: int = 0
    """The last fact about it must have this sequence; 0: any."""
    given: tuple[str, ...] = ()
    """In mode CHANGE: names of the fields that are given; the others stay."""


@dataclass(frozen=True, slots=True)
class ProviderDeleteRequested:
    """Internal."""

    request_id: RequestId
    organization_id: OrganizationId
    slug: ProviderSlug
    requested_by: UserId
    valid_until_ms: int
    expected_sequence: int = 0
    """The last fact about it must have this sequence; 0: any."""


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
    logo_url: str = ""
    default_job_id: JobId = JobId("")
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class ProviderDeleted:
    """It is registered no more; workflows may go on to use its slug, with the domains of their own steps."""

    organization_id: OrganizationId
    slug: ProviderSlug
    deleted_by: UserId
    request_id: RequestId


ProviderEvent = ProviderRegistered | ProviderDeleted

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the registry keeps it."""

    slug: ProviderSlug = ProviderSlug("")
    display_name: str = ""
    login_url: str = ""
    allowed_domains: tuple[str, ...] = ()
    sequence: int = 0
    logo_url: str = ""
    default_job_id: JobId = JobId("")
    concurrency: int = 0
    deleted: bool = False


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
                logo_url=event.logo_url,
                default_job_id=event.default_job_id,
                concurrency=event.concurrency,
                deleted=False,
            )
        case ProviderDeleted():
            return replace(provider, deleted=True)
        case _:
            assert_never(event)
