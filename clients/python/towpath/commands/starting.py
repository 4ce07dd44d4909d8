"""What starting a job and starting a workflow have in common: inputs, for whom, test mode, watching."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import click

from towpath.commands.run import follow, print_run
from towpath.commands.shared import App, print_json, waiting
from towpath.inputs import collect
from towpath.resources import JobRun, Json, WorkflowRun

F = TypeVar("F", bound=Callable[..., Any])


class StartOptions(TypedDict):
    """The options of `start_options`, by the names that click gives them."""

    pairs: tuple[str, ...]
    file: Path | None
    secrets: tuple[str, ...]
    external_id: str | None
    test_mode: bool
    watch: bool
    as_json: bool


_OPTIONS = (
    click.option("--input", "pairs", metavar="NAME=VALUE", multiple=True, help="An input; NAME=@FILE reads the value."),
    click.option(
        "--inputs", "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A JSON object of inputs.",
    ),
    click.option("--secret", "secrets", metavar="NAME", multiple=True, help="An input that is asked for, hidden."),
    click.option("--external-id", help="Your id of the end customer this run is for."),
    click.option("--test", "test_mode", is_flag=True, help="Run in test mode: marked, and without webhooks."),
    click.option("--watch", is_flag=True, help="Show the progress until the run has ended."),
)  # fmt: skip


def start_options(command: F) -> F:
    """Give a command the options of a start, in their order."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


def begin(
    app: App, start: Callable[[Json | None, str | None, bool], JobRun | WorkflowRun], **options: Unpack[StartOptions]
) -> None:
    """Collect the inputs, `start(inputs, external id, test mode)`, then watch or tell.

    With `watch` the exit code is 1 when the run fails.
    """
    inputs = collect(
        options["pairs"],
        options["file"],
        options["secrets"],
        lambda name: click.prompt(name, hide_input=True, err=True),
    )
    with waiting("Starting the run"):
        started = start(inputs or None, options["external_id"], options["test_mode"])
    if options["watch"]:
        follow(app, started.id, as_json=options["as_json"])
    elif options["as_json"]:
        print_json(started)
    else:
        print_run(started)
        click.echo(f"Watch it with: towpath run watch {started.id}", err=True)
