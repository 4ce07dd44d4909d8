"""Runs of the demo job on the running product, started as the demo starts them, and the moments of their lives."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from embedded.demo import JOB_NAME
from kernel.domain.ids import JobRunId
from kernel.domain.task import StepFinished, StepStarted, TaskEnded, TaskStarted
from tests.support.platform_process import PlatformProcess, Told, Trace, shop_log, until
from towpath.client import Client
from towpath.resources import JobRun

EXTERNAL_ID = "demo"
ONCE = "mark_collected"
"""The step of effect `once` that the shop counts."""
RUN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DemoRun:
    """A run under way; `ref` is the reference under which the shop counts its collections."""

    id: JobRunId
    ref: str
    started_ms: int
    """Of the newest record before it: whatever is younger belongs to it or came later."""


def first_demo(client: Client) -> DemoRun:
    """The run that the product's own demo starts in a fresh folder. It is the one that logs in; later ones need not."""
    run = until(lambda: next(iter(client.job_runs.list(external_id=EXTERNAL_ID).data), None), 30, "the demo's run")
    return DemoRun(JobRunId(run.id), "", 0)


def start_run(product: PlatformProcess, client: Client, trace: Trace) -> DemoRun:
    """One more run of the demo's job, with a reference of its own."""
    before = max((told.time_ms for told in trace.read()), default=0)
    job = next(job for job in client.jobs.list(source_provider="demo_shop").data if job.name == JOB_NAME)
    ref = secrets.token_hex(6)
    shop_url = f"http://127.0.0.1:{product.port + 1}"
    inputs = {"shop_url": shop_url, "username": "demo", "password": "corner-goods", "run_ref": ref}
    run = client.jobs.run(job.id, external_id=EXTERNAL_ID, inputs=inputs)
    return DemoRun(JobRunId(run.id), ref, before)


def await_run(client: Client, run_id: str, seconds: float = RUN_SECONDS) -> JobRun:
    """The run, ended well."""

    def ended() -> JobRun | None:
        run = client.job_runs.get(run_id)
        return run if run.ended else None

    run: JobRun = until(ended, seconds, f"the end of run {run_id}", pause_seconds=0.05)
    assert run.ended_well, f"run {run_id} failed: {run.error_code} {run.error_message} {run.failed_step}"
    return run


# ---------------------------------------------------------------- moments

Moment = Callable[[PlatformProcess, Trace, DemoRun], object]
"""Returns as soon as the moment has come."""


def reports(told: Told, run: DemoRun, since_ms: int, report: type[Any]) -> bool:
    """Whether a record is such a report of this run, younger than `since_ms`."""
    event: Any = told.event
    return told.time_ms > since_ms and isinstance(event, report) and event.root_run_id == run.id


def after(report: type[Any], path: str = "") -> Moment:
    """When the run has reported this: `TaskStarted`, or a `StepStarted` or `StepFinished` of `path`."""

    def reported(told: Told, run: DemoRun) -> bool:
        event: Any = told.event
        return reports(told, run, run.started_ms, report) and (not path or event.path == path)

    return lambda product, trace, run: trace.await_one(
        lambda told: reported(told, run), RUN_SECONDS, f"{report.__name__} {path}"
    )


def collected() -> Moment:
    """When the shop has seen the button pressed; the runner does not know that yet."""

    def seen(product: PlatformProcess, run: DemoRun) -> bool:
        entries = shop_log(product.data)
        return any(entry["event"] == "collected" and entry["run_ref"] == run.ref for entry in entries)

    return lambda product, _, run: until(lambda: seen(product, run), RUN_SECONDS, "the shop sees the collection")


LOGIN_MOMENTS: dict[str, Moment] = {
    "the login page is open": after(StepFinished, "open_login"),
    "the login was announced": after(StepStarted, "log_in"),
    "the login was reported": after(StepFinished, "log_in"),
}
"""Of the first run in a folder: later ones find their login saved."""
MOMENTS: dict[str, Moment] = {
    "the first task has begun": after(TaskStarted),
    "the first task has ended": after(TaskEnded),
    "the orders are open": after(StepFinished, "open_orders"),
    "the orders were read": after(StepFinished, "read_orders"),
    "the orders were saved": after(StepFinished, "save_csv"),
    "an invoice was saved": after(StepFinished, "save_invoices[1].save_invoice"),
    "the export is open": after(StepFinished, "open_export"),
    "the click was announced": after(StepStarted, ONCE),
    "the click has landed": collected(),
    "the click was reported": after(StepFinished, ONCE),
}
