"""`towpath input`: questions of runs, and answering them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from towpath.commands.shared import App, json_option, pass_app, print_json, print_rows, waiting
from towpath.inputs import collect
from towpath.progress_view import words
from towpath.resources import InputField, InputRequest, InputRequestStatus
from towpath.text import printable


@click.group("input")
def input_() -> None:
    """See and answer questions that runs ask."""


@input_.command("list")
@click.option(
    "--status", type=click.Choice([*InputRequestStatus, "all"], case_sensitive=False), default="OPEN", show_default=True
)
@click.option("--run", "workflow_run_id", type=click.UUID, help="Only those of this workflow run.")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def list_(app: App, *, status: str, workflow_run_id: object | None, page: int, page_size: int, as_json: bool) -> None:
    """List questions, newest first."""
    with waiting("Reading questions"):
        found = app.client.input_requests.list(
            status=None if status == "all" else InputRequestStatus(status),
            workflow_run_id=str(workflow_run_id) if workflow_run_id else None,
            page=page,
            page_size=page_size,
        )
    if as_json:
        print_json(found)
        return
    rows = [(r.id, r.kind, words(r.status), r.prompt, r.expires_at) for r in found.data]
    print_rows(("id", "kind", "status", "question", "expires"), rows, empty="No run waits for an answer.")


@input_.command()
@click.argument("input_request_id", type=click.UUID)
@click.option("--value", "pairs", metavar="NAME=VALUE", multiple=True, help="An answer; NAME=@FILE reads the value.")
@click.option(
    "--values", "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON object of answers.",
)  # fmt: skip
@click.option("--secret", "secrets", metavar="NAME", multiple=True, help="An answer that is asked for, hidden.")
@json_option
@pass_app
def answer(
    app: App,
    *,
    input_request_id: object,
    pairs: tuple[str, ...],
    file: Path | None,
    secrets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Answer a question; what is not given is asked for."""
    values = collect(pairs, file, secrets, lambda name: click.prompt(name, hide_input=True, err=True))
    with waiting("Reading the question"):
        request = app.client.input_requests.get(str(input_request_id))
    if request.status is InputRequestStatus.OPEN:
        missing = [field for field in request.fields if field.name not in values]
        if missing:
            click.echo(printable(request.prompt), err=True)
        values |= {field.name: _ask(field) for field in missing}
    with waiting("Sending the answer"):
        answered = app.client.input_requests.answer(request.id, values)
    _print(answered, as_json=as_json)


def _ask(field: InputField) -> Any:
    label = printable(field.label or field.name)
    if field.kind == "confirm":
        return click.confirm(label, err=True)
    if field.options:
        return click.prompt(label, type=click.Choice(field.options), err=True)
    return click.prompt(label, hide_input=field.secret, err=True)


def _print(request: InputRequest, *, as_json: bool) -> None:
    if as_json:
        print_json(request)
        return
    click.echo(f"{words(request.status)}; the run {request.workflow_run_id} goes on.")
