"""Jobs whose steps only compare numbers: what goes through every service and needs neither page nor site."""

from __future__ import annotations

import time
from typing import Any

from towpath.client import Client
from towpath.resources import WorkflowType

STEPS: dict[str, Any] = {
    "version": 1,
    "steps": [{"id": f"proof_{number}", "type": "assert", "params": {"that": ["1 < 2"]}} for number in range(3)],
}


def make_job(client: Client) -> str:
    """A job of two workflows without pages."""
    workflows = [
        client.workflows.create(
            name=f"Proof {number}", source_provider="proofs", type_=WorkflowType.USER_DEFINED, steps_json=STEPS
        )
        for number in range(2)
    ]
    return client.jobs.create(name="Proofs", source_provider="proofs", workflow_ids=[one.id for one in workflows]).id


def run_job(client: Client, job_id: str, seconds: float = 30.0) -> None:
    """One run, from the POST to its good end."""
    run = client.jobs.run(job_id, external_id="customer-1")
    deadline = time.monotonic() + seconds
    while not run.ended:
        assert time.monotonic() < deadline, f"run {run.id} is {run.status}"
        time.sleep(0.05)
        run = client.job_runs.get(run.id)
    assert run.ended_well, f"{run.error_code}: {run.error_message}"
