"""`towpath run`: job runs and workflow runs, by either id."""

from __future__ import annotations

import click

from towpath.client import each, find_run
from towpath.commands.shared import (
    App,
    err,
    json_option,
    out,
    pass_app,
    print_fields,
    print_json,
    print_rows,
    waiting,
)
from towpath.progress_view import ProgressView, failure_text, run_seconds, seconds_text, words
from towpath.resources import JobRun, Step, WorkflowRun
from towpath.text import printable
from towpath.watch import Change, RunChanged, RunProgress, StepEnded, WorkflowChanged, changes
from towpath.watch import watch as looks_of

_FAILED = 1
_INTERRUPTED = 130


@click.group()
def run() -> None:
    """Look at, watch, repeat and stop runs; ask why."""


@run.command("list")
@click.option("--job", "job_id", type=click.UUID, help="Only runs of this job.")
@click.option("--external-id", help="Only runs for this end customer.")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def list_(
    app: App, *, job_id: object | None, external_id: str | None, page: int, page_size: int, as_json: bool
) -> None:
    """List job runs, newest first."""
    with waiting("Reading runs"):
        found = app.client.job_runs.list(
            job_id=str(job_id) if job_id else None, external_id=external_id, page=page, page_size=page_size
        )
    if as_json:
        print_json(found)
        return
    rows = [(r.id, words(r.status), r.created_at, r.external_id) for r in found.data]
    print_rows(("id", "status", "created", "external id"), rows, empty="No runs.")


@run.command()
@click.argument("run_id", type=click.UUID)
@json_option
@pass_app
def show(app: App, *, run_id: object, as_json: bool) -> None:
    """Show a job run or a workflow run."""
    with waiting("Reading the run"):
        found = find_run(app.client, str(run_id))
    if as_json:
        print_json(found)
    else:
        print_run(found)


@run.command()
@click.argument("run_id", type=click.UUID)
@json_option
@pass_app
def watch(app: App, *, run_id: object, as_json: bool) -> None:
    """Show the progress of a run until it has ended; Ctrl-C stops watching, not the run."""
    follow(app, str(run_id), as_json=as_json)


@run.command()
@click.argument("run_id", type=click.UUID)
@json_option
@pass_app
def cancel(app: App, *, run_id: object, as_json: bool) -> None:
    """Ask a run to stop."""
    with waiting("Asking the run to stop"):
        found = find_run(app.client, str(run_id))
        calls = app.client.job_runs if isinstance(found, JobRun) else app.client.workflow_runs
        found = calls.cancel(found.id)
    if as_json:
        print_json(found)
        return
    print_run(found)
    if not found.ended:
        click.echo(f"It stops within seconds; see it with: towpath run watch {found.id}", err=True)


@run.command()
@click.argument("run_id", type=click.UUID)
@click.option(
    "--from", "begin", type=click.Choice(["failed", "start"]), default="failed", show_default=True,
    help="Begin at the workflow that failed, or at the first one.",
)  # fmt: skip
@click.option("--watch", "and_watch", is_flag=True, help="Show the progress of the new run until it has ended.")
@json_option
@pass_app
def retry(app: App, *, run_id: object, begin: str, and_watch: bool, as_json: bool) -> None:
    """Repeat a run that has ended, with the same snapshot and inputs."""
    with waiting("Repeating the run"):
        found = find_run(app.client, str(run_id))
        calls = app.client.job_runs if isinstance(found, JobRun) else app.client.workflow_runs
        again = calls.retry(found.id, begin=begin)
    if and_watch:
        follow(app, again.id, as_json=as_json)
    elif as_json:
        print_json(again)
    else:
        print_run(again)
        click.echo(f"Watch it: towpath run watch {again.id}", err=True)


@run.command()
@click.argument("run_id", type=click.UUID)
@json_option
@pass_app
def explain(app: App, *, run_id: object, as_json: bool) -> None:
    """Say why a run stands where it stands, what was tried and what comes next."""
    with waiting("Asking why"):
        found = find_run(app.client, str(run_id))
        calls = app.client.job_runs if isinstance(found, JobRun) else app.client.workflow_runs
        told = calls.explain(found.id)
    if as_json:
        print_json(told)
        return
    waits = told.waiting_for
    fields: dict[str, object] = {
        "workflow run": told.workflow_run_id, "status": words(told.state), "why": told.summary,
        "waits for": words(waits["kind"]) if waits else None, "next": told.next,
    }  # fmt: skip
    print_fields(fields | {f"hint {number}": hint for number, hint in enumerate(told.hints, start=1)})
    click.echo()
    print_rows(("time", "what happened"), [(line.time, line.text) for line in told.history], empty="Nothing yet.")


@run.command()
@click.argument("workflow_run_id", type=click.UUID)
@json_option
@pass_app
def steps(app: App, *, workflow_run_id: object, as_json: bool) -> None:
    """List the steps of a workflow run, all attempts."""
    with waiting("Reading steps"):
        found = list(each(lambda page: app.client.workflow_runs.steps(str(workflow_run_id), page=page)))
    if as_json:
        for step in found:
            print_json(step)
        return
    rows = [
        (
            s.attempt,
            s.address,
            s.kind,
            words(s.status or "in_progress"),
            s.tries,
            seconds_text(s.seconds),
            _why(s),
        )
        for s in found
    ]
    print_rows(("attempt", "step", "kind", "status", "tries", "took", "error"), rows, empty="No steps yet.")


def _why(step: Step) -> str | None:
    return None if step.error is None else ": ".join(part for part in (step.error.code, step.error.message) if part)


@run.command()
@click.argument("workflow_run_id", type=click.UUID)
@click.option("--kind", type=click.Choice(["step", "console", "network"]), help="Only entries of this kind.")
@json_option
@pass_app
def logs(app: App, *, workflow_run_id: object, kind: str | None, as_json: bool) -> None:
    """Print the log of a workflow run: steps, console and network."""
    for entry in app.client.workflow_runs.all_logs(str(workflow_run_id), kind=kind):
        if as_json:
            print_json(entry)
        else:
            time = entry.time.strftime("%H:%M:%S.%f")[:-3]
            click.echo(printable(f"{time}  {entry.attempt}  {entry.kind:<7}  {entry.level:<7}  {entry.message}"))


def follow(app: App, run_id: str, *, as_json: bool) -> None:
    """Show a run until it has ended, then leave with 0 or 1; an interrupt leaves the run alone."""
    try:
        ended_well = _follow_as_json(app, run_id) if as_json else _follow_as_text(app, run_id)
    except KeyboardInterrupt:
        click.echo("\nStopped watching; the run goes on.", err=True)
        click.echo(f"Watch it again: towpath run watch {run_id}", err=True)
        click.echo(f"Stop it:        towpath run cancel {run_id}", err=True)
        click.get_current_context().exit(_INTERRUPTED)
    if not ended_well:
        click.get_current_context().exit(_FAILED)


def _follow_as_text(app: App, run_id: str) -> bool:
    console = out()
    if console.is_terminal:
        err().print("[dim]Ctrl-C stops watching, not the run.[/dim]")
    last: RunProgress | None = None
    with ProgressView(console, monotonic=app.surroundings.monotonic) as view:
        for last in looks_of(app.client, run_id):
            view.show(last)
    return last is not None and last.run.ended_well


def _follow_as_json(app: App, run_id: str) -> bool:
    last: RunProgress | None = None
    for progress in looks_of(app.client, run_id):
        for change in changes(last, progress):
            print_json(_as_line(change))
        last = progress
    return last is not None and last.run.ended_well


def _as_line(change: Change) -> dict[str, object]:
    match change:
        case RunChanged(progress=progress):
            kind = "job_run" if isinstance(progress.run, JobRun) else "workflow_run"
            return {"type": kind, "name": progress.name, "object": progress.run}
        case WorkflowChanged(workflow=workflow, run=run):
            return {"type": "workflow_run", "name": workflow.name, "object": run}
        case StepEnded(workflow=workflow, step=step):
            run_id = workflow.run.id if workflow.run else None
            return {"type": "step", "workflowRunId": run_id, "object": step}


def print_run(found: JobRun | WorkflowRun) -> None:
    """Its fields, one a line."""
    is_job = isinstance(found, JobRun)
    fields: dict[str, object] = {"job run" if is_job else "workflow run": found.id, "status": words(found.status)}
    if isinstance(found, JobRun):
        fields |= {"job": found.job_id, "workflow runs": " ".join(found.workflow_run_ids) or None}
    else:
        asked = found.input_request_id
        fields |= {
            "workflow": found.workflow_id, "job run": found.job_run_id, "step": found.current_state_name,
            "waits for": f"an answer: towpath input answer {asked}" if asked else None,
        }  # fmt: skip
    fields |= {
        "external id": found.external_id, "test mode": "yes" if found.test_mode else None, "created": found.created_at,
        "took": seconds_text(run_seconds(found)) or None,
        "failed": failure_text(found) if found.ended and not found.ended_well else None,
    }  # fmt: skip
    print_fields(fields)
