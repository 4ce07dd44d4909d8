"""`towpath artifact`: what runs produced."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from towpath.client import find_run
from towpath.commands.shared import App, err, json_option, pass_app, print_json, print_rows, waiting
from towpath.resources import Artifact, JobRun
from towpath.text import safe_file_name


@click.group()
def artifact() -> None:
    """List and download what runs produced."""


@artifact.command("list")
@click.option("--run", "run_id", type=click.UUID, help="Only those of this job run or workflow run.")
@click.option("--type", "type_", help="Only this type, such as extracted_data, download or screenshot.")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def list_(app: App, *, run_id: object | None, type_: str | None, page: int, page_size: int, as_json: bool) -> None:
    """List artifacts, newest first."""
    with waiting("Reading artifacts"):
        run = find_run(app.client, str(run_id)) if run_id else None
        of_job = run.id if isinstance(run, JobRun) else None
        of_workflow = run.id if run and of_job is None else None
        found = app.client.artifacts.list(
            job_run_id=of_job, workflow_run_id=of_workflow, type_=type_, page=page, page_size=page_size
        )
    if as_json:
        print_json(found)
        return
    rows = [(a.id, a.type, a.display_name, a.file_size) for a in found.data]
    print_rows(("id", "type", "name", "bytes"), rows, empty="No artifacts.")


@artifact.command("get")
@click.argument("artifact_id", type=click.UUID)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File or folder to write to; default is its own name, here."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
@pass_app
def get(app: App, *, artifact_id: object, output: Path | None, force: bool, as_json: bool) -> None:
    """Download an artifact and check its SHA-256; goes on where an earlier download broke off."""
    with waiting("Reading the artifact"):
        wanted = app.client.artifacts.get(str(artifact_id))
    target = _target(wanted, output)
    if target.exists() and not force:
        if target.is_file() and _sha256(target) == wanted.file_hash:
            _print(wanted, target, "is already here", as_json=as_json)
            return
        raise click.UsageError(f"{target} is there and differs; take another --output, or replace it with --force.")
    _download(app, wanted, target)
    _print(wanted, target, "downloaded", as_json=as_json)


def _target(wanted: Artifact, output: Path | None) -> Path:
    name = safe_file_name(wanted.display_name) or wanted.id
    if output is None:
        return Path(name)
    return output / name if output.is_dir() else output


def _download(app: App, wanted: Artifact, target: Path) -> None:
    console = err()
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(target.name, total=wanted.file_size)
        app.client.artifacts.download(
            wanted.id, target, on_progress=lambda done, total: progress.update(task, completed=done, total=total)
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _print(wanted: Artifact, target: Path, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(target), "artifact": wanted})
        return
    click.echo(f"{target} {what}: {wanted.file_size} bytes, sha256 {wanted.file_hash}")
