"""Following a run from outside: looks at it again and again until it has ended, and tells what changed.

A look is a `RunProgress`: the run, its workflows in order, the steps that ended. `changes` compares two looks and is
pure; the terminal, the plain output and the JSON lines all show those changes. A server that restarts in between is
waited for; each look tells whether it is fresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from towpath.client import Client, each, find_run
from towpath.errors import ApiError, Unreachable
from towpath.resources import JobRun, Step, WorkflowRun
from towpath.transport import RETRIED

LOOK_SECONDS = 0.5
LOOK_SECONDS_MAX = 3.0
_CALM_LOOKS = 40
"""After so many looks without a change the pause grows, to leave the caller's rate limit alone."""
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class WorkflowProgress:
    """One workflow in the order of the run; `run` is None until its turn comes."""

    workflow_id: str
    name: str
    run: WorkflowRun | None = None
    steps: tuple[Step, ...] = ()
    """Steps that ended, of all attempts, in the order in which they ended."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """One look at a job run, or at a workflow run that is watched alone."""

    run: JobRun | WorkflowRun
    name: str
    workflows: tuple[WorkflowProgress, ...] = ()
    fresh: bool = True
    """False: the server did not answer, and this is what it last said."""

    @property
    def current(self) -> WorkflowProgress | None:
        """The workflow that is being carried out."""
        return next((w for w in self.workflows if w.run and not w.run.ended), None)


@dataclass(frozen=True, slots=True)
class WorkflowChanged:
    """A workflow run appeared, or its status is another one now."""

    position: int
    workflow: WorkflowProgress
    run: WorkflowRun
    appeared: bool


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step ended in some attempt."""

    workflow: WorkflowProgress
    step: Step


@dataclass(frozen=True, slots=True)
class RunChanged:
    """The watched run was seen for the first time, or its status is another one now."""

    progress: RunProgress
    appeared: bool


Change = RunChanged | WorkflowChanged | StepEnded


def changes(before: RunProgress | None, after: RunProgress) -> tuple[Change, ...]:
    """What is new in `after`, in the order in which a reader wants it."""
    found: list[Change] = []
    run_changed = before is None or before.run.status != after.run.status
    if run_changed and not after.run.ended:
        found.append(RunChanged(after, appeared=before is None))
    for position, workflow in enumerate(after.workflows):
        old = before.workflows[position] if before and position < len(before.workflows) else None
        found += _changes_of_workflow(position, old, workflow)
    if run_changed and after.run.ended:
        found.append(RunChanged(after, appeared=before is None))
    return tuple(found)


def _changes_of_workflow(position: int, old: WorkflowProgress | None, new: WorkflowProgress) -> list[Change]:
    if new.run is None:
        return []
    appeared = old is None or old.run is None
    other = appeared or (old is not None and old.run is not None and old.run.status != new.run.status)
    status = WorkflowChanged(position, new, new.run, appeared=False)
    found: list[Change] = [replace(status, appeared=True)] if appeared else []
    if other and not appeared and not new.run.ended:
        found.append(status)
    known = {(step.address, step.attempt) for step in old.steps} if old else set()
    found += [StepEnded(new, step) for step in new.steps if (step.address, step.attempt) not in known]
    if other and new.run.ended:
        found.append(status)
    return found


def watch(client: Client, run_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[RunProgress]:
    """Looks at the job run or workflow run, the first at once, the last when it has ended.

    Blocks between looks. ApiError when there is no such run; Unreachable when the server stays away for longer
    than `patience_seconds` (an unreachable server makes looks that are not `fresh` meanwhile).
    """
    looks = _Looks(client)
    run = find_run(client, run_id)
    last = looks.at(run)
    calm, heard = 0, client.surroundings.monotonic()
    yield last
    while not last.run.ended:
        pause = LOOK_SECONDS if calm < _CALM_LOOKS else LOOK_SECONDS_MAX
        client.surroundings.sleep(pause)
        try:
            now = looks.at(_again(client, run))
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in RETRIED:
                raise
            if client.surroundings.monotonic() - heard > patience_seconds:
                raise
            yield replace(last, fresh=False)
            continue
        heard = client.surroundings.monotonic()
        calm = calm + 1 if not changes(last, now) else 0
        last = now
        yield last


def _again(client: Client, run: JobRun | WorkflowRun) -> JobRun | WorkflowRun:
    return client.job_runs.get(run.id) if isinstance(run, JobRun) else client.workflow_runs.get(run.id)


@dataclass(slots=True)
class _Looks:
    """Remembers what cannot change any more: names, and workflow runs that have ended."""

    client: Client
    names: dict[str, str] = field(default_factory=dict)
    ended: dict[str, WorkflowProgress] = field(default_factory=dict)

    def at(self, run: JobRun | WorkflowRun) -> RunProgress:
        if isinstance(run, WorkflowRun):
            workflow = self._workflow(run.workflow_id, run)
            return RunProgress(run, workflow.name, (workflow,))
        workflows = []
        for position, workflow_id in enumerate(run.job_config_json_snapshot.workflow_execution_order):
            started = position < len(run.workflow_run_ids)
            workflows.append(
                self._started(workflow_id, run.workflow_run_ids[position])
                if started
                else WorkflowProgress(workflow_id, self._name_of_workflow(workflow_id))
            )
        return RunProgress(run, self._name_of_job(run.job_id), tuple(workflows))

    def _started(self, workflow_id: str, workflow_run_id: str) -> WorkflowProgress:
        known = self.ended.get(workflow_run_id)
        return known or self._workflow(workflow_id, self.client.workflow_runs.get(workflow_run_id))

    def _workflow(self, workflow_id: str, run: WorkflowRun) -> WorkflowProgress:
        found = each(lambda page: self.client.workflow_runs.steps(run.id, page=page))
        steps = {(step.address, step.attempt): step for step in found if step.status is not None}
        in_order = tuple(sorted(steps.values(), key=_end))
        progress = WorkflowProgress(workflow_id, self._name_of_workflow(workflow_id), run, in_order)
        if run.ended:
            self.ended[run.id] = progress
        return progress

    def _name_of_workflow(self, workflow_id: str) -> str:
        if workflow_id not in self.names:
            self.names[workflow_id] = _name(lambda: self.client.workflows.get(workflow_id).name, workflow_id)
        return self.names[workflow_id]

    def _name_of_job(self, job_id: str) -> str:
        if job_id not in self.names:
            self.names[job_id] = _name(lambda: self.client.jobs.get(job_id).name, job_id)
        return self.names[job_id]


def _name(read: Callable[[], str], resource_id: str) -> str:
    """The name, or the head of the id: a run outlives the deletion of what it carries out."""
    try:
        return read()
    except ApiError:
        return resource_id.partition("-")[0]


def _end(step: Step) -> tuple[int, datetime]:
    return step.attempt, step.finished_at or datetime.max.replace(tzinfo=UTC)
