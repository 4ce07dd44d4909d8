"""What becomes of a request about a provider: the last registration stands, until it is deleted.

A default job exists, belongs to the organization and is for this provider. How fields are spelled is checked before.
"""

from __future__ import annotations

from collections.abc import Callable

from api_gateway.registry.refusal import Refusal, version_refusal
from kernel.domain.ids import JobId
from kernel.domain.job import Job
from kernel.domain.provider import (
    Provider,
    ProviderDeleted,
    ProviderDeleteRequested,
    ProviderRegistered,
    ProviderRegisterRequested,
    RegisterMode,
)

Find = Callable[[JobId], Job | None]
"""Finds a job of this partition, of any organization."""


def register(known: Provider | None, request: ProviderRegisterRequested, find: Find) -> ProviderRegistered | Refusal:
    """The provider as it stands from now on; a change keeps what it does not give."""
    is_known = known is not None and not known.deleted
    if request.mode is RegisterMode.CREATE and is_known:
        return Refusal("provider_exists", f"the provider {request.slug} is registered")
    if request.mode is RegisterMode.CHANGE and not is_known:
        return Refusal("not_found", "no such provider")
    refusal = version_refusal(request.expected_sequence, known.sequence if known else 0) or _default_job_refusal(
        request, find
    )
    if refusal:
        return refusal
    if known is not None and request.mode is RegisterMode.CHANGE:
        return _changed(known, request)
    return _registered(request)


def delete(known: Provider | None, request: ProviderDeleteRequested) -> ProviderDeleted | Refusal:
    """It goes, whoever uses its slug: workflows fall back to the domains of their own steps."""
    if known is None or known.deleted:
        return Refusal("not_found", "no such provider")
    return version_refusal(request.expected_sequence, known.sequence) or ProviderDeleted(
        organization_id=request.organization_id,
        slug=request.slug,
        deleted_by=request.requested_by,
        request_id=request.request_id,
    )


def _registered(request: ProviderRegisterRequested) -> ProviderRegistered:
    return ProviderRegistered(
        organization_id=request.organization_id,
        slug=request.slug,
        display_name=request.display_name or request.slug,
        login_url=request.login_url,
        allowed_domains=request.allowed_domains,
        registered_by=request.requested_by,
        request_id=request.request_id,
        logo_url=request.logo_url,
        default_job_id=request.default_job_id,
        concurrency=request.concurrency,
    )


def _changed(known: Provider, request: ProviderRegisterRequested) -> ProviderRegistered:
    given = request.given
    return ProviderRegistered(
        organization_id=request.organization_id,
        slug=request.slug,
        display_name=request.display_name if "display_name" in given else known.display_name,
        login_url=request.login_url if "login_url" in given else known.login_url,
        allowed_domains=request.allowed_domains if "allowed_domains" in given else known.allowed_domains,
        registered_by=request.requested_by,
        request_id=request.request_id,
        logo_url=request.logo_url if "logo_url" in given else known.logo_url,
        default_job_id=request.default_job_id if "default_job_id" in given else known.default_job_id,
        concurrency=request.concurrency if "concurrency" in given else known.concurrency,
    )


def _default_job_refusal(request: ProviderRegisterRequested, find: Find) -> Refusal | None:
    """Asked of what the request gives, not of what stands: a job deleted since is in nobody's way."""
    if not request.default_job_id:
        return None
    job = find(request.default_job_id)
    if job is None or job.deleted or job.organization_id != request.organization_id:
        return Refusal("not_found", f"no job {request.default_job_id}", "/defaultJobId")
    if job.provider != request.slug:
        return Refusal("provider_mismatch", f"the job is for {job.provider}", "/defaultJobId")
    return None
