"""An artifact: bytes that an accepted attempt of a run produced. It is created once and never changes."""

from __future__ import annotations

from dataclasses import dataclass

from kernel.domain.ids import ArtifactId, JobRunId, OrganizationId, SubjectId, WorkflowId, WorkflowRunId
from kernel.domain.values import Sealed


@dataclass(frozen=True, slots=True)
class StagedArtifact:
    """What a report names: staged in the artifact store, no fact yet."""

    artifact_id: ArtifactId
    """Derived from workflow run, step path and index, so a repeated step names the same artifact."""
    type: str
    """`extracted_data`, `screenshot`, `download`, `log_file`, `trace`, `har`."""
    display_name: Sealed
    mime_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ArtifactCreated:
    """`advance` accepted the report that names it; the bytes are in the store under `sha256`."""

    artifact_id: ArtifactId
    workflow_run_id: WorkflowRunId
    job_run_id: JobRunId
    workflow_id: WorkflowId
    organization_id: OrganizationId
    subject_id: SubjectId
    step_id: str
    type: str
    display_name: Sealed
    mime_type: str
    size: int
    sha256: str
