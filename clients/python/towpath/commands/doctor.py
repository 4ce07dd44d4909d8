"""`towpath doctor`: is the installation that this command talks to in order?"""

from __future__ import annotations

import sys

import click
from rich.text import Text

from towpath.commands.shared import App, json_option, out, pass_app, print_json, waiting
from towpath.errors import ApiError, Unreachable
from towpath.resources import Examination, Finding
from towpath.text import printable

CLOCK_SECONDS_MAX = 1.0
_MARKS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "failed": ("FAIL", "red")}


@click.command()
@json_option
@pass_app
def doctor(app: App, *, as_json: bool) -> None:
    """Check address, key, clocks, database, log, storage, vault, browser. Exit code 1 when a check fails."""
    with waiting("Examining"):
        examination = examine(app)
    if as_json:
        print_json(examination)
    else:
        for finding in examination.findings:
            _print(finding)
    sys.exit(1 if examination.verdict == "failed" else 0)


def examine(app: App) -> Examination:
    """The server's findings behind our own about reaching it."""
    surroundings = app.client.surroundings
    begun = surroundings.now()
    try:
        told = app.client.doctor()
    except Unreachable as error:
        return _alone("address", str(error), "start it (`make run`), or name the right address in TOWPATH_URL")
    except ApiError as error:
        message = f"{app.client.url} refuses it: {error}"
        return _alone("key", message, "use a key of level admin: TOWPATH_API_KEY, or the folder in TOWPATH_DATA")
    reached = Finding(check="address", verdict="ok", message=f"{app.client.url} answers, and takes the key")
    server = told.now.timestamp() if told.now else begun
    clocks = clock_finding(begun, surroundings.now(), server)
    verdict = clocks.verdict if told.verdict == "ok" else told.verdict
    return Examination(verdict=verdict, now=told.now, findings=(reached, clocks, *told.findings))


def clock_finding(begun: float, ended: float, server: float) -> Finding:
    """Whether both clocks agree, as far as the time between question and answer tells. Pure; seconds since 1970."""
    apart = max(begun - server, server - ended, 0.0)
    if apart <= CLOCK_SECONDS_MAX:
        return Finding(check="clocks", verdict="ok", message="the server's clock and this one agree within a second")
    message = f"the server's clock is {apart:.0f} s off this one"
    return Finding(check="clocks", verdict="warning", message=message, advice="let NTP keep both")


def _alone(check: str, message: str, advice: str) -> Examination:
    finding = Finding(check=check, verdict="failed", message=message, advice=advice)
    return Examination(verdict="failed", now=None, findings=(finding,))


def _print(finding: Finding) -> None:
    console = out()
    mark, color = _MARKS.get(finding.verdict, (finding.verdict, "yellow"))
    line = Text.assemble((f"{mark:>4}", color), f"  {finding.check:<14} ", printable(finding.message))
    console.print(line, soft_wrap=True)
    if finding.advice:
        console.print(Text(f"{'':21}{printable(finding.advice)}", style="dim"), soft_wrap=True)
