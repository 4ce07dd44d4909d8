"""Ending in good order, and refusing to begin: what a person at the terminal sees.

What: Ctrl-C in the middle of a run; a second instance on the folder, a taken port, a missing browser, a full disk.

How: the launcher as a user starts it; its exit code, its words, and what is left of processes and profiles. The full
disk is a small one in memory, mounted for the launcher alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kernel.clock import SystemClock
from kernel.domain.task import TaskReleased, TaskStarted
from tests.support.chromium import needs_chromium
from tests.support.demo_runs import MOMENTS, await_run, first_demo, reports, start_run
from tests.support.platform_process import PlatformProcess, Role, Trace
from tests.support.requires import requires

pytestmark = pytest.mark.timeout(400)

SMALL_DISK = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=400k tmpfs "$TOWPATH_DATA" && exec "$@"', "sh")
"""Runs what follows with 400 kB of disk in its folder."""


def _may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    with TemporaryDirectory() as folder:
        environ = {**os.environ, "TOWPATH_DATA": folder}
        return subprocess.run([*SMALL_DISK, "true"], env=environ, capture_output=True, check=False).returncode == 0


needs_small_disk = requires("mount namespaces", available=_may_mount(), reason="run where `unshare -rm` is allowed")


@needs_chromium
def test_ctrl_c_hands_the_run_back_and_the_next_start_goes_on_with_it(product: PlatformProcess) -> None:
    trace, clock = Trace(product.data), SystemClock()
    product.start()
    product.await_ready()
    with product.client() as client:
        await_run(client, first_demo(client).id)
        run = start_run(product, client, trace)
    MOMENTS["the orders are open"](product, trace, run)
    asked_ms = clock.now_ms()
    product.signal(signal.SIGINT, Role.LAUNCHER)
    assert product.await_end(60) == 0
    assert [told for told in trace.read() if reports(told, run, asked_ms, TaskReleased)], (
        "the attempt was not handed back"
    )
    assert "Traceback" not in product.said()
    product.await_nothing_left()
    assert product.scratches() == []
    again_ms = clock.now_ms()
    product.start()
    product.await_ready()
    with product.client() as client:
        await_run(client, run.id)
    assert [told for told in trace.read() if reports(told, run, again_ms, TaskStarted)]
    assert Counter(product.collected())[run.ref] == 1


def test_a_second_instance_on_a_folder_says_so_in_one_line_and_leaves_the_first_alone(
    alone: None, tmp_path: Path
) -> None:
    with PlatformProcess(tmp_path, browser="", TOWPATH_DEMO="0") as first:
        first.start()
        first.await_ready()
        platform = first.pid(Role.PLATFORM)
        with PlatformProcess(tmp_path / "other", browser="", TOWPATH_DEMO="0", TOWPATH_DATA=str(first.data)) as second:
            code, line = _refusal(second.environ)
        assert code != 0
        assert f"the folder {first.data} is in use by process" in line
        code, line = _refusal(first.environ)
        assert code != 0
        assert f"port {first.port} cannot be used" in line
        assert first.pid(Role.PLATFORM) == platform


def test_a_port_of_another_program_is_told_in_one_line(tmp_path: Path) -> None:
    product = PlatformProcess(tmp_path, browser="", TOWPATH_DEMO="0")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", product.port))
        other.listen()
        code, line = _refusal(product.environ)
    assert code != 0
    assert f"port {product.port} cannot be used" in line
    assert "TOWPATH_PORT" in line


def test_a_browser_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    code, line = _refusal(PlatformProcess(tmp_path, browser=str(tmp_path / "no-browser")).environ)
    assert code != 0
    assert line == f"towpath: TOWPATH_BROWSER: there is no program {tmp_path / 'no-browser'}"


@needs_small_disk
def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with PlatformProcess(tmp_path, browser="", TOWPATH_DEMO="0") as product:
        product.data.mkdir()
        code, line = _refusal(product.environ, *SMALL_DISK)
        assert code != 0
        assert f"no space left for {product.data}" in line
        product.await_nothing_left()


def _refusal(environ: dict[str, str], *wrapped: str) -> tuple[int, str]:
    """Exit code of a launcher that cannot go on, and the one line that it says of that."""
    command = [*wrapped, sys.executable, "-m", "embedded"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    return ended.returncode, lines[0]
