"""One type per identifier, so that a JobRunId never passes for a JobId. All are text; entities use UUIDs."""

from typing import NewType

OrganizationId = NewType("OrganizationId", str)
UserId = NewType("UserId", str)
SubjectId = NewType("SubjectId", str)
WorkflowId = NewType("WorkflowId", str)
JobId = NewType("JobId", str)
RootRunId = NewType("RootRunId", str)
"""The job run, or the workflow run that stands alone: the key of everything that belongs to it."""
JobRunId = NewType("JobRunId", str)
WorkflowRunId = NewType("WorkflowRunId", str)
TaskId = NewType("TaskId", str)
"""One attempt of one workflow run: derived from the workflow run and the attempt number."""
ArtifactId = NewType("ArtifactId", str)
InputRequestId = NewType("InputRequestId", str)
ConnectionId = NewType("ConnectionId", str)
ProviderSlug = NewType("ProviderSlug", str)
RequestId = NewType("RequestId", str)
"""Derived from the caller's idempotency key or made at random; the request's outcome names it."""
Incarnation = NewType("Incarnation", str)
"""One life of one runner process."""
