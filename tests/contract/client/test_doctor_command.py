"""`towpath doctor`: what cannot be reached is told with advice; the worst finding decides the exit code."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest
from click.testing import CliRunner, Result

from towpath.cli import cli
from towpath.commands.doctor import clock_finding
from towpath.commands.shared import App
from towpath.transport import Surroundings

NOW = 1_800_000_000.0
STAMP = "2027-01-15T08:00:00.000Z"


def asked(answer: httpx.Response | Exception, *options: str) -> Result:
    """The command against a server that gives `answer`."""

    def serve(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    surroundings = Surroundings(sleep=lambda _seconds: None, now=lambda: NOW)
    environment = {"TOWPATH_URL": "http://127.0.0.1:1", "TOWPATH_API_KEY": "k"}
    app = App(environment, httpx.MockTransport(serve), surroundings)
    return CliRunner().invoke(cli, ["doctor", *options], obj=app)


def examined(verdict: str, *findings: Mapping[str, str | None]) -> httpx.Response:
    return httpx.Response(200, json={"verdict": verdict, "now": STAMP, "findings": list(findings)})


def test_an_installation_in_order_is_told_line_by_line() -> None:
    told = asked(examined("ok", {"check": "vault", "verdict": "ok", "message": "values are sealed", "advice": None}))
    assert told.exit_code == 0
    assert [line.split()[:2] for line in told.stdout.splitlines()] == [
        ["ok", "address"],
        ["ok", "clocks"],
        ["ok", "vault"],
    ]


def test_a_failed_check_comes_with_its_advice_and_an_exit_code() -> None:
    failed = {"check": "disk", "verdict": "failed", "message": "0 bytes free", "advice": "make room"}
    told = asked(examined("failed", failed))
    assert told.exit_code == 1
    assert "FAIL  disk" in told.stdout
    assert "make room" in told.stdout


def test_a_platform_that_is_not_there_is_the_finding() -> None:
    told = asked(httpx.ConnectError("refused"))
    assert told.exit_code == 1
    assert "make run" in told.stdout


def test_a_key_that_is_too_low_is_the_finding() -> None:
    error = {"code": "forbidden", "message": "this needs a key of level admin", "details": [], "request_id": "r"}
    told = asked(httpx.Response(403, json={"error": error}), "--json")
    assert told.exit_code == 1
    assert '"check":"key"' in told.stdout


@pytest.mark.parametrize(
    ("server", "verdict"), [(NOW, "ok"), (NOW - 0.9, "ok"), (NOW + 5, "warning"), (NOW - 5, "warning")]
)
def test_clocks_that_are_apart_are_told(server: float, verdict: str) -> None:
    assert clock_finding(NOW, NOW + 0.2, server).verdict == verdict
