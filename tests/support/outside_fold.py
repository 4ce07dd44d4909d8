"""What an outsider makes of the public topics, by a fold of their own: generated classes and CloudEvents headers only.

Nothing of ours but the contract is used here: no codec, no domain, no table of topics. So what it finds wrong is wrong
for whoever subscribes. It dedupes as the contract tells outsiders to, by `ce_sequence`, and writes down every breach of
a promise instead of raising, so that one report tells all of them:

    gapless            numbers of a key follow each other from 1
    one fact a number  a number that comes again brings the same id and the same bytes
    one number a fact  an id never stands under two numbers
    one place a key    all records of a key stand in one partition
    nothing after end  no fact of a run follows the one that ended it
    in order           a workflow run begins after the one before it has ended well
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.v1 import artifact_pb2, input_request_pb2, job_run_pb2, values_pb2, workflow_run_pb2

_MODULES = (job_run_pb2, workflow_run_pb2, input_request_pb2, artifact_pb2)
_JOB_ENDS = {"JobRunCompleted": "COMPLETED", "JobRunFailed": "FAILED", "JobRunCancelled": "FAILED"}
_WELL = frozenset({"COMPLETED", "COMPLETED_WITH_NO_ACTION_TAKEN"})


@dataclass(slots=True)
class SeenWorkflowRun:
    """One workflow run: its word as the API has it, and each finished step as attempt, path and status."""

    workflow_id: str
    position: int
    status: str = "PENDING"
    steps: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(slots=True)
class SeenRun:
    """One root run and what belongs to it. `status` is the word of the API; `ended` once its last fact was read."""

    job_id: str = ""
    organization_id: str = ""
    status: str = "PENDING"
    ended: bool = False
    partition: int = -1
    failure: str = ""
    workflow_runs: dict[str, SeenWorkflowRun] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    facts: int = 0


@dataclass(slots=True)
class _Stream:
    partition: int
    digests: list[bytes] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)


class OutsideFold:
    """Folds records of public topics. `problems` tells each breach, `repeats` how many records came again.

    `open_once` holds steps of effect `once` that have begun and have no outcome, as workflow run and path.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.repeats = 0
        self.rejected = 0
        self.facts = 0
        self.open_once: set[tuple[str, str]] = set()
        self.runs: dict[str, SeenRun] = {}
        self._streams: dict[tuple[str, str], _Stream] = {}

    def take(self, topic: str, partition: int, key: str, headers: Mapping[str, str], value: bytes) -> bool:
        """Fold one record; whether it was a fact that had not come before."""
        if "ce_sequence" not in headers:
            self.rejected += 1
            return False
        if not self._is_next(topic, partition, key, headers, value):
            return False
        self.facts += 1
        event = _parsed(headers["ce_type"], value)
        if event is not None:
            self.runs.setdefault(key, SeenRun(partition=partition))
            self._fold(self.runs[key], event, f"{key} {headers['ce_sequence']} {headers['ce_type']}")
        return True

    def _is_next(self, topic: str, partition: int, key: str, headers: Mapping[str, str], value: bytes) -> bool:
        stream = self._streams.setdefault((topic, key), _Stream(partition))
        place = f"{topic} {key} {headers['ce_sequence']} {headers['ce_type']}"
        sequence, fact_id = int(headers["ce_sequence"]), headers["ce_id"]
        digest = hashlib.sha256(fact_id.encode() + b"\0" + headers["ce_type"].encode() + b"\0" + value).digest()
        if partition != stream.partition:
            self.problems.append(f"{place}: in partition {partition}, its key began in {stream.partition}")
        if sequence <= len(stream.digests):
            self.repeats += 1
            if stream.digests[sequence - 1] != digest:
                self.problems.append(f"{place}: another fact stood under this number")
            return False
        if sequence != len(stream.digests) + 1:
            self.problems.append(f"{place}: follows number {len(stream.digests)}")
            stream.digests.extend([b""] * (sequence - 1 - len(stream.digests)))
        if fact_id in stream.ids:
            self.problems.append(f"{place}: its id stood under another number")
        stream.digests.append(digest)
        stream.ids.add(fact_id)
        return True

    def _fold(self, run: SeenRun, event: Any, place: str) -> None:
        if run.ended:
            self.problems.append(f"{place}: follows the end of its run")
        run.facts += 1
        name = type(event).__name__
        if name == "JobRunCreated":
            run.job_id, run.organization_id = event.job_id, event.organization_id
        elif name == "JobRunStarted":
            run.status = "IN_PROGRESS"
        elif name in _JOB_ENDS:
            run.status, run.ended = _JOB_ENDS[name], True
            run.failure = event.failure.code if name == "JobRunFailed" else ""
        elif name == "WorkflowRunCreated":
            self._created(run, event, place)
        elif name == "ArtifactCreated":
            run.artifacts.add(event.artifact_id)
        elif name.startswith("WorkflowRun"):
            self._moved(run, name, event, place)

    def _created(self, run: SeenRun, event: Any, place: str) -> None:
        if event.workflow_run_id in run.workflow_runs:
            self.problems.append(f"{place}: this workflow run was created before")
        for earlier in run.workflow_runs.values():
            if earlier.position < event.position and earlier.status not in _WELL:
                self.problems.append(f"{place}: the one before it is {earlier.status}")
        run.workflow_runs[event.workflow_run_id] = SeenWorkflowRun(event.workflow_id, event.position)
        if not event.job_run_id:
            run.organization_id = event.organization_id

    def _moved(self, run: SeenRun, name: str, event: Any, place: str) -> None:
        seen = run.workflow_runs.get(event.workflow_run_id)
        if seen is None:
            self.problems.append(f"{place}: this workflow run was never created")
            return
        if name == "WorkflowRunStepFinished":
            status = workflow_run_pb2.StepStatus.Name(event.status).removeprefix("STEP_STATUS_")
            seen.steps.append((event.attempt, event.path, status))
            self.open_once.discard((event.workflow_run_id, event.path))
        elif name == "WorkflowRunStepStarted":
            if event.effect == values_pb2.EFFECT_ONCE:
                self.open_once.add((event.workflow_run_id, event.path))
        elif name in {"WorkflowRunCompleted", "WorkflowRunFailed"}:
            word = workflow_run_pb2.WorkflowRunStatus.Name(event.status).removeprefix("WORKFLOW_RUN_STATUS_")
            seen.status = word if word in _WELL else "FAILED"
            if not run.job_id:
                run.status, run.ended = seen.status, True
        elif name in {"WorkflowRunStarted", "WorkflowRunResumed"}:
            seen.status = "IN_PROGRESS"
        elif name == "WorkflowRunRequeued":
            seen.status = "PENDING"
        elif name == "WorkflowRunAwaitingUserInput":
            seen.status = "AWAITING_USER_INPUT"


def _parsed(ce_type: str, value: bytes) -> Any:
    """The message of a type such as `towpath.job_run.created.v1`; None for one that this reader does not know."""
    words = ce_type.removeprefix("towpath.").removesuffix(".v1").replace(".", "_").split("_")
    name = "".join(word.capitalize() for word in words)
    for module in _MODULES:
        if (message := getattr(module, name, None)) is not None:
            return message.FromString(value)
    return None
