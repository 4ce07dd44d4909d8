"""`towpath job`: definitions of jobs, and starting them."""

from __future__ import annotations

from typing import Unpack

import click

from towpath.commands.shared import App, json_option, pass_app, print_fields, print_json, print_rows, waiting
from towpath.commands.starting import StartOptions, begin, start_options
from towpath.resources import Job, JobRun, Json


@click.group()
def job() -> None:
    """Make, look at and run jobs."""


@job.command()
@click.argument("workflow_ids", metavar="WORKFLOW_ID...", type=click.UUID, nargs=-1, required=True)
@click.option("--name", required=True, help="Name of the job.")
@click.option("--provider", required=True, help="Provider of the job and of all its workflows.")
@json_option
@pass_app
def create(app: App, *, workflow_ids: tuple[object, ...], name: str, provider: str, as_json: bool) -> None:
    """Make a job that runs the given workflows one after another."""
    with waiting("Making the job"):
        made = app.client.jobs.create(
            name=name, source_provider=provider, workflow_ids=[str(workflow_id) for workflow_id in workflow_ids]
        )
    _print(made, as_json=as_json)


@job.command("list")
@click.option("--provider", help="Only those of this provider.")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def list_(app: App, *, provider: str | None, page: int, page_size: int, as_json: bool) -> None:
    """List jobs, newest first."""
    with waiting("Reading jobs"):
        found = app.client.jobs.list(source_provider=provider, page=page, page_size=page_size)
    if as_json:
        print_json(found)
        return
    rows = [(j.id, j.name, j.source_provider, len(j.job_config_json.workflow_execution_order)) for j in found.data]
    print_rows(("id", "name", "provider", "workflows"), rows, empty="No jobs.")


@job.command()
@click.argument("job_id", type=click.UUID)
@json_option
@pass_app
def show(app: App, *, job_id: object, as_json: bool) -> None:
    """Show one job."""
    with waiting("Reading the job"):
        found = app.client.jobs.get(str(job_id))
    _print(found, as_json=as_json)


@job.command()
@click.argument("job_id", type=click.UUID)
@click.option("--force", is_flag=True, help="Also while a link to it is open.")
@pass_app
def delete(app: App, *, job_id: object, force: bool) -> None:
    """Delete a job; its runs stay."""
    with waiting("Deleting the job"):
        app.client.jobs.delete(str(job_id), force=force)
    click.echo("Deleted.", err=True)


@job.command("run")
@click.argument("job_id", type=click.UUID)
@start_options
@json_option
@pass_app
def run_job(app: App, *, job_id: object, **options: Unpack[StartOptions]) -> None:
    """Start a run of a job. With --watch the exit code is 1 when the run fails."""

    def start(inputs: Json | None, external_id: str | None, test_mode: bool) -> JobRun:  # noqa: FBT001 (a callback)
        return app.client.jobs.run(str(job_id), external_id=external_id, inputs=inputs, test_mode=test_mode)

    begin(app, start, **options)


def _print(found: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    schedule = found.schedule
    print_fields(
        {
            "id": found.id,
            "name": found.name,
            "provider": found.source_provider,
            "workflows": " ".join(found.job_config_json.workflow_execution_order),
            "schedule": f"{schedule.cron} ({schedule.time_zone})" if schedule else None,
            "created": found.created_at,
            "updated": found.updated_at,
        }
    )
