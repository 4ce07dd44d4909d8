"""`towpath events`: what happened in a run, as subscribers see it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from towpath.client import Client, find_run
from towpath.commands.shared import App, json_option, pass_app, print_json
from towpath.resources import Event, JobRun, WorkflowRun
from towpath.text import printable

_WAIT_SECONDS = 1.0


@click.group()
def events() -> None:
    """Follow the events of a run."""


@events.command()
@click.argument("run_id", type=click.UUID)
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@json_option
@pass_app
def tail(app: App, *, run_id: object, follow: bool, as_json: bool) -> None:
    """Print the events of a job run or workflow run, oldest first, one a line."""
    run = find_run(app.client, str(run_id))
    try:
        for event in _events(app.client, run, follow=follow):
            if as_json:
                print_json(event)
            else:
                click.echo(_line(event))
    except KeyboardInterrupt:
        click.echo("\nStopped following; the run goes on.", err=True)
        click.get_current_context().exit(130)


def _events(client: Client, run: JobRun | WorkflowRun, *, follow: bool) -> Iterator[Event]:
    for workflow_run_id in _workflow_runs(client, run, follow=follow):
        if follow:
            yield from client.workflow_runs.follow(workflow_run_id)
        else:
            yield from client.workflow_runs.all_events(workflow_run_id)


def _workflow_runs(client: Client, run: JobRun | WorkflowRun, *, follow: bool) -> Iterator[str]:
    """Ids in order; with `follow`, those that come later too."""
    if isinstance(run, WorkflowRun):
        yield run.id
        return
    seen = 0
    while True:
        yield from run.workflow_run_ids[seen:]
        seen = len(run.workflow_run_ids)
        if run.ended or not follow:
            return
        run = client.job_runs.get(run.id)
        if not run.ended and len(run.workflow_run_ids) == seen:
            client.surroundings.sleep(_WAIT_SECONDS)


def _line(event: Event) -> str:
    created = event.created.strftime("%H:%M:%S.%f")[:-3] if event.created else "-"
    thing = event.data.get("object")
    about = (
        [str(thing[key]) for key in ("name", "status", "displayName") if key in thing]
        if isinstance(thing, dict)
        else []
    )
    failed = event.data.get("error_message")
    return printable("  ".join([created, event.type, *about, *([str(failed)] if failed else [])]))
