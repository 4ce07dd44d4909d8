"""Real process trees under a real watchdog: killed, hung, stopped, drained, orphaned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser_runner.process_tree import descendants, state_of, sweep_orphans
from browser_runner.watchdog import Liveness

CHILD = Path(__file__).parents[2] / "support" / "watched_child.py"
SETTINGS = {
    "hang_seconds": 30.0,
    "start_seconds": 60.0,
    "drain_seconds": 30.0,
    "first_delay_seconds": 0.05,
    "longest_delay_seconds": 0.4,
}
"""Long enough for a child on a busy machine; a test of what is too long for a watchdog shortens it."""
PROGRAM = """
import json, os, sys
from dataclasses import asdict
from browser_runner.watchdog import WatchdogSettings, run_watchdog
settings, restart, argv, log = json.loads(sys.argv[1])
def on_death(death):
    with open(log, "a") as file:
        file.write(json.dumps(asdict(death)) + "\\n")
sys.exit(run_watchdog(argv, environ=os.environ, restart=restart, on_death=on_death,
                      settings=WatchdogSettings(**settings)) % 256)
"""


def _until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def _is_alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z", "X")


class Watched:
    """One watchdog over the scripted child, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"TOWPATH_DATA_ID={folder.name}-{os.getpid()}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, restart: bool = True, **changes: float | None) -> None:
        argv = [sys.executable, "-S", str(CHILD), str(self.folder)]
        config = json.dumps([{**SETTINGS, **changes}, restart, argv, str(self.folder / "deaths")])
        name, value = self.mark.split("=")
        environ = {**os.environ, name: value}
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, config], env=environ, start_new_session=True)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(30)

    def lives(self) -> list[list[int]]:
        path = self.folder / "pids"
        return [[int(pid) for pid in line.split()] for line in path.read_text().splitlines()] if path.exists() else []

    def deaths(self) -> list[dict[str, object]]:
        path = self.folder / "deaths"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def life(self, number: int) -> list[int]:
        _until(lambda: len(self.lives()) >= number)
        return self.lives()[number - 1]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    if watched.process is not None:
        watched.process.kill()
        watched.process.wait(10)
    sweep_orphans(watched.mark)


def test_a_killed_child_is_started_again_and_leaves_no_orphan(watched: Watched) -> None:
    watched.start()
    first = watched.life(1)
    killed_at = time.monotonic()
    os.kill(first[0], signal.SIGKILL)
    second = watched.life(2)
    assert time.monotonic() - killed_at < SETTINGS["hang_seconds"] / 2, "it did not wait for silence"
    assert not any(_is_alive(pid) for pid in first)
    assert all(_is_alive(pid) for pid in second)
    assert [death["exit_code"] for death in watched.deaths()] == [-signal.SIGKILL]
    assert watched.deaths()[0]["was_hung"] is False


def test_death_is_said_only_when_the_whole_tree_is_dead(watched: Watched) -> None:
    watched.start(restart=False)
    life = watched.life(1)
    os.kill(life[0], signal.SIGKILL)
    _until(watched.deaths)
    assert not any(_is_alive(pid) for pid in life)
    assert watched.wait() == 256 - signal.SIGKILL


def test_a_child_that_hangs_is_killed_with_its_tree_and_started_again(watched: Watched) -> None:
    watched.start(hang_seconds=2.0)
    first = watched.life(1)
    (watched.folder / "hang").touch()
    _until(watched.deaths)
    (watched.folder / "hang").unlink()
    assert watched.deaths()[0]["was_hung"] is True
    assert not any(_is_alive(pid) for pid in first)
    assert _is_alive(watched.life(2)[0])


def test_a_stopped_child_is_left_alone_and_goes_on(watched: Watched) -> None:
    watched.start(hang_seconds=2.0)
    child = watched.life(1)[0]
    os.kill(child, signal.SIGSTOP)
    _until(lambda: state_of(child) == "T")
    time.sleep(3.0)  # longer than a hang: that nothing happens takes its time to be seen
    os.kill(child, signal.SIGCONT)
    _until(lambda: state_of(child) in ("R", "S"))
    time.sleep(0.4)
    assert watched.deaths() == []
    assert _is_alive(child)


def test_a_stopped_child_is_killed_when_that_is_asked_for(watched: Watched) -> None:
    watched.start(stopped_seconds=0.3)
    child = watched.life(1)[0]
    os.kill(child, signal.SIGSTOP)
    _until(watched.deaths)
    assert watched.deaths()[0]["was_hung"] is True
    assert not _is_alive(child)


def test_a_watchdog_that_was_paused_with_its_child_does_not_count_the_silence(watched: Watched) -> None:
    watched.start(hang_seconds=3.0)
    child = watched.life(1)[0]
    for pid in (watched.pid, child):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4.0)  # longer than a hang and than the watchdog's own turn
    for pid in (watched.pid, child):
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)
    assert watched.deaths() == []


def test_a_killed_watchdog_takes_its_child_with_it(watched: Watched) -> None:
    watched.start()
    child, _, _, piped = watched.life(1)
    os.kill(watched.pid, signal.SIGKILL)
    _until(lambda: not _is_alive(child) and not _is_alive(piped))


def test_what_outlived_a_killed_watchdog_is_swept_at_the_next_start(watched: Watched) -> None:
    watched.start()
    life = watched.life(1)
    os.kill(watched.pid, signal.SIGKILL)
    watched.wait()
    _until(lambda: not _is_alive(life[0]))
    assert _is_alive(life[1])
    assert set(sweep_orphans(watched.mark)) <= set(life[1:])
    assert not any(_is_alive(pid) for pid in life)


def test_sweeping_spares_this_process_and_what_is_below_it(watched: Watched) -> None:
    name, value = watched.mark.split("=")
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, name: value}) as own:
        assert own.pid in descendants(os.getpid())
        assert sweep_orphans(watched.mark) == []
        assert _is_alive(own.pid)
        own.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_drains_the_child(watched: Watched, number: int) -> None:
    watched.start()
    life = watched.life(1)
    os.kill(watched.pid, number)
    code = watched.wait()
    if number == signal.SIGTERM:
        assert (watched.folder / "drained").exists()
        assert code == 0
    assert not any(_is_alive(pid) for pid in life)
    assert len(watched.deaths()) == 1


def test_a_child_that_does_not_drain_in_time_is_killed(watched: Watched) -> None:
    watched.start(drain_seconds=1.0)
    (watched.folder / "stubborn").touch()
    life = watched.life(1)
    asked_at = time.monotonic()
    os.kill(watched.pid, signal.SIGTERM)
    assert watched.wait() == 256 - signal.SIGKILL
    assert time.monotonic() - asked_at >= 0.9
    assert not any(_is_alive(pid) for pid in life)


def test_a_second_signal_ends_the_wait(watched: Watched) -> None:
    watched.start(drain_seconds=60.0)
    (watched.folder / "stubborn").touch()
    watched.life(1)
    os.kill(watched.pid, signal.SIGTERM)
    _until((watched.folder / "asked").exists)
    os.kill(watched.pid, signal.SIGTERM)
    assert watched.wait() == 256 - signal.SIGKILL


@pytest.mark.parametrize("code", [0, 78])
def test_a_child_that_ended_on_purpose_or_was_refused_is_not_started_again(watched: Watched, code: int) -> None:
    (watched.folder / "exit").write_text(str(code))
    watched.start()
    assert watched.wait() == code
    assert len(watched.deaths()) == 1
    assert descendants(watched.pid) == []


def test_a_child_that_keeps_dying_is_started_again_until_told_to_end(watched: Watched) -> None:
    (watched.folder / "exit").write_text("3")
    watched.start()
    _until(lambda: len(watched.deaths()) >= 4)
    os.kill(watched.pid, signal.SIGTERM)
    assert watched.wait() in (3, 256 - signal.SIGTERM, 0)


def test_adopted_orphans_that_end_do_not_stay_as_zombies(watched: Watched) -> None:
    watched.start()
    orphan = watched.life(1)[2]
    os.kill(orphan, signal.SIGKILL)
    _until(lambda: state_of(orphan) == "")
    assert watched.deaths() == []


def test_a_beat_without_a_watchdog_is_nothing_and_with_a_full_or_closed_pipe_neither() -> None:
    Liveness({}).beat()
    read, write = os.pipe()
    liveness = Liveness({"TOWPATH_LIVENESS_FD": str(write)})
    for _ in range(70_000):
        liveness.beat()
    assert len(os.read(read, 10)) == 10
    os.close(read)
    liveness.beat()
    liveness.beat()
    os.close(write)
