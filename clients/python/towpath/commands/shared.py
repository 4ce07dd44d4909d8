"""What every command needs: the client, the consoles, `--json`, tables, and errors in plain words.

Results go to standard output, everything else (progress, questions, advice) to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import click
import httpx
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from towpath import settings
from towpath.client import Client
from towpath.errors import ApiError, LogUnreachable, MissingApiKey, TowpathError, Unreachable
from towpath.text import printable
from towpath.transport import Surroundings

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (JSON lines for what goes on).")


@dataclass(slots=True)
class App:
    """What the commands take from outside; tests hand in their own network."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    network: httpx.BaseTransport | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """The one client of this call, made when it is first needed."""
        if self._client is None:
            at = settings.from_environment(self.environment)
            self._client = Client(at, surroundings=self.surroundings, network=self.network)
        return self._client

    def close(self) -> None:
        """Close the client if there is one."""
        if self._client is not None:
            self._client.close()


pass_app = click.make_pass_decorator(App)


def out() -> Console:
    """Standard output as it is now."""
    return Console(file=sys.stdout, highlight=False)


def err() -> Console:
    """Standard error as it is now."""
    return Console(file=sys.stderr, highlight=False)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner on standard error while the block runs; nothing when that is no terminal."""
    console = err()
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    with console.status(Text(text), spinner_style="cyan"):
        yield


def print_json(value: Any) -> None:
    """One JSON document on one line, as the API words it."""
    click.echo(msgspec.json.encode(value).decode())


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table on a terminal; elsewhere a line per row with tabs between, the columns' names first."""
    console = out()
    if not console.is_terminal:
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(_cell(value) for value in row))
        return
    if not rows:
        console.print(Text(empty, style="dim"))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """One resource: a line per field; None is left out."""
    console = out()
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        if value is not None:
            line = Text.assemble((f"{name:<{width}}", "dim"), "  ", _cell(value))
            console.print(line, soft_wrap=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    return printable(str(value))


_ADVICE = {
    "unauthenticated": "Set TOWPATH_API_KEY, or TOWPATH_DATA to the data folder of the platform.",
    "forbidden": "This key may not do that; use one with the level write (or admin; for sealed values: events).",
    "not_found": "Look the id up with `towpath workflow list`, `job list`, `run list`, `artifact list` or `key list`.",
    "inputs_missing": "Give them with --input name=value, --secret name or --inputs FILE.",
    "inputs_invalid": "Correct them with --input name=value, --secret name or --inputs FILE.",
    "empty_job": "Put workflows into it first: towpath job create --name NAME --provider PROVIDER WORKFLOW_ID...",
    "provider_mismatch": "All workflows of a job must have the job's provider.",
    "run_already_ended": "Nothing is left to stop; `towpath run show` tells how it ended.",
    "run_not_ended": "Wait until it has ended, or stop it: towpath run cancel.",
    "run_not_failed": "Repeat it from the start: towpath run retry --from start.",
    "run_not_retryable": "Start a new run instead: towpath job run.",
    "inputs_gone": "Start a new run with fresh inputs: towpath job run.",
    "input_already_answered": "Someone was faster; nothing is left to do.",
    "rate_limited": "Too many calls with this key; wait a minute and try again.",
    "last_admin_key": "Make another one first: towpath key create --level admin.",
    "unavailable": "The platform is starting, stopping or overloaded; try again in a moment.",
}


def explain(error: TowpathError) -> tuple[str, tuple[str, ...], str]:
    """What went wrong, the spots if there are any, and what to do next (may be empty)."""
    match error:
        case ApiError():
            spots = tuple(f"{d.path or '/'}: {d.message or d.code}" for d in error.details)
            advice = _ADVICE.get(error.code, "")
            if not advice and error.status >= 500:
                advice = f"Look for request {error.request_id or '(unknown)'} in the logs of the platform."
            return f"{error.message or error.code} ({error.code})", spots, advice
        case Unreachable():
            return str(error), (), "Is the platform running? Start it, or set TOWPATH_URL to where it is."
        case LogUnreachable():
            return str(error), (), "Are brokers and prefix the right ones, and may this user read the topic?"
        case MissingApiKey():
            advice = "Set TOWPATH_API_KEY, or TOWPATH_DATA to the platform's data folder, which holds the first key."
            return str(error), (), advice
        case _:
            return str(error), (), ""


def report(error: TowpathError) -> None:
    """Print `error` in plain words on standard error."""
    console = err()
    message, spots, advice = explain(error)
    console.print(Text.assemble(("Error: ", "bold red"), printable(message)), soft_wrap=True)
    for spot in spots:
        console.print(Text(f"  {printable(spot)}"), soft_wrap=True)
    if advice:
        console.print(Text(advice), soft_wrap=True)
