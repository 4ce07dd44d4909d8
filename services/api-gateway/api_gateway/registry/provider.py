"""What becomes of a request about a provider: the last registration stands."""

from __future__ import annotations

from kernel.domain.provider import ProviderRegistered, ProviderRegisterRequested


def register(request: ProviderRegisterRequested) -> ProviderRegistered:
    """The provider as it stands from now on."""
    return ProviderRegistered(
        organization_id=request.organization_id,
        slug=request.slug,
        display_name=request.display_name or request.slug,
        login_url=request.login_url,
        allowed_domains=request.allowed_domains,
        registered_by=request.requested_by,
        request_id=request.request_id,
    )
