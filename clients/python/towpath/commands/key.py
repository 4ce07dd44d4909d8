"""`towpath key`: who may call the platform."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from towpath.commands.shared import App, json_option, pass_app, print_fields, print_json, print_rows, waiting
from towpath.resources import ApiKey, KeyLevel


@click.group()
def key() -> None:
    """Make, list and revoke API keys (with a key of level admin)."""


@key.command()
@click.option("--level", type=click.Choice([level.value for level in KeyLevel]), required=True, help="What it may do.")
@click.option("--description", default="", help="What it is for.")
@click.option("--expires", type=click.DateTime(), help="When it ends, UTC; without it never.")
@json_option
@pass_app
def create(app: App, *, level: str, description: str, expires: datetime | None, as_json: bool) -> None:
    """Make a key and print it; it is shown this once."""
    with waiting("Making the key"):
        made = app.client.api_keys.create(
            level=KeyLevel(level),
            description=description,
            expires_at=expires.replace(tzinfo=UTC) if expires else None,
        )
    if as_json:
        print_json(made)
        return
    _print(made, made.key or "made by an earlier try, whose answer was lost: revoke it and make another one")


@key.command("list")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def list_(app: App, *, page: int, page_size: int, as_json: bool) -> None:
    """List keys, newest first, revoked ones included."""
    with waiting("Reading keys"):
        found = app.client.api_keys.list(page=page, page_size=page_size)
    if as_json:
        print_json(found)
        return
    rows = [
        (each.id, each.public_id, each.level, each.description, each.last_used_at, each.expires_at, each.revoked_at)
        for each in found.data
    ]
    columns = ("id", "public id", "level", "description", "last used", "expires", "revoked")
    print_rows(columns, rows, empty="No keys.")


@key.command()
@click.argument("key_id", type=click.UUID)
@pass_app
def revoke(app: App, *, key_id: object) -> None:
    """End a key for good."""
    with waiting("Revoking the key"):
        app.client.api_keys.revoke(str(key_id))
    click.echo("Revoked.", err=True)


def _print(found: ApiKey, secret: str) -> None:
    print_fields(
        {
            "id": found.id,
            "key": secret,
            "level": found.level,
            "description": found.description or None,
            "expires": found.expires_at,
        }
    )
