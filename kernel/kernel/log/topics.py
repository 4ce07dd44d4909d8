"""Every topic and every event type, in one table: wire name, where it stands, who writes it.

One writer per type and topic (design 3.2). Derived types have their ledger's decider as writer. The manual includes
these tables, and tests hold them against the protos, the codec and the deciders.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from kernel.domain import (
    artifact,
    connection,
    input_request,
    job,
    job_run,
    owner,
    provider,
    provider_health,
    registry_request,
    task,
    workflow,
    workflow_run,
)

GENERATION = "g1"


class Writer(StrEnum):
    """Who appends a type."""

    GATEWAY = "gateway"
    REGISTRY = "registry"
    ADVANCE = "advance"
    DISPATCH = "dispatch"
    RUNNER = "runner"
    WATCHDOG = "watchdog"
    OWNER = "owner"
    HEALTH = "health"


class Topic(StrEnum):
    """Names without prefix and generation."""

    JOB_RUNS = "job_runs"
    DEFINITIONS = "definitions"
    RUN_REQUESTS = "run_requests"
    REGISTRY_REQUESTS = "registry_requests"
    TASK_REPORTS = "task_reports"
    DISPATCH = "dispatch"
    RUNNER_INBOX = "runner_inbox"
    RUN_LEDGER = "run_ledger"
    REGISTRY_LEDGER = "registry_ledger"
    DISPATCH_LEDGER = "dispatch_ledger"


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic: what keys it, whether outsiders may read it, what it is for."""

    key: str
    public: bool
    ledger: bool
    about: str


TOPICS: dict[Topic, TopicRow] = {
    Topic.JOB_RUNS: TopicRow("root run id", True, False, "authoritative facts about runs, steps, artifacts, questions"),
    Topic.DEFINITIONS: TopicRow("entity id", True, False, "facts about workflows, jobs, providers, connections"),
    Topic.RUN_REQUESTS: TopicRow("root run id", False, False, "what is asked about runs"),
    Topic.REGISTRY_REQUESTS: TopicRow("organization", False, False, "what is asked about definitions"),
    Topic.TASK_REPORTS: TopicRow("root run id", False, False, "what runners say happened, and what fences them"),
    Topic.DISPATCH: TopicRow("pool/shard", False, False, "the input of dispatch"),
    Topic.RUNNER_INBOX: TopicRow("runner incarnation", False, False, "assignments, answers, stop, park"),
    Topic.RUN_LEDGER: TopicRow("root run id", False, True, "decisions of advance"),
    Topic.REGISTRY_LEDGER: TopicRow("organization", False, True, "decisions of registry"),
    Topic.DISPATCH_LEDGER: TopicRow("pool/shard", False, True, "decisions of dispatch"),
}


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One event type: its wire name, its writer in each topic it stands in, and its ledger if it is a decision."""

    wire: str
    topics: dict[Topic, Writer]


_RUN_FACT = {Topic.RUN_LEDGER: Writer.ADVANCE, Topic.JOB_RUNS: Writer.ADVANCE}
_RUN_ONLY = {Topic.RUN_LEDGER: Writer.ADVANCE}
_DEFINITION = {Topic.REGISTRY_LEDGER: Writer.REGISTRY, Topic.DEFINITIONS: Writer.REGISTRY}
_REPORT = {Topic.TASK_REPORTS: Writer.RUNNER}
_REGISTRY_ONLY = {Topic.REGISTRY_LEDGER: Writer.REGISTRY}
_DISPATCH_ONLY = {Topic.DISPATCH_LEDGER: Writer.DISPATCH}
_TO_DISPATCH = {Topic.RUN_LEDGER: Writer.ADVANCE, Topic.DISPATCH: Writer.ADVANCE}
_TO_INBOX = {Topic.RUN_LEDGER: Writer.ADVANCE, Topic.RUNNER_INBOX: Writer.ADVANCE}
_OWNER = {Topic.RUN_LEDGER: Writer.OWNER, Topic.REGISTRY_LEDGER: Writer.OWNER, Topic.DISPATCH_LEDGER: Writer.OWNER}

TYPES: dict[type, TypeRow] = {
    # what is asked
    job_run.JobRunRequested: TypeRow("job_run.requested", {Topic.RUN_REQUESTS: Writer.GATEWAY}),
    workflow_run.WorkflowRunRequested: TypeRow("workflow_run.requested", {Topic.RUN_REQUESTS: Writer.GATEWAY}),
    job_run.RunCancelRequested: TypeRow("run.cancel_requested", {Topic.RUN_REQUESTS: Writer.GATEWAY}),
    input_request.InputAnswerSubmitted: TypeRow("input_request.answer_submitted", {Topic.RUN_REQUESTS: Writer.GATEWAY}),
    workflow.WorkflowCreateRequested: TypeRow("workflow.create_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}),
    workflow.WorkflowChangeRequested: TypeRow("workflow.change_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}),
    job.JobCreateRequested: TypeRow("job.create_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}),
    job.JobChangeRequested: TypeRow("job.change_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}),
    provider.ProviderRegisterRequested: TypeRow(
        "provider.register_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}
    ),
    workflow.WorkflowDeleteRequested: TypeRow("workflow.delete_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}),
    job.JobDeleteRequested: TypeRow("job.delete_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}),
    provider.ProviderDeleteRequested: TypeRow("provider.delete_requested", {Topic.REGISTRY_REQUESTS: Writer.GATEWAY}),
    connection.LoginObserved: TypeRow(
        "connection.login_observed", {Topic.RUN_LEDGER: Writer.ADVANCE, Topic.REGISTRY_REQUESTS: Writer.ADVANCE}
    ),
    provider_health.ProviderHealthObserved: TypeRow(
        "provider.health_observed", {Topic.REGISTRY_REQUESTS: Writer.HEALTH}
    ),
    # definitions
    workflow.WorkflowCreated: TypeRow("workflow.created", _DEFINITION),
    workflow.WorkflowChanged: TypeRow("workflow.changed", _DEFINITION),
    workflow.WorkflowArchived: TypeRow("workflow.archived", _DEFINITION),
    job.JobCreated: TypeRow("job.created", _DEFINITION),
    job.JobChanged: TypeRow("job.changed", _DEFINITION),
    job.JobDeleted: TypeRow("job.deleted", _DEFINITION),
    provider.ProviderDeleted: TypeRow("provider.deleted", _DEFINITION),
    job.RegistryRequestRejected: TypeRow("registry.request_rejected", _DEFINITION),
    registry_request.RegistryRequestRemembered: TypeRow("registry.request_remembered", _REGISTRY_ONLY),
    registry_request.RegistryRequestForgotten: TypeRow("registry.request_forgotten", _REGISTRY_ONLY),
    provider.ProviderRegistered: TypeRow("provider.registered", _DEFINITION),
    provider_health.ProviderDegraded: TypeRow("provider.degraded", _DEFINITION),
    provider_health.ProviderRecovered: TypeRow("provider.recovered", _DEFINITION),
    connection.ConnectionCreated: TypeRow("connection.created", _DEFINITION),
    connection.ConnectionLoginRecorded: TypeRow("connection.login_recorded", _DEFINITION),
    # runs
    job_run.RunPlanned: TypeRow("run.planned", _RUN_ONLY),
    job_run.JobRunCreated: TypeRow("job_run.created", _RUN_FACT),
    job_run.JobRunStarted: TypeRow("job_run.started", _RUN_FACT),
    job_run.JobRunCompleted: TypeRow("job_run.completed", _RUN_FACT),
    job_run.JobRunFailed: TypeRow("job_run.failed", _RUN_FACT),
    job_run.JobRunCancelled: TypeRow("job_run.cancelled", _RUN_FACT),
    job_run.RunCancelAccepted: TypeRow("run.cancel_accepted", _RUN_FACT),
    job_run.RunRequestRejected: TypeRow("run.request_rejected", _RUN_FACT),
    job_run.RunTombstoned: TypeRow("run.tombstoned", _RUN_ONLY),
    job_run.RunForgotten: TypeRow("run.forgotten", _RUN_ONLY),
    workflow_run.WorkflowRunCreated: TypeRow("workflow_run.created", _RUN_FACT),
    workflow_run.WorkflowRunStarted: TypeRow("workflow_run.started", _RUN_FACT),
    workflow_run.WorkflowRunRequeued: TypeRow("workflow_run.requeued", _RUN_FACT),
    workflow_run.WorkflowRunAwaitingUserInput: TypeRow("workflow_run.awaiting_user_input", _RUN_FACT),
    workflow_run.WorkflowRunResumed: TypeRow("workflow_run.resumed", _RUN_FACT),
    workflow_run.WorkflowRunStepStarted: TypeRow("workflow_run.step_started", _RUN_FACT),
    workflow_run.WorkflowRunStepFinished: TypeRow("workflow_run.step_finished", {Topic.JOB_RUNS: Writer.ADVANCE}),
    workflow_run.WorkflowRunCompleted: TypeRow("workflow_run.completed", _RUN_FACT),
    workflow_run.WorkflowRunFailed: TypeRow("workflow_run.failed", _RUN_FACT),
    artifact.ArtifactCreated: TypeRow("artifact.created", _RUN_FACT),
    input_request.InputRequestOpened: TypeRow("input_request.opened", _RUN_FACT),
    input_request.InputRequestAnswered: TypeRow("input_request.answered", _RUN_FACT),
    input_request.InputRequestExpired: TypeRow("input_request.expired", _RUN_FACT),
    input_request.InputRequestCancelled: TypeRow("input_request.cancelled", _RUN_FACT),
    # tasks, from advance
    task.TaskRequested: TypeRow("task.requested", _TO_DISPATCH),
    task.TaskWithdrawn: TypeRow("task.withdrawn", _TO_DISPATCH),
    task.TaskSettled: TypeRow("task.settled", {**_TO_DISPATCH, Topic.TASK_REPORTS: Writer.ADVANCE}),
    task.ConnectionReleased: TypeRow("connection.released", _TO_DISPATCH),
    task.TaskStopRequested: TypeRow("task.stop_requested", _TO_INBOX),
    task.TaskParkRequested: TypeRow("task.park_requested", _TO_INBOX),
    task.AnswerDelivered: TypeRow("task.answer_delivered", _TO_INBOX),
    task.ReportIgnored: TypeRow("task.report_ignored", _RUN_ONLY),
    task.AttemptLapsed: TypeRow("task.attempt_lapsed", _RUN_ONLY),
    task.AttemptSettling: TypeRow("task.attempt_settling", _RUN_ONLY),
    task.AttemptParked: TypeRow("task.attempt_parked", _RUN_ONLY),
    task.HoldStarted: TypeRow("task.hold_started", _RUN_ONLY),
    task.AttemptAssigned: TypeRow("task.attempt_assigned", _RUN_ONLY),
    task.DeadlineMoved: TypeRow("task.deadline_moved", _RUN_ONLY),
    task.AnswerKept: TypeRow("task.answer_kept", _RUN_ONLY),
    task.StepUnknownCleared: TypeRow("step.unknown_cleared", _RUN_ONLY),
    task.StepAccepted: TypeRow("step.accepted", _RUN_ONLY),
    task.RunEnding: TypeRow("run.ending", _RUN_ONLY),
    # tasks, from dispatch
    task.TaskQueued: TypeRow("task.queued", _DISPATCH_ONLY),
    task.TaskDropped: TypeRow("task.dropped", _DISPATCH_ONLY),
    task.TaskAssigned: TypeRow(
        "task.assigned",
        {
            Topic.DISPATCH_LEDGER: Writer.DISPATCH,
            Topic.RUNNER_INBOX: Writer.DISPATCH,
            Topic.TASK_REPORTS: Writer.DISPATCH,
        },
    ),
    task.TaskLeaseLapsed: TypeRow(
        "task.lease_lapsed", {Topic.DISPATCH_LEDGER: Writer.DISPATCH, Topic.TASK_REPORTS: Writer.DISPATCH}
    ),
    task.RunnerSeen: TypeRow("runner.seen", _DISPATCH_ONLY),
    task.RunnerGone: TypeRow("runner.gone", _DISPATCH_ONLY),
    task.LeasesExtended: TypeRow("task.leases_extended", _DISPATCH_ONLY),
    task.ConnectionFreed: TypeRow("connection.freed", _DISPATCH_ONLY),
    # runners
    task.RunnerHeartbeat: TypeRow("runner.heartbeat", {Topic.DISPATCH: Writer.RUNNER}),
    task.RunnerDied: TypeRow("runner.died", {Topic.DISPATCH: Writer.WATCHDOG}),
    task.TaskStarted: TypeRow("task.started", _REPORT),
    task.StepStarted: TypeRow("step.started", _REPORT),
    task.StepFinished: TypeRow("step.finished", _REPORT),
    task.StepChecked: TypeRow("step.checked", _REPORT),
    task.TaskSuspended: TypeRow("task.suspended", _REPORT),
    task.TaskParked: TypeRow("task.parked", _REPORT),
    task.TaskReleased: TypeRow("task.released", _REPORT),
    task.TaskStopped: TypeRow("task.stopped", _REPORT),
    task.TaskEnded: TypeRow("task.ended", _REPORT),
    # owners
    owner.OwnerClaimed: TypeRow("owner.claimed", _OWNER),
    owner.OwnerCheckpointed: TypeRow("owner.checkpointed", _OWNER),
    owner.OwnerSnapshotChunked: TypeRow("owner.snapshot_chunked", _OWNER),
    owner.OwnerSnapshotCompleted: TypeRow("owner.snapshot_completed", _OWNER),
}


def murmur2(data: bytes) -> int:
    """Java Kafka's murmur2, as an unsigned 32-bit number."""
    length, mask = len(data), 0xFFFFFFFF
    h = (0x9747B28C ^ length) & mask
    end = length & ~3
    for i in range(0, end, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * 0x5BD1E995) & mask
        k ^= k >> 24
        k = (k * 0x5BD1E995) & mask
        h = ((h * 0x5BD1E995) & mask) ^ k
    tail = data[end:]
    if len(tail) == 3:
        h ^= tail[2] << 16
    if len(tail) >= 2:
        h ^= tail[1] << 8
    if tail:
        h = ((h ^ tail[0]) * 0x5BD1E995) & mask
    h ^= h >> 13
    h = (h * 0x5BD1E995) & mask
    return h ^ (h >> 15)


@lru_cache(maxsize=4096)  # a run's key is asked for by each of its records
def partition_of(key: str, partitions: int) -> int:
    """The partition of `key` in a topic of `partitions`, as Java's default partitioner places it."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
