"""What a run is asked to do: the frozen snapshot of its workflows, made by the gateway when the run is requested."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kernel.building import quickly_made
from kernel.domain.ids import ConnectionId, ProviderSlug, WorkflowId, WorkflowRunId
from kernel.domain.values import Document, Pool, SealedBody


class WorkflowType(StrEnum):
    """`LOGIN` may type credentials and saves the session; `USER_DEFINED` does the work."""

    LOGIN = "LOGIN"
    USER_DEFINED = "USER_DEFINED"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a caller asked of a run beyond its work; frozen with the run."""

    test_mode: bool = False
    """A rehearsal: its session is kept apart from the real one."""
    stop_after_step: str = ""
    """Id of the step after which the run ends, completed. Empty: it goes to its end."""
    keep_open_seconds: int = 0
    """How long the page stays open behind the end of the run, for somebody to look at it."""
    trace: bool = False
    """Record a trace of the whole run and keep it as an artifact."""


@quickly_made
@dataclass(frozen=True, slots=True)
class PlannedWorkflow:
    """One workflow of a run, as it stood when the run was created."""

    workflow_run_id: WorkflowRunId = WorkflowRunId("")
    """Derived by the gateway from the root run and the position, so that a replay names the same run."""
    workflow_id: WorkflowId = WorkflowId("")
    revision: int = 0
    name: str = ""
    type: WorkflowType = WorkflowType.USER_DEFINED
    provider: ProviderSlug = ProviderSlug("")
    pool: Pool = Pool.BROWSER
    document: Document = field(default_factory=Document)
    inputs: SealedBody = field(default_factory=SealedBody)
    """JSON object of the inputs this workflow lists; a secret one is `{"$secret": "<vault reference>"}`."""
    connection_id: ConnectionId = ConnectionId("")
    """The login it uses; its key is held by the root run. Empty: none."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names (a leading dot allows sub-domains) that the run may reach, from the provider and `startOrigins`."""
    timeout_seconds: int = 3600
    """The whole workflow run, waits for people not counted."""
    concurrency: int = 0
    """How many workflow runs of its organization may work at its provider at once; 0: any number."""
    options: RunOptions = field(default_factory=RunOptions)
    retry_of: WorkflowRunId = WorkflowRunId("")
    """The workflow run that this one repeats. Empty: none."""
