"""`towpath provider`: the web applications that workflows are written for."""

from __future__ import annotations

import click

from towpath.client import ProviderFields
from towpath.commands.shared import App, json_option, pass_app, print_fields, print_json, print_rows, waiting
from towpath.errors import ApiError
from towpath.resources import HealthWindow, Provider, ProviderHealth

_CLEARABLE = {
    "logo-url": ProviderFields(logo_url=None),
    "login-url": ProviderFields(login_url=None),
    "domains": ProviderFields(allowed_domains=()),
    "default-job": ProviderFields(default_job_id=None),
    "concurrency": ProviderFields(concurrency=None),
}


@click.group()
def provider() -> None:
    """Look at providers and register them (with a key of level admin)."""


@provider.command("list")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@pass_app
def list_(app: App, *, page: int, page_size: int, as_json: bool) -> None:
    """List providers, newest first."""
    with waiting("Reading providers"):
        found = app.client.providers.list(page=page, page_size=page_size)
    if as_json:
        print_json(found)
        return
    rows = [
        (p.slug, p.display_name, " ".join(p.allowed_domains), p.concurrency, p.health and p.health.status)
        for p in found.data
    ]
    print_rows(("slug", "name", "domains", "concurrency", "health"), rows, empty="No providers.")


@provider.command()
@click.argument("slug")
@json_option
@pass_app
def get(app: App, *, slug: str, as_json: bool) -> None:
    """Show a provider, and how the runs of the last hour fared there."""
    with waiting("Reading the provider"):
        found = app.client.providers.get(slug)
    if as_json:
        print_json(found)
        return
    _print(found)


@provider.command("set")
@click.argument("slug")
@click.option("--name", "display_name", help="Name for people.")
@click.option("--logo-url", help="Where its picture is.")
@click.option("--login-url", help="Where its login page is.")
@click.option(
    "--domain", "domains", multiple=True, help="Host its workflows may reach; a leading dot: sub-domains, too."
)
@click.option("--default-job", type=click.UUID, help="Job for calls that name only the provider.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), help="How many of its workflow runs may work at once.")
@click.option("--clear", multiple=True, type=click.Choice(list(_CLEARABLE)), help="Take this away.")
@json_option
@pass_app
def set_(
    app: App,
    /,
    *,
    slug: str,
    domains: tuple[str, ...],
    default_job: object | None,
    clear: tuple[str, ...],
    as_json: bool,
    **given: str | int | None,
) -> None:
    """Register a provider, or change what is given of a registered one."""
    fields = ProviderFields()
    for name in clear:
        fields |= _CLEARABLE[name]
    if domains:
        fields["allowed_domains"] = domains
    if default_job is not None:
        fields["default_job_id"] = str(default_job)
    fields |= ProviderFields(**{name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]  # options named like fields
    with waiting("Saving the provider"):
        saved = _saved(app, slug, fields)
    if as_json:
        print_json(saved)
        return
    _print(saved)


@provider.command()
@click.argument("slug")
@pass_app
def delete(app: App, *, slug: str) -> None:
    """Register a provider no more; its workflows go on with the hosts that their own steps name."""
    with waiting("Deleting the provider"):
        app.client.providers.delete(slug)
    click.echo("Deleted.", err=True)


def _saved(app: App, slug: str, fields: ProviderFields) -> Provider:
    try:
        return app.client.providers.change(slug, **fields)
    except ApiError as error:
        if error.status != 404:
            raise
    return app.client.providers.create(slug, **fields)


def _print(found: Provider) -> None:
    print_fields(
        {
            "slug": found.slug,
            "name": found.display_name,
            "logo": found.logo_url,
            "login": found.login_url,
            "domains": " ".join(found.allowed_domains) or None,
            "default job": found.default_job_id,
            "concurrency": found.concurrency,
            **_health(found.health),
        }
    )


def _health(health: ProviderHealth | None) -> dict[str, object]:
    if health is None:
        return {}
    since = f" since {health.since:%Y-%m-%d %H:%M} UTC" if health.since else ""
    return {"health": f"{health.status}{since}", **{f"{w.minutes} min": _window(w) for w in health.windows}}


def _window(window: HealthWindow) -> str:
    """`12 of 15 runs succeeded (80 %); 2 ended for other reasons; 4 of 5 logins; 95 % of 60 steps within 1.2 s`."""
    told, logins = window.succeeded + window.failed, window.logins
    parts = []
    if window.success_rate is not None:
        parts.append(f"{window.succeeded} of {told} runs succeeded ({window.success_rate * 100:.0f} %)")
    if window.other:
        parts.append(f"{window.other} ended for other reasons")
    if tried := logins.succeeded + logins.rejected + logins.failed:
        parts.append(f"{logins.succeeded} of {tried} logins")
    if window.step_p95_ms is not None:
        parts.append(f"95 % of {window.steps} steps within {window.step_p95_ms / 1000:g} s")
    return "; ".join(parts) or "no runs"
