"""The command `towpath`.

Exit codes: 0 done; 1 the run failed or the platform refused; 2 the command was used wrongly; 130 interrupted.
"""

from __future__ import annotations

from typing import Any

import click

from towpath.commands.artifact import artifact
from towpath.commands.doctor import doctor
from towpath.commands.events import events
from towpath.commands.input import input_
from towpath.commands.job import job
from towpath.commands.key import key
from towpath.commands.provider import provider
from towpath.commands.run import run
from towpath.commands.shared import App, report
from towpath.commands.workflow import workflow
from towpath.errors import TowpathError

FAILED = 1
INTERRUPTED = 130


class _Root(click.Group):
    """Turns what commands raise into plain words and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TowpathError as error:
            report(error)
            ctx.exit(FAILED)
        except OSError as error:
            if error.filename is None:
                raise
            click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
            ctx.exit(FAILED)
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="towpath")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Define, run and watch browser workflows on a Towpath platform.

    \b
    TOWPATH_URL      where the platform is (default http://127.0.0.1:8700)
    TOWPATH_API_KEY  the API key; without it the file api-key in
    TOWPATH_DATA     the platform's data folder (default ./.towpath) is read
    """  # noqa: D301 (the backspace is click's mark for a block that must not be wrapped)
    app = ctx.ensure_object(App)
    ctx.call_on_close(app.close)


for _command in (workflow, job, provider, run, artifact, events, input_, key, doctor):
    cli.add_command(_command)
