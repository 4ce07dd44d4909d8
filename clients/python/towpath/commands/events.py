"""`towpath events`: what happened in a run, or in everything, as subscribers see it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from towpath.client import Client, find_run
from towpath.commands.log_tail import PUBLIC_TOPICS, Wanted, since, tail_log
from towpath.commands.shared import App, json_option, pass_app, print_json
from towpath.resources import Event, JobRun, WorkflowRun
from towpath.text import printable

_WAIT_SECONDS = 1.0


@click.group()
def events() -> None:
    """Follow events: of one run by the API, or of everything by the event log."""


@events.command()
@click.argument("run_id", required=False, type=click.UUID)
@click.option("--follow/--no-follow", default=None, help="Go on; the default without RUN_ID.")
@click.option("--kafka", envvar="TOWPATH_KAFKA", metavar="HOST:PORT,...", help="Brokers of the event log.")
@click.option("--prefix", envvar="TOWPATH_TOPIC_PREFIX", default="towpath", show_default=True, help="Of topic names.")
@click.option("--topic", "topics", multiple=True, default=PUBLIC_TOPICS, show_default=True, help="May be repeated.")
@click.option("--type", "types", multiple=True, help="Such as job_run.completed or 'job_run.*'; may be repeated.")
@click.option("--run", "run", type=click.UUID, help="Only what belongs to this run.")
@click.option("--from", "start", default="now", show_default=True, help="beginning, now, an age (15m), or a time.")
@click.option("--unseal", is_flag=True, help="Open sealed values; needs a key of level events.")
@click.option("-X", "options", multiple=True, metavar="NAME=VALUE", help="Configuration of librdkafka, as it is.")
@json_option
@pass_app
def tail(  # one parameter per option of the command
    app: App,
    *,
    run_id: object,
    follow: bool | None,
    kafka: str | None,
    prefix: str,
    topics: tuple[str, ...],
    types: tuple[str, ...],
    run: object,
    start: str,
    unseal: bool,
    options: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print events, oldest first, one a line.

    With RUN_ID: the events of a job run or workflow run, by the API. Without: records of the event log, read at the
    brokers (pip install 'towpath[kafka]'); nothing is committed there and nobody is disturbed.
    """
    try:
        if run_id is not None:
            _tail_run(app, str(run_id), follow=bool(follow), as_json=as_json)
            return
        if not kafka:
            raise click.UsageError("Name a run, or the brokers of the event log: --kafka HOST:PORT or TOWPATH_KAFKA.")
        since_ms = since(start, app.surroundings.now())
        wanted = Wanted(topics, types, str(run or ""), follow is not False, since_ms, unseal, as_json)
        tail_log(app, kafka, prefix, _pairs(options), wanted)
    except KeyboardInterrupt:
        click.echo("\nStopped following; runs go on.", err=True)
        click.get_current_context().exit(130)


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    found = {name: value for name, equals, value in (option.partition("=") for option in options) if equals}
    if len(found) < len(options):
        raise click.UsageError("-X takes NAME=VALUE, each name once.")
    return found


def _tail_run(app: App, run_id: str, *, follow: bool, as_json: bool) -> None:
    for event in _events(app.client, find_run(app.client, run_id), follow=follow):
        if as_json:
            print_json(event)
        else:
            click.echo(_line(event))


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
