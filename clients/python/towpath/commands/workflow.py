"""`towpath workflow`: definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

from towpath.commands.shared import App, json_option, pass_app, print_fields, print_json, print_rows, waiting
from towpath.commands.starting import StartOptions, begin, start_options
from towpath.definition import read_definition
from towpath.resources import Json, Workflow, WorkflowRun, WorkflowType


@click.group()
def workflow() -> None:
    """Make and look at workflows."""


@workflow.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name; needed when FILE holds the steps alone.")
@click.option("--provider", help="Provider the workflow is for, such as gusto.")
@click.option("--type", "type_", type=click.Choice(list(WorkflowType), case_sensitive=False), help="What it is.")
@json_option
@pass_app
def create(app: App, *, file: Path, name: str | None, provider: str | None, type_: str | None, as_json: bool) -> None:
    """Make a workflow from FILE, its steps as JSON or the whole body of the create call."""
    definition = read_definition(file)
    name = name or definition.name or file.stem
    provider = provider or definition.source_provider
    if provider is None:
        raise click.UsageError(f"{file} does not name its provider; give one with --provider.")
    kind = WorkflowType(type_) if type_ else definition.type or WorkflowType.USER_DEFINED
    with waiting("Making the workflow"):
        made = app.client.workflows.create(
            name=name, source_provider=provider, type_=kind, steps_json=definition.steps_json
        )
    _print(made, as_json=as_json)


@workflow.command("list")
@click.option("--provider", help="Only those of this provider.")
@click.option("--type", "type_", type=click.Choice(list(WorkflowType), case_sensitive=False), help="Only this type.")
@click.option("--name", help="Only those with this text in their name.")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def list_(
    app: App, *, provider: str | None, type_: str | None, name: str | None, page: int, page_size: int, as_json: bool
) -> None:
    """List workflows, newest first."""
    kind = WorkflowType(type_) if type_ else None
    with waiting("Reading workflows"):
        found = app.client.workflows.list(
            source_provider=provider, type_=kind, name=name, page=page, page_size=page_size
        )
    if as_json:
        print_json(found)
        return
    rows = [(w.id, w.name, w.source_provider, w.type, w.revision) for w in found.data]
    print_rows(("id", "name", "provider", "type", "revision"), rows, empty="No workflows.")


@workflow.command()
@click.argument("workflow_id", type=click.UUID)
@json_option
@pass_app
def show(app: App, *, workflow_id: object, as_json: bool) -> None:
    """Show one workflow and the names of its steps."""
    with waiting("Reading the workflow"):
        found = app.client.workflows.get(str(workflow_id))
    _print(found, as_json=as_json)
    steps = (found.steps_json or {}).get("steps", [])
    if not as_json and steps:
        rows = [(step.get("id"), step.get("type"), step.get("name")) for step in steps]
        print_rows(("step", "type", "name"), rows, empty="")


@workflow.command()
@click.argument("workflow_id", type=click.UUID)
@click.option("--force", is_flag=True, help="Also while jobs name it; they refuse to run until they are edited.")
@pass_app
def delete(app: App, *, workflow_id: object, force: bool) -> None:
    """Delete a workflow; it stays readable by its id."""
    with waiting("Deleting the workflow"):
        app.client.workflows.delete(str(workflow_id), force=force)
    click.echo("Deleted.", err=True)


@workflow.command()
@click.argument("workflow_id", type=click.UUID)
@click.argument("revision", type=click.IntRange(min=1), required=False)
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def revisions(app: App, *, workflow_id: object, revision: int | None, page: int, page_size: int, as_json: bool) -> None:
    """List the revisions of a workflow, or print the steps of one REVISION as JSON."""
    if revision is not None:
        with waiting("Reading the revision"):
            found = app.client.workflows.revision(str(workflow_id), revision)
        print_json(found if as_json else found.steps_json)
        return
    with waiting("Reading revisions"):
        listed = app.client.workflows.revisions(str(workflow_id), page=page, page_size=page_size)
    if as_json:
        print_json(listed)
        return
    print_rows(("revision", "created"), [(r.revision, r.created_at) for r in listed.data], empty="No revisions.")


@workflow.command("run")
@click.argument("workflow_id", type=click.UUID)
@start_options
@json_option
@pass_app
def run_workflow(app: App, *, workflow_id: object, **options: Unpack[StartOptions]) -> None:
    """Run one workflow alone. With --watch the exit code is 1 when the run fails."""

    def start(inputs: Json | None, external_id: str | None, test_mode: bool) -> WorkflowRun:  # noqa: FBT001 (a callback)
        return app.client.workflow_runs.create(
            workflow_id=str(workflow_id), external_id=external_id, inputs=inputs, test_mode=test_mode
        )

    begin(app, start, **options)


def _print(found: Workflow, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "id": found.id,
            "name": found.name,
            "provider": found.source_provider,
            "type": found.type,
            "revision": found.revision,
            "created": found.created_at,
            "updated": found.updated_at,
            "deleted": found.deleted_at,
        }
    )
