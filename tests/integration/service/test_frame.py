"""The frame of a service process: how it starts, says how it is, drains, and refuses with one line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kernel.refusing import REFUSED_EXIT_CODE, UNREACHED_EXIT_CODE
from tests.support.eventually import until
from tests.support.platform_process import free_ports

_CHILD = """
import asyncio, sys
from kernel.errors import LogRefused, LogUnavailable, Permanent
from kernel.service import run_service
import structlog

async def away():
    raise LogUnavailable("nobody listens")

async def recreated():
    raise LogRefused("topic jobs was recreated")

async def serve(service):
    match sys.argv[1]:
        case "refused":
            raise ExceptionGroup("deep", [LogRefused("the topic jobs is missing")])
        case "wrong":
            raise Permanent("setting_missing", "set TOYS_FOLDER")
        case "bug":
            raise ZeroDivisionError("ours")
        case "away":
            await service.reach("the broker", away)
        case "gone":
            await away()
    service.live.add("correct horse")
    structlog.get_logger("toys").info("toy.said", text="a correct horse", password="battery")
    import logging
    logging.getLogger("somebody.else").warning("saw a %s", "correct horse")
    service.health.conditions["toys"] = lambda: sys.argv[1] != "waiting"
    match sys.argv[1]:
        case "watched":
            service.watch("jobs", recreated)
        case "beside":
            service.beside(recreated(), name="lag")
    service.started()
    await service.stop.wait()
    await asyncio.to_thread(sys.stdin.read)

sys.exit(run_service("toys", serve))
"""


def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    """A child; one that was told to end does so once its standard input is closed, as `communicate` closes it."""
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, *arguments],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[tuple[subprocess.Popen[str], int]]:
    """A child that has started, and the port of its probes."""
    port = free_ports(1)
    with start(*arguments, TOWPATH_PROBES=f"127.0.0.1:{port}") as child:
        try:
            await until(lambda: ask(port, "/health/startup")[0] == 200, 30)
            yield child, port
        finally:
            child.kill()


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 when nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def test_a_started_process_says_how_it_is() -> None:
    async with running("serve") as (_, port):
        assert ask(port, "/health/live") == (200, '{"status":"ok"}')
        assert ask(port, "/health/ready?x=1")[0] == 200
        assert json.loads(ask(port, "/version")[1])["service"] == "toys"
        assert "loop_lag_seconds" in ask(port, "/metrics")[1]
        assert ask(port, "/elsewhere")[0] == 404


async def test_a_process_whose_condition_does_not_hold_is_alive_and_not_ready() -> None:
    async with running("waiting") as (_, port):
        assert ask(port, "/health/live")[0] == 200
        status, body = ask(port, "/health/ready")
        assert (status, json.loads(body)) == (503, {"status": "not_ready", "waits_for": ["toys"]})


async def test_a_watched_part_that_refuses_is_told_by_the_probes_and_said_once_with_its_reason() -> None:
    async with running("watched") as (child, port):
        await until(lambda: json.loads(ask(port, "/health/ready")[1]).get("waits_for") == ["jobs"])
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=20)
    said = [line for line in map(json.loads, out.splitlines()) if line["event"] == "service.part_is_away"]
    assert [(line["part"], line["error"]) for line in said] == [("jobs", "topic jobs was recreated")]


async def test_sigterm_makes_it_unready_and_then_end() -> None:
    async with running("serve") as (child, port):
        child.send_signal(signal.SIGTERM)
        await until(lambda: ask(port, "/health/ready")[0] == 503)
        assert ask(port, "/health/live")[0] == 200
        child.communicate(timeout=20)
        assert child.returncode == 0


async def test_what_it_says_is_json_and_holds_no_secret_whoever_says_it() -> None:
    async with running("serve") as (child, _):
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=20)
    assert "correct horse" not in out
    assert "battery" not in out
    said = {line["event"]: line for line in map(json.loads, out.splitlines())}
    assert said["toy.said"]["service"] == "toys"
    assert said["toy.said"]["password"] == "[redacted]"
    assert any(line["logger"] == "somebody.else" for line in said.values() if "logger" in line)


@pytest.mark.parametrize(
    ("why", "line"),
    [
        ("refused", "towpath toys: the topic jobs is missing"),
        ("wrong", "towpath toys: set TOYS_FOLDER"),
        ("beside", "towpath toys: topic jobs was recreated"),
    ],
)
def test_what_can_never_work_ends_with_one_line_and_its_code(why: str, line: str) -> None:
    with start(why) as child:
        _, told = child.communicate(timeout=20)
    assert (child.returncode, told.strip()) == (REFUSED_EXIT_CODE, line)


def test_a_part_that_is_not_there_is_waited_for_and_then_named() -> None:
    with start("away", TOWPATH_START_SECONDS="1") as child:
        out, told = child.communicate(timeout=20)
    assert child.returncode == UNREACHED_EXIT_CODE
    assert re.match(r"towpath toys: the broker is not there after \d+ s: ", told), told
    assert len(told.splitlines()) == 1
    assert "service.waits" in out


def test_who_is_told_to_end_while_it_waits_ends_in_order() -> None:
    with start("away") as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGTERM)
        _, told = child.communicate(timeout=20)
    assert (child.returncode, told) == (0, "")


def test_a_wrong_setting_of_the_frame_is_named() -> None:
    with start("serve", TOWPATH_START_SECONDS="soon") as child:
        _, told = child.communicate(timeout=20)
    assert (child.returncode, told) == (REFUSED_EXIT_CODE, "towpath toys: TOWPATH_START_SECONDS is no number\n")


def test_probes_that_cannot_listen_are_refused() -> None:
    with start("serve", TOWPATH_PROBES="127.0.0.1:http") as child:
        _, told = child.communicate(timeout=20)
    assert child.returncode == REFUSED_EXIT_CODE
    assert "probes cannot listen on 127.0.0.1:http" in told


def test_a_bug_is_told_with_its_traceback() -> None:
    with start("bug") as child:
        _, told = child.communicate(timeout=20)
    assert child.returncode == 1
    assert "ZeroDivisionError: ours" in told


def test_a_part_that_goes_where_nothing_waits_for_it_is_told_in_one_line_and_another_life_may_help() -> None:
    with start("gone") as child:
        _, told = child.communicate(timeout=20)
    assert (child.returncode, told.strip()) == (UNREACHED_EXIT_CODE, "towpath toys: nobody listens")
