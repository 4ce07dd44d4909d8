"""One server process: started, awaited, stopped, killed, paused and resumed, with all processes below it."""

from __future__ import annotations

import ctypes
import functools
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO

from browser_runner.process_tree import descendants, state_of
from kernel.errors import Permanent

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_POLL_SECONDS = 0.02
_TAIL_BYTES = 1500
_STILL = frozenset({"", "Z", "X", "T", "t"})
"""States of threads that are stopped, and of those that are no more."""
_given: set[int] = set()
"""Ports that this process has found free for servers that it may not have started yet."""


class Process:
    """One server; `log` is a file that its output is appended to. Calls block; one thread at a time may make them."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the running process; None while there is none."""
        return self._child.pid if self._child is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether the process exists, be it paused."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the last process ended, negative for a signal; None while it runs or before the first."""
        return None if self._child is None else self._child.poll()

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start `command` in a session of its own. The process dies with ours."""
        assert not self.is_running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._child = _spawner().submit(_spawn, command, log, environment).result()

    def await_ready(self, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `is_ready`. Raises `Permanent("component_failed")` when it ends before, or is too late."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if not self.is_running:
                raise Permanent("component_failed", f"{self.name} ended by itself; {self.log} ends with\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                message = f"{self.name} was not ready after {seconds:.0f} s; {self.log} ends with\n{self.tail()}"
                raise Permanent("component_failed", message)
            time.sleep(_POLL_SECONDS)

    def tail(self) -> str:
        """The end of what it said."""
        with suppress(OSError):
            return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return ""

    def stop(self, number: signal.Signals, seconds: float) -> None:
        """Ask it to end by a signal, and wait; kill it when it does not. Nothing when it does not run."""
        if self._child is None or not self.is_running:
            return
        self.resume()
        self._child.send_signal(number)
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and all below it by SIGKILL, as a machine that fails does. Nothing when it does not run."""
        if self._child is None or not self.is_running:
            return
        self._signal_all(signal.SIGSTOP)
        below = descendants(self._child.pid)
        for pid in [self._child.pid, *below]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait()
        while any(state_of(pid) not in {"", "Z"} for pid in below):
            time.sleep(_POLL_SECONDS)

    def pause(self) -> None:
        """Stop it and all below it, as a machine does that is suspended, until `resume`.

        Returns when none of its threads runs any more: on a busy machine some go on for a moment after the signal.
        """
        self._signal_all(signal.SIGSTOP)
        while self.pid is not None and not all(map(_stands_still, [self.pid, *descendants(self.pid)])):
            time.sleep(_POLL_SECONDS)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """The parent first, so that it begins nothing new."""
        if self._child is None or not self.is_running:
            return
        self._child.send_signal(number)
        for pid in descendants(self._child.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _stands_still(pid: int) -> bool:
    """Whether every thread of the process is stopped, or it has ended."""
    with suppress(OSError):
        threads = [int(entry.name) for entry in (Path("/proc") / str(pid) / "task").iterdir()]
        return all(state_of(thread) in _STILL for thread in threads)
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, below those that the kernel gives to outgoing connections.

    A client that knocks at such a port, while the server is away, would otherwise be connected with itself one day.
    No port is given twice: all ports of a cluster are chosen before its servers and services take theirs.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        if port in _given:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def kept_port(file: Path) -> int:
    """The port that `file` names if it is free, else a free one, which is written there."""
    with suppress(OSError, ValueError):
        port = int(file.read_text())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    port = free_port()
    file.write_text(f"{port}\n")
    return port


def answers(port: int) -> bool:
    """Whether somebody listens on 127.0.0.1:`port`."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def end_those_in(folder: Path) -> None:
    """Kill every process that works in exactly this folder, and wait until there is none."""
    while True:
        found = [pid for pid in _pids() if _works_in(pid, folder)]
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _works_in(pid: int, folder: Path) -> bool:
    with suppress(OSError):
        return (Path("/proc") / str(pid) / "cwd").readlink() == folder
    return False


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    """One thread starts all: the kernel's notice of a parent's death is about the thread, and this one stays."""
    return ThreadPoolExecutor(1, thread_name_prefix="components")


def _spawn(command: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 (one system call, prepared before)
    )


def die_with_parent() -> None:
    """Called by a new process before it becomes a program: the kernel kills it when its parent's thread ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
