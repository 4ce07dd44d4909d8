"""The demo of `make run`: log in to the demo shop, collect its orders, show what came of it.

It does what any user could do, with the client that people install: two workflows, one job, one run. Everything is
found again by its name, so that it may be repeated; a run that a crash left unfinished is watched on instead of
starting another one.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from towpath import Client, each, watch
from towpath.definition import Definition, parse_definition
from towpath.progress_view import ProgressView, marks
from towpath.resources import Artifact, Job, JobRun, Json, Workflow, WorkflowType
from towpath.text import printable, safe_file_name, size_text

PROVIDER = "demo_shop"
JOB_NAME = "Demo: collect the orders"
_PAGE_SIZE = 100
_ROWS_MAX = 8
_COLUMNS_MAX = 6
_CHECKED_BYTES_MAX = 16 * 1024 * 1024
_SHOWN_TYPES = ("extracted_data", "download")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """How the demo ended; `orders` are the rows that the run extracted, `files` what can be fetched."""

    ok: bool
    job_run_id: str
    resumed: bool
    orders: tuple[Json, ...]
    files: tuple[Artifact, ...]


def shipped_workflows() -> tuple[Definition, Definition]:
    """The definitions that come with the demo shop: the login, then the collecting."""
    login = _shipped("login.json", "Demo: log in to the shop", WorkflowType.LOGIN)
    return login, _shipped("collect_orders.json", "Demo: collect orders", WorkflowType.USER_DEFINED)


def run_demo(
    client: Client,
    *,
    shop_url: str,
    username: str,
    password: str,
    console: Console,
    run_ref: str = "demo",
    workflows: tuple[Definition, Definition] | None = None,
) -> DemoResult:
    """Carry out the demo against the platform of `client` and the shop at `shop_url`, talking to `console`.

    `run_ref` is the external id of the run: an unfinished one of the same reference is watched on. Blocks until the
    run has ended. KeyboardInterrupt passes through and leaves the run running; errors are those of `towpath.errors`.
    """
    definitions = workflows or shipped_workflows()
    console.print(Text.assemble(("Towpath demo", "bold"), f"  a browser collects the orders of the shop at {shop_url}"))
    job = _job(client, [_workflow(client, _at_shop(definition, shop_url)) for definition in definitions])
    run = _unfinished(client, job, run_ref)
    resumed = run is not None
    if run is None:
        known = {"shop_url": shop_url, "username": username, "password": password, "run_ref": secrets.token_hex(6)}
        run = client.jobs.run(job.id, external_id=run_ref, inputs=_wanted(definitions, known))
    else:
        console.print(Text("An earlier demo run was interrupted; here is how it goes on.", style="yellow"))
    console.print()
    ended = _watch(client, run, console)
    console.print()
    if not ended.ended_well:
        _tell_failure(client, ended, console)
        return DemoResult(ok=False, job_run_id=run.id, resumed=resumed, orders=(), files=())
    orders, shown = _results(client, ended, console)
    return DemoResult(ok=True, job_run_id=run.id, resumed=resumed, orders=orders, files=shown)


# ---------------------------------------------------------------- definitions


def _shipped(file: str, name: str, type_: WorkflowType) -> Definition:
    content = files("demo_shop").joinpath("workflows", file).read_bytes()
    found = parse_definition(content, file)
    return Definition(found.steps_json, found.name or name, found.source_provider or PROVIDER, found.type or type_)


def _at_shop(definition: Definition, shop_url: str) -> Definition:
    """The shop's port is known only now, and a run may go nowhere but where its definition says."""
    url = urlsplit(shop_url)
    steps = definition.steps_json | {"startOrigins": [f"{url.scheme}://{url.netloc}"]}
    return Definition(steps, definition.name, definition.source_provider, definition.type)


def _wanted(definitions: tuple[Definition, ...], known: Mapping[str, str]) -> Json:
    asked = {name for d in definitions for name in d.steps_json.get("inputSchema", {}).get("properties", {})}
    return {name: value for name, value in known.items() if name in asked}


def _workflow(client: Client, wanted: Definition) -> Workflow:
    name, type_ = wanted.name or JOB_NAME, wanted.type or WorkflowType.USER_DEFINED
    provider = wanted.source_provider or PROVIDER
    listed = each(lambda page: client.workflows.list(source_provider=provider, page=page, page_size=_PAGE_SIZE))
    same = next((w for w in listed if w.name == name and w.type is type_), None)
    if same is None:
        return client.workflows.create(name=name, source_provider=provider, type_=type_, steps_json=wanted.steps_json)
    if client.workflows.get(same.id).steps_json == wanted.steps_json:
        return same
    return client.workflows.change(same.id, steps_json=wanted.steps_json)


def _job(client: Client, workflows: list[Workflow]) -> Job:
    provider, order = workflows[0].source_provider, tuple(w.id for w in workflows)
    listed = each(lambda page: client.jobs.list(source_provider=provider, page=page, page_size=_PAGE_SIZE))
    same = next((job for job in listed if job.name == JOB_NAME), None)
    if same is None:
        return client.jobs.create(name=JOB_NAME, source_provider=provider, workflow_ids=order)
    if same.job_config_json.workflow_execution_order == order:
        return same
    return client.jobs.change(same.id, workflow_ids=order)


def _unfinished(client: Client, job: Job, run_ref: str) -> JobRun | None:
    newest = client.job_runs.list(job_id=job.id, external_id=run_ref, page_size=_PAGE_SIZE).data
    return next((run for run in newest if not run.ended), None)


# ---------------------------------------------------------------- what is shown


def _watch(client: Client, run: JobRun, console: Console) -> JobRun:
    with ProgressView(console, monotonic=client.surroundings.monotonic) as view:
        for progress in watch(client, run.id):
            view.show(progress)
    return client.job_runs.get(run.id)


def _tell_failure(client: Client, run: JobRun, console: Console) -> None:
    console.print(Text(f"Look at the run:  towpath run show {run.id}"), soft_wrap=True)
    pictures = client.artifacts.list(job_run_id=run.id, type_="screenshot").data
    if pictures:
        console.print(Text(f"See its picture:  towpath artifact get {pictures[0].id}"), soft_wrap=True)


def _results(client: Client, run: JobRun, console: Console) -> tuple[tuple[Json, ...], tuple[Artifact, ...]]:
    listed = each(lambda page: client.artifacts.list(job_run_id=run.id, page=page, page_size=_PAGE_SIZE))
    found = sorted(listed, key=lambda a: (a.type not in _SHOWN_TYPES, a.created_at is None, a.created_at, a.id))
    shown = tuple(client.artifacts.get(a.id) for a in found if a.type in _SHOWN_TYPES)
    orders: tuple[Json, ...] = ()
    for artifact in shown:
        if artifact.type == "extracted_data" and artifact.mime_type.startswith("application/json"):
            orders += _rows_in(msgspec.json.decode(client.artifacts.read(artifact.id)))
    _show_orders(orders, console)
    _show_files(client, shown, console)
    if more := len(found) - len(shown):
        console.print(Text(f"{more} more (pictures, logs): towpath artifact list --run {run.id}", style="dim"))
    return orders, shown


def _rows_in(document: Any) -> tuple[Json, ...]:
    """The first list of objects in `document`, which extracted data wraps in objects of different depth."""
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        return tuple(document)
    if isinstance(document, dict):
        return next((rows for value in document.values() if (rows := _rows_in(value))), ())
    return ()


def _show_orders(orders: tuple[Json, ...], console: Console) -> None:
    console.print(Text(f"{len(orders)} order{'' if len(orders) == 1 else 's'} extracted", style="bold"))
    if not orders:
        return
    # Boxes are for people: a file or a pipe gets columns.
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, header_style="bold")
    columns = list(dict.fromkeys(key for row in orders for key in row))[:_COLUMNS_MAX]
    for column in columns:
        numbers = all(isinstance(row.get(column), int | float) for row in orders)
        table.add_column(
            Text(printable(column)), justify="right" if numbers else "left", overflow="ellipsis", no_wrap=True
        )
    for row in orders[:_ROWS_MAX]:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    console.print(table)
    if len(orders) > _ROWS_MAX:
        console.print(Text(f"... and {len(orders) - _ROWS_MAX} more", style="dim"))
    console.print()


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | dict():
            return f"{len(value)} inside"
        case _:
            return printable(str(value))


def _show_files(client: Client, shown: tuple[Artifact, ...], console: Console) -> None:
    if not shown:
        return
    console.print(Text.assemble(("Files", "bold"), ("  these addresses need no key and live 15 minutes", "dim")))
    good, _, passed_over = marks(console)
    for artifact in shown:
        name = safe_file_name(artifact.display_name) or artifact.id
        checked = artifact.file_size <= _CHECKED_BYTES_MAX
        if checked:
            client.artifacts.read(artifact.id, bytes_max=_CHECKED_BYTES_MAX)
        facts = printable(f"  {size_text(artifact.file_size)}  {artifact.mime_type}")
        url = urljoin(f"{client.url}/", artifact.signed_url or "")
        lines = (
            Text.assemble((f"  {good if checked else passed_over} ", "green"), name, (facts, "dim")),
            Text.assemble(("    sha256 ", "dim"), artifact.file_hash),
            Text(f"    curl -o {shlex.quote(name)} {shlex.quote(url)}"),
        )
        for line in lines:
            # Soft wrapping keeps a long address copyable.
            console.print(line, soft_wrap=True)
