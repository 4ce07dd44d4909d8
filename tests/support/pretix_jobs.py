"""What a customer of Towpath does with pretix: workflows, jobs of them, runs. Only the public API is used.

The workflows stand beside the tests as a customer would write them, for a host named `pretix.example`; where pretix
really runs is put in its place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.platform_process import until
from tests.support.pretix import Pretix
from tools import pretix as installed
from towpath.client import Client
from towpath.resources import Artifact, JobRun, Step, WorkflowRun, WorkflowType

HOST = "http://pretix.example"
PROVIDER = "pretix"
RUN_SECONDS = 180.0


def steps_json(name: str, site: Pretix) -> dict[str, Any]:
    """The document of a workflow beside the tests."""
    text = (installed.TESTS / "workflows" / f"{name}.json").read_text()
    document: dict[str, Any] = json.loads(text.replace(HOST, site.url))
    return document


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer's way to one pretix, through one running product."""

    client: Client
    site: Pretix
    external_id: str = "corner"

    def define(self, name: str) -> str:
        """The id of a workflow; made at the first call."""
        known = self.client.workflows.list(source_provider=PROVIDER, page_size=100).data
        same = next((workflow for workflow in known if workflow.name == name), None)
        if same is not None:
            return same.id
        kind = WorkflowType.LOGIN if name == "login" else WorkflowType.USER_DEFINED
        made = self.client.workflows.create(
            name=name, source_provider=PROVIDER, type_=kind, steps_json=steps_json(name, self.site)
        )
        return made.id

    def job(self, *names: str) -> str:
        """The id of the job that does these workflows in this order; made at the first call."""
        wanted = "+".join(names)
        known = self.client.jobs.list(source_provider=PROVIDER, page_size=100).data
        same = next((job for job in known if job.name == wanted), None)
        if same is not None:
            return same.id
        order = tuple(self.define(name) for name in names)
        return self.client.jobs.create(name=wanted, source_provider=PROVIDER, workflow_ids=order).id

    def start(self, *names: str, **inputs: Any) -> str:
        """Begin a run of such a job with the account's secrets and `inputs`; its id."""
        given = self.site.account.inputs() | inputs
        return self.client.jobs.run(self.job(*names), external_id=self.external_id, inputs=given).id

    def ended(self, run_id: str, seconds: float = RUN_SECONDS) -> JobRun:
        """The run at its end, whatever that is."""

        def found() -> JobRun | None:
            run = self.client.job_runs.get(run_id)
            return run if run.ended else None

        run: JobRun = until(found, seconds, f"the end of run {run_id}", pause_seconds=0.05)
        return run

    def done(self, *names: str, **inputs: Any) -> JobRun:
        """A whole run that must end well."""
        return self.well(self.start(*names, **inputs))

    def well(self, run_id: str) -> JobRun:
        """The run at its end, which must be a good one."""
        run = self.ended(run_id)
        assert run.ended_well, f"{run.error_code}: {run.error_message} at {run.failed_step}; {self.told(run)}"
        return run

    # ------------------------------------------------------------ what came of it

    def workflow_run(self, run: JobRun, name: str) -> WorkflowRun:
        """The run of one workflow inside a job run."""
        wanted = self.define(name)
        found = [self.client.workflow_runs.get(id_) for id_ in run.workflow_run_ids]
        return next(one for one in found if one.workflow_id == wanted)

    def steps(self, run: JobRun, name: str) -> list[Step]:
        """The steps of one workflow inside a job run, in the order they ended."""
        return list(self.client.workflow_runs.steps(self.workflow_run(run, name).id).data)

    def told(self, run: JobRun) -> list[str]:
        """A line per step of the whole job run, for people who read a failure."""
        return [
            f"{step.address} attempt {step.attempt}: {step.status} {step.error or ''}"
            for id_ in run.workflow_run_ids
            for step in self.client.workflow_runs.steps(id_).data
        ]

    def artifacts(self, run: JobRun, type_: str) -> list[Artifact]:
        """The artifacts of one type, by name."""
        found = self.client.artifacts.list(job_run_id=run.id, type_=type_, page_size=100).data
        return sorted(found, key=lambda artifact: artifact.display_name)

    def read(self, run: JobRun, type_: str, name: str) -> tuple[bytes, str]:
        """Bytes and media type of the one artifact of a run with this type and name."""
        named = [one for one in self.artifacts(run, type_) if one.display_name == name]
        (only,) = named
        return self.client.artifacts.read(only.id), only.mime_type
