"""The shapes of definitions: workflows and their revisions, jobs, providers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_gateway.answers import JobAnswer, ProviderAnswer, RevisionAnswer, WorkflowAnswer
from api_gateway.provider_healths import HealthAnswer, HealthStatus
from api_gateway.surfaces.api_v2.views import (
    PRINTABLE_PATTERN,
    Body,
    JobConfig,
    Name,
    Resource,
    Slug,
    Uuid,
    stamp,
    stamp_or_none,
)
from kernel.domain.plan import WorkflowType
from kernel.domain.provider_health import HealthWindow as Window

DOMAINS_MAX = 100
CONCURRENCY_MAX = 10_000

Url = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^https?://[^\s\x00-\x1f\x7f]+$")]
Domain = Annotated[str, Meta(min_length=1, max_length=254, pattern=PRINTABLE_PATTERN)]
Domains = Annotated[list[Domain], Meta(max_length=DOMAINS_MAX)]
Concurrency = Annotated[int, Meta(ge=1, le=CONCURRENCY_MAX)]

# ---------------------------------------------------------------- bodies


class CreateWorkflow(Body, kw_only=True):
    name: Name
    source_provider: Slug
    type: WorkflowType
    steps_json: msgspec.Raw


class ChangeWorkflow(Body, kw_only=True):
    name: Name | UnsetType = UNSET
    steps_json: msgspec.Raw | UnsetType = UNSET


class CreateJob(Body, kw_only=True):
    name: Name
    source_provider: Slug
    job_config_json: JobConfig


class ChangeJob(Body, kw_only=True):
    name: Name | UnsetType = UNSET
    job_config_json: JobConfig | UnsetType = UNSET


class ChangeProvider(Body, kw_only=True):
    """What is left out stays; null clears a field."""

    display_name: Name | UnsetType = UNSET
    logo_url: Url | UnsetType | None = UNSET
    login_url: Url | UnsetType | None = UNSET
    allowed_domains: Domains | UnsetType = UNSET
    default_job_id: Uuid | UnsetType | None = UNSET
    concurrency: Concurrency | UnsetType | None = UNSET


class CreateProvider(ChangeProvider, kw_only=True):
    """Without a name for people, the slug is it."""

    slug: Slug


# ---------------------------------------------------------------- answers


class Workflow(Resource, kw_only=True):
    """`stepsJson` is null in lists."""

    id: str
    organization_id: str
    name: str
    source_provider: str
    type: WorkflowType
    steps_json: msgspec.Raw | None
    revision: int
    created_at: str
    updated_at: str
    created_by_user_id: str
    updated_by_user_id: str
    deleted_at: str | None


class WorkflowRevision(Resource, kw_only=True):
    """The steps as they once were; `stepsJson` is null in lists."""

    workflow_id: str
    revision: int
    steps_json: msgspec.Raw | None
    created_at: str
    created_by_user_id: str


class Job(Resource, kw_only=True):
    id: str
    organization_id: str
    name: str
    source_provider: str
    created_at: str
    updated_at: str
    created_by_user_id: str
    updated_by_user_id: str
    job_config_json: JobConfig
    schedule: None


class LoginCounts(Resource, kw_only=True):
    """Workflow runs of type LOGIN; `rejected` are wrong credentials."""

    succeeded: int
    rejected: int
    failed: int


class HealthWindow(Resource, kw_only=True):
    """Workflow runs of the last minutes that ended, without rehearsals. `failed` counts what the provider is to blame
    for; `other` were cancelled, met wrong input or nobody who answered, or failed for reasons of the platform.
    """

    minutes: int
    succeeded: int
    failed: int
    other: int
    success_rate: float | None
    logins: LoginCounts
    steps: int
    step_p95_ms: int | None


class ProviderHealth(Resource, kw_only=True):
    """How the runs of the organization fare at the provider now; `since` says when the status was decided last."""

    status: HealthStatus
    since: str | None
    windows: list[HealthWindow]


class Provider(Resource, kw_only=True):
    """A web application; without `concurrency` any number of its workflow runs may work at once."""

    slug: str
    display_name: str
    logo_url: str | None
    login_url: str | None
    allowed_domains: list[str]
    default_job_id: str | None
    concurrency: int | None
    created_at: str
    updated_at: str
    health: ProviderHealth | None


# ---------------------------------------------------------------- from answers


def workflow_view(answer: WorkflowAnswer) -> Workflow:
    return Workflow(
        id=answer.id,
        organization_id=answer.organization_id,
        name=answer.name,
        source_provider=answer.provider,
        type=WorkflowType(answer.type),
        steps_json=answer.steps,
        revision=answer.revision,
        created_at=stamp(answer.created_ms),
        updated_at=stamp(answer.updated_ms),
        created_by_user_id=answer.created_by,
        updated_by_user_id=answer.updated_by,
        deleted_at=stamp_or_none(answer.deleted_ms),
    )


def revision_view(answer: RevisionAnswer) -> WorkflowRevision:
    return WorkflowRevision(
        workflow_id=answer.workflow_id,
        revision=answer.revision,
        steps_json=answer.steps,
        created_at=stamp(answer.created_ms),
        created_by_user_id=answer.created_by,
    )


def job_view(answer: JobAnswer) -> Job:
    return Job(
        id=answer.id,
        organization_id=answer.organization_id,
        name=answer.name,
        source_provider=answer.provider,
        created_at=stamp(answer.created_ms),
        updated_at=stamp(answer.updated_ms),
        created_by_user_id=answer.created_by,
        updated_by_user_id=answer.updated_by,
        job_config_json=JobConfig(workflow_execution_order=answer.workflow_ids),
        schedule=None,
    )


def provider_view(answer: ProviderAnswer, health: HealthAnswer | None) -> Provider:
    """Without its health it is what people edit."""
    return Provider(
        slug=answer.slug,
        display_name=answer.display_name,
        logo_url=answer.logo_url or None,
        login_url=answer.login_url or None,
        allowed_domains=answer.allowed_domains,
        default_job_id=answer.default_job_id or None,
        concurrency=answer.concurrency or None,
        created_at=stamp(answer.created_ms),
        updated_at=stamp(answer.updated_ms),
        health=None if health is None else _health(health),
    )


def _health(health: HealthAnswer) -> ProviderHealth:
    return ProviderHealth(
        status=health.status,
        since=stamp_or_none(health.since_ms),
        windows=[_health_window(window) for window in health.windows],
    )


def _health_window(window: Window) -> HealthWindow:
    percent = window.success_percent
    return HealthWindow(
        minutes=window.minutes,
        succeeded=window.succeeded,
        failed=window.failed,
        other=window.other,
        success_rate=None if percent is None else percent / 100,
        logins=LoginCounts(
            succeeded=window.logins_succeeded, rejected=window.logins_rejected, failed=window.logins_failed
        ),
        steps=window.steps,
        step_p95_ms=window.step_p95_ms or None,
    )
