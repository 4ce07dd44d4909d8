"""Rows of definitions become typed answers: workflows and their revisions, jobs, providers.

Everything is asked for under an organization; a foreign id is simply not there. A deleted workflow is still found by
its id, a deleted job or provider by nothing; no list has any of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from api_gateway import listing
from api_gateway.answers import JobAnswer, ProviderAnswer, RevisionAnswer, WorkflowAnswer
from api_gateway.listing import LIKE, Listed, Listing, Where, Window
from kernel.domain.ids import OrganizationId
from kernel.errors import Rejected
from kernel.sql.port import Database, Params, Row
from kernel.store.port import ByteStore

T = TypeVar("T")

_WORKFLOW = (
    "id, organization_id, name, provider, type, revision, created_ms, updated_ms, created_by, updated_by, deleted_ms,"
    " version"
)
_JOB = "id, organization_id, name, provider, workflow_ids, created_ms, updated_ms, created_by, updated_by, version"
_PROVIDER = (
    "slug, display_name, logo_url, login_url, allowed_domains, default_job_id, concurrency, created_ms, updated_ms,"
    " version"
)


@dataclass(frozen=True, slots=True)
class DefinitionQueries:
    """All questions about definitions. `Rejected("not_found")` for what is not there or another organization's."""

    db: Database
    store: ByteStore

    # ---------------------------------------------------------------- workflows

    async def workflow(self, organization: OrganizationId, workflow_id: str) -> WorkflowAnswer:
        """One workflow with its steps, deleted ones included."""
        row = await self._one(
            f"SELECT {_WORKFLOW}, document, document_blob FROM workflows WHERE id = ? AND organization_id = ?",  # noqa: S608 (our own names)
            (workflow_id, organization),
            "no such workflow",
        )
        return _workflow(row[:-2], await self._steps(*row[-2:]))

    async def workflows(
        self,
        organization: OrganizationId,
        window: Window,
        *,
        provider: str | None = None,
        type_: str | None = None,
        name: str | None = None,
    ) -> Listing[WorkflowAnswer]:
        """Workflows without their steps; `name` is any part of the name, in any case."""
        like = None if name is None else listing.containing(name.casefold())
        where = {**_of(organization), "provider": provider, "type": type_, f"name_folded {LIKE}": like}
        return await self._list(listing.WORKFLOWS, _WORKFLOW, where, window, _workflow)

    async def revision(self, organization: OrganizationId, workflow_id: str, revision: int) -> RevisionAnswer:
        """The steps of a workflow as they were at that revision."""
        row = await self._one(
            "SELECT r.workflow_id, r.revision, r.created_ms, r.created_by, r.document, r.document_blob"
            " FROM workflow_revisions r JOIN workflows w ON w.id = r.workflow_id"
            " WHERE r.workflow_id = ? AND r.revision = ? AND w.organization_id = ?",
            (workflow_id, revision, organization),
            "no such revision",
        )
        return _revision(row[:-2], await self._steps(*row[-2:]))

    async def revisions(
        self, organization: OrganizationId, workflow_id: str, window: Window
    ) -> Listing[RevisionAnswer]:
        """All revisions of one workflow without their steps, newest first."""
        (last,) = await self._one(
            "SELECT revision FROM workflows WHERE id = ? AND organization_id = ?",
            (workflow_id, organization),
            "no such workflow",
        )
        rows = await self.db.fetch_all(
            "SELECT workflow_id, revision, created_ms, created_by FROM workflow_revisions WHERE workflow_id = ?"
            " ORDER BY revision DESC LIMIT ? OFFSET ?",
            (workflow_id, window.limit, window.offset),
        )
        return Listing([_revision(row) for row in rows], last)

    # ---------------------------------------------------------------- jobs

    async def job(self, organization: OrganizationId, job_id: str) -> JobAnswer:
        """One job."""
        row = await self._one(
            f"SELECT {_JOB} FROM jobs WHERE id = ? AND organization_id = ? AND deleted_ms = 0",  # noqa: S608 (our own names)
            (job_id, organization),
            "no such job",
        )
        return _job(row)

    async def jobs(
        self,
        organization: OrganizationId,
        window: Window,
        *,
        provider: str | None = None,
        workflow_id: str | None = None,
    ) -> Listing[JobAnswer]:
        """Jobs, newest first; `workflow_id` (a checked UUID) picks those that list it."""
        like = None if workflow_id is None else listing.containing(f'"{workflow_id}"')
        where = {**_of(organization), "provider": provider, f"workflow_ids {LIKE}": like}
        return await self._list(listing.JOBS, _JOB, where, window, _job)

    # ---------------------------------------------------------------- providers

    async def provider(self, organization: OrganizationId, slug: str) -> ProviderAnswer:
        """One registered provider."""
        row = await self._one(
            f"SELECT {_PROVIDER} FROM providers WHERE slug = ? AND organization_id = ? AND deleted_ms = 0",  # noqa: S608 (our own names)
            (slug, organization),
            "no such provider",
        )
        return _provider(row)

    async def providers(self, organization: OrganizationId, window: Window) -> Listing[ProviderAnswer]:
        """Registered providers, newest first."""
        found = "FROM providers WHERE organization_id = ? AND deleted_ms = 0"
        (total,) = await self._one(f"SELECT count(*) {found}", (organization,), "no count")
        rows = await self.db.fetch_all(
            f"SELECT {_PROVIDER} {found} ORDER BY created_ms DESC, slug DESC LIMIT ? OFFSET ?",
            (organization, window.limit, window.offset),
        )
        return Listing([_provider(row) for row in rows], total)

    # ---------------------------------------------------------------- rows

    async def _one(self, sql: str, params: Params, absent: str) -> Row:
        row = await self.db.fetch_one(sql, params)
        if row is None:
            raise Rejected("not_found", absent)
        return row

    async def _list(
        self, listed: Listed, columns: str, where: Where, window: Window, answer: Callable[[Row], T]
    ) -> Listing[T]:
        (total,) = await self._one(*listing.total(listed, where), "no count")
        if window.offset >= total:
            return Listing([], total)
        page = listing.page(listed, columns, where, window, count=total, dialect=self.db.dialect)
        rows = await self.db.fetch_all(*page)
        return Listing([answer(row) for row in rows], total)

    async def _steps(self, document: str, blob: str) -> msgspec.Raw:
        """The text of a document, inline or stored."""
        return msgspec.Raw(document.encode() if document else await self.store.get_bytes(blob))


def _of(organization: OrganizationId) -> Where:
    """What every list asks: rows of this organization that were not deleted."""
    return {"organization_id": organization, "deleted_ms": 0}


def _workflow(row: Row, steps: msgspec.Raw | None = None) -> WorkflowAnswer:
    id_, organization, name, provider, type_, revision, created, updated, by, updated_by, deleted, version = row
    return WorkflowAnswer(
        id=id_,
        organization_id=organization,
        name=name,
        provider=provider,
        type=type_,
        steps=steps,
        revision=revision,
        created_ms=created,
        updated_ms=updated,
        created_by=by,
        updated_by=updated_by,
        deleted_ms=deleted,
        version=version,
    )


def _revision(row: Row, steps: msgspec.Raw | None = None) -> RevisionAnswer:
    workflow_id, revision, created, by = row
    return RevisionAnswer(workflow_id, revision, steps, created, by)


def _job(row: Row) -> JobAnswer:
    cells: list[Any] = list(row)
    cells[4] = json.loads(cells[4])
    return JobAnswer(*cells)


def _provider(row: Row) -> ProviderAnswer:
    cells: list[Any] = list(row)
    cells[4] = json.loads(cells[4])
    return ProviderAnswer(*cells)
