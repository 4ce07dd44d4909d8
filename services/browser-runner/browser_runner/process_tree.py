"""What Linux says in /proc about processes, and killing a whole tree of them.

Names of processes are read, never trusted: a number may be given anew at any time, so every pass reads again and only
ever kills what is a descendant, or carries our mark, at that moment.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_PROC = Path("/proc")
_PAUSES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def state_of(pid: int) -> str:
    """The one letter of /proc/PID/stat (R, S, D, T, Z and so on); empty when there is no such process."""
    return _stat(pid)[0]


def descendants(root: int) -> list[int]:
    """All living and dead-but-unread descendants of `root`, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        state, parent = _stat(pid)
        if state:
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(0), [])
        found += below
        todo += below
    return found


def kill_descendants(reap: Callable[[], None]) -> None:
    """SIGKILL everything below this process until nothing is left; returns only then.

    This process must be the subreaper of its tree, so that no orphan escapes; `reap` reads the dead children. Processes
    that the kernel cannot end yet (state D) are waited for: only what is seen dead is dead.
    """
    turn = 0
    while True:
        reap()
        below = descendants(os.getpid())
        if not below:
            return
        _kill(below)
        _pause(turn)
        turn += 1


def sweep_orphans(mark: str) -> list[int]:
    """Kill what an earlier life left behind: processes whose environment holds `mark` (`NAME=value`).

    Spares this process, its ancestors and its descendants. Returns the killed ones when all are gone. A process that
    overwrote its environment (a renderer of the browser) is not seen; it ends with its parent, which is.
    """
    spared = {os.getpid(), *_ancestors(os.getpid())}
    killed: set[int] = set()
    turn = 0
    while found := [pid for pid in _marked(mark) if pid not in spared | set(descendants(os.getpid()))]:
        _kill(found)
        killed.update(found)
        _pause(turn)
        turn += 1
    return sorted(killed)


def _pause(turn: int) -> None:
    time.sleep(_PAUSES[min(turn, len(_PAUSES) - 1)])


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # gone already, or a set-user-id helper that ends with its parent


def _marked(mark: str) -> list[int]:
    wanted = mark.encode()
    found = []
    for pid in _pids():
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if wanted in environment.split(b"\0") and state_of(pid) not in ("", "Z", "X"):
            found.append(pid)
    return found


def _ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = _stat(pid)[1]
        found.append(pid)
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 (iterdir makes a Path per process)


def _stat(pid: int) -> tuple[str, int]:
    """State and parent; an empty state when there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return "", 0
    # The name in parentheses may hold anything, parentheses and blanks included.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1])
