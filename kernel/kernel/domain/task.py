"""A task: one attempt of one workflow run, from its request to its settling.

    requested (advance) -> assigned (dispatch) -> reports (runner) -> settled (advance)
                        -> withdrawn (advance)    -> lease lapsed (dispatch) -> read by advance -> settled
A runner's word is a report; it counts only under the newest token, and only before the lapse or settling of that token
in `task_reports` (design 6.4). Reports carry a gapless number per token, from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel.building import quickly_made
from kernel.domain.artifact import StagedArtifact
from kernel.domain.ids import (
    ConnectionId,
    Incarnation,
    InputRequestId,
    OrganizationId,
    ProviderSlug,
    RequestId,
    SubjectId,
    TaskId,
    WorkflowRunId,
)
from kernel.domain.input_request import InputField
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.values import Effect, Failure, Pool, Sealed, SealedBody, Token
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus


@quickly_made
@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One finished step as the next attempt needs it, or a `once` step that was started (`status` None)."""

    path: str
    status: StepStatus | None
    effect: Effect
    output: SealedBody
    safe_point: bool
    url: Sealed
    """Where a resume re-enters after this step; empty when it is none. Sealed: an address may name a person."""
    consumed: bool
    """The output was a one-time answer that is gone; the step asks again."""
    failure_code: str = ""
    """Why the step failed, as later steps may read it."""
    asks_again: str = ""
    """Path of the `ask_user` step whose answer was rejected here and which is asked again: what stands from there up to
    this entry counts no more."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What earlier attempts did: entries already staged as a blob of sealed JSON, then those after it, in order."""

    staged: SealedBody
    entries: tuple[JournalEntry, ...]
    unknown: tuple[str, ...]
    """Paths of `once` steps that some earlier attempt started, without an outcome or a check since (design 6.6)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that travels with a task, for the `ask_user` step at `path`."""

    path: str
    input_request_id: InputRequestId
    values: SealedBody


# ---------------------------------------------------------------- advance says


@quickly_made
@dataclass(frozen=True, slots=True)
class TaskRequested:
    """`advance` asks for a slot for one attempt."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    organization_id: OrganizationId
    subject_id: SubjectId
    token: Token
    pool: Pool
    priority: int
    workflow: PlannedWorkflow
    journal: Journal
    answers: tuple[Answer, ...]
    deadline_ms: int
    """The run's own time-out."""
    requested_ms: int


@dataclass(frozen=True, slots=True)
class TaskWithdrawn:
    """The run does not want this task any more; drop it if it is not assigned."""

    task_id: TaskId
    root_run_id: str
    pool: Pool


@dataclass(frozen=True, slots=True)
class TaskSettled:
    """`advance` has accepted the end of this attempt, or ended it: no report of this token counts after this."""

    task_id: TaskId
    root_run_id: str
    token: Token
    pool: Pool


@dataclass(frozen=True, slots=True)
class ConnectionReleased:
    """The root run is over or parked, and every fence of its attempts has surely closed: the login is free."""

    connection_id: ConnectionId
    root_run_id: str
    pool: Pool


@dataclass(frozen=True, slots=True)
class TaskStopRequested:
    """To the runner: stop this attempt at the next safe point (5 s at most) and say `task.stopped`."""

    task_id: TaskId
    token: Token
    inbox_partition: int


@dataclass(frozen=True, slots=True)
class TaskParkRequested:
    """To the runner: the hold is over; save, close the context, say `task.parked`."""

    task_id: TaskId
    token: Token
    inbox_partition: int


@dataclass(frozen=True, slots=True)
class AnswerDelivered:
    """To the runner that holds the page: the person's answer."""

    task_id: TaskId
    token: Token
    inbox_partition: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class ReportIgnored:
    """`advance` read a report that does not count, and says why. Ledger only."""

    task_id: TaskId
    root_run_id: str
    token: Token
    report: str
    """Wire name of the report."""
    reason: str
    """`old_token`, `lapsed`, `settled`, `gap`, `out_of_place`, `run_ended`. A mere repeat is dropped unrecorded."""


@dataclass(frozen=True, slots=True)
class AttemptLapsed:
    """`advance` read the lapse: the next attempt may be asked for at `wait_until_ms`. Ledger only."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    wait_until_ms: int


@dataclass(frozen=True, slots=True)
class AttemptSettling:
    """An attempt was settled without the runner's word; W is counted from reading `settled` back. Ledger only."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    wait_until_ms: int
    """0 until `settled` was read back."""


@dataclass(frozen=True, slots=True)
class AttemptParked:
    """The attempt ended at a safe point and holds nothing; the run waits for an answer or `resume_ms`. Ledger only."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    resume_ms: int
    """0: only an answer resumes it."""


@dataclass(frozen=True, slots=True)
class HoldStarted:
    """The runner holds a page for a person; `advance` ends the hold at `until_ms`. Ledger only."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    path: str
    input_request_id: InputRequestId
    since_ms: int
    until_ms: int
    expires_ms: int
    """When the question expires."""


@quickly_made
@dataclass(frozen=True, slots=True)
class AttemptAssigned:
    """`advance` read the assignment of the attempt it wants. Ledger only."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    incarnation: Incarnation
    inbox_partition: int
    deadline_ms: int
    """The run's own time-out from here on."""


@dataclass(frozen=True, slots=True)
class DeadlineMoved:
    """A held page goes on: the time a person took is not counted. Ledger only."""

    root_run_id: str
    workflow_run_id: WorkflowRunId
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class RunEnding:
    """The run is to end with `status` as soon as nothing of it can act: a cancel, a time-out, an expired question.

    An end report that arrives before keeps its success. Ledger only.
    """

    root_run_id: str
    workflow_run_id: WorkflowRunId
    status: WorkflowRunStatus
    failure: Failure
    due_ms: int
    """When `advance` stops waiting for the runner's word and settles the attempt itself."""


@dataclass(frozen=True, slots=True)
class AnswerKept:
    """An accepted answer waits to travel with the next task, or until its step is finished. Ledger only."""

    root_run_id: str
    workflow_run_id: WorkflowRunId
    answer: Answer
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class StepUnknownCleared:
    """A check said that a started `once` step had not happened; it may be started again. Ledger only."""

    root_run_id: str
    workflow_run_id: WorkflowRunId
    path: str


# ---------------------------------------------------------------- dispatch says


@dataclass(frozen=True, slots=True)
class TaskQueued:
    """`dispatch` took the request into its queue. Ledger only."""

    request: TaskRequested


@dataclass(frozen=True, slots=True)
class TaskDropped:
    """A queued task was withdrawn, or an assigned one settled: its slot is free. Ledger only."""

    task_id: TaskId
    pool: Pool


@quickly_made
@dataclass(frozen=True, slots=True)
class TaskAssigned:
    """One attempt given to one runner incarnation; to its inbox and to the reports of the run."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    incarnation: Incarnation
    inbox_partition: int
    lease_until_ms: int
    request: TaskRequested
    """The work. In `task_reports`, which only needs who and which token, without workflow, journal and answers."""


@dataclass(frozen=True, slots=True)
class TaskLeaseLapsed:
    """The lease is over. What stands before this record in `task_reports` counts, what stands after does not."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    proof: str
    """`died`: its watchdog saw the group dead; `expired`: no heartbeat; `not_echoed`: the assignment was not taken up;
    `withdrawn`: it was still queued and will never be assigned."""


@dataclass(frozen=True, slots=True)
class RunnerSeen:
    """What dispatch keeps of a heartbeat. Ledger only."""

    incarnation: Incarnation
    host_id: str
    pool: Pool
    inbox_partition: int
    slots: int
    draining: bool
    waiting: tuple[TaskId, ...]
    held: tuple[TaskId, ...]
    seen_ms: int


@dataclass(frozen=True, slots=True)
class RunnerGone:
    """A runner died, drained or was not heard of for long; it gets nothing more. Ledger only."""

    incarnation: Incarnation
    pool: Pool


@dataclass(frozen=True, slots=True)
class LeasesExtended:
    """After a takeover every assigned task gets one full lease of grace. Ledger only."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class ConnectionFreed:
    """The login's key is free. Ledger only."""

    connection_id: ConnectionId
    root_run_id: str


# ---------------------------------------------------------------- runners say


@dataclass(frozen=True, slots=True)
class HeldTask:
    """What a heartbeat renews."""

    task_id: TaskId
    token: Token
    waiting: bool
    """It holds a page for a person and takes no slot."""


@dataclass(frozen=True, slots=True)
class RunnerHeartbeat:
    """Every 2 s, and at once when slots change. Renews exactly what it names."""

    incarnation: Incarnation
    host_id: str
    pool: Pool
    inbox_partition: int
    slots: int
    """Working slots in all; the free ones are these less the held tasks that do not wait."""
    draining: bool
    held: tuple[HeldTask, ...]
    sent_ms: int
    unsandboxed: bool = False
    """Its browsers are not in their sandbox."""


@dataclass(frozen=True, slots=True)
class RunnerDied:
    """Proof of death: the watchdog saw the whole process group of `incarnation` dead.

    With an empty `incarnation` it speaks for the host: every incarnation on `host_id` but `survivor` is dead.
    """

    incarnation: Incarnation
    host_id: str
    survivor: Incarnation
    pool: Pool


@quickly_made
@dataclass(frozen=True, slots=True)
class TaskStarted:
    """Report 1 of a token: the runner begins."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    incarnation: Incarnation
    inbox_partition: int
    first_name: str


@quickly_made
@dataclass(frozen=True, slots=True)
class StepStarted:
    """A `once` step is about to act. It acts only after this was read back with no lapse or settling before it."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    path: str
    step_id: str
    name: str
    effect: Effect
    kind: str
    """Kind of the step, such as `click`."""


@quickly_made
@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended; its artifacts are staged."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    path: str
    step_id: str
    name: str
    kind: str
    effect: Effect
    status: StepStatus
    tries: int
    started_ms: int
    finished_ms: int
    output: SealedBody
    failure: Failure
    artifacts: tuple[StagedArtifact, ...]
    screenshot_artifact_id: str
    safe_point: bool
    url: Sealed
    consumed: bool
    next_name: str
    journal_staged: SealedBody
    """When set: the whole journal up to and with this step, staged; entries before may be dropped."""
    resolved: bool
    """For a `once` step that was unknown: a check settled it (status COMPLETED: it had happened; it is not run)."""
    diagnosis: Sealed = field(default_factory=Sealed)
    """JSON for people about a failure: address, locators tried, nearest candidates; absent when it did not fail."""
    asks_again: str = ""
    """Path of the `ask_user` step whose answer the source has rejected in this step: the outcome is known, the question
    is asked again, and the steps from there up to this one are repeated."""


@dataclass(frozen=True, slots=True)
class StepChecked:
    """A `once` step that was unknown had not happened, says its check: it may be started again."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    path: str


@dataclass(frozen=True, slots=True)
class TaskSuspended:
    """The run asks a person; the page is held until `advance` ends the hold. The attempt goes on."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    path: str
    step_id: str
    kind: str
    prompt: Sealed
    fields: tuple[InputField, ...]
    ask_attempt: int
    hold_seconds: int
    """0: nothing to hold; the runner reports `task.parked` right after."""
    answer_seconds: int
    """How long the person has."""


@dataclass(frozen=True, slots=True)
class TaskParked:
    """End of the attempt: state saved, context closed, the run waits for its answer."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    artifacts: tuple[StagedArtifact, ...] = ()
    """The log of the attempt."""


@dataclass(frozen=True, slots=True)
class TaskReleased:
    """End of the attempt: handed back at a safe point (drain, or a retry delay)."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    reason: str
    """`drain` or `delayed`."""
    not_before_ms: int
    """0: at once."""
    artifacts: tuple[StagedArtifact, ...] = ()
    """The log of the attempt."""


@dataclass(frozen=True, slots=True)
class TaskStopped:
    """End of the attempt: a `stop` was obeyed, the context is closed."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    artifacts: tuple[StagedArtifact, ...] = ()
    """The log of the attempt."""


@quickly_made
@dataclass(frozen=True, slots=True)
class TaskEnded:
    """End of the attempt and of the workflow run, as the runner sees it."""

    task_id: TaskId
    root_run_id: str
    workflow_run_id: WorkflowRunId
    token: Token
    number: int
    status: WorkflowRunStatus
    """Any terminal status but CANCELLED."""
    output: SealedBody
    failure: Failure
    artifacts: tuple[StagedArtifact, ...]
    """Of `finally` and of the end itself."""


@dataclass(frozen=True, slots=True)
class StepAccepted:
    """`advance` accepted a step's report; the public `workflow_run.step_finished` is derived from it. Ledger only."""

    report: StepFinished
    attempt: int
    provider: ProviderSlug = ProviderSlug("")
    test_mode: bool = False


Report = (
    TaskStarted
    | StepStarted
    | StepFinished
    | StepChecked
    | TaskSuspended
    | TaskParked
    | TaskReleased
    | TaskStopped
    | TaskEnded
)
"""What a runner may append to `task_reports`; all carry task_id, root_run_id, workflow_run_id, token, number."""
