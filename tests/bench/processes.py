"""CPU and memory of a tree of processes, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """`root` and everything below it, as of now."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_ms(root: int) -> float:
    """User and system time that the tree has used so far; processes that ended count once their parent has seen it."""
    ticks = 0
    for pid in tree(root):
        if fields := _stat(pid):
            ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return ticks * 1000 / _TICKS_PER_SECOND


def pss_mb(root: int) -> float:
    """Proportional set size of the tree: shared pages are divided among those who share them."""
    return sum(_pss_kb(pid) for pid in tree(root)) / 1024


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the name; empty when the process is gone. Number 0 is the state."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(text.split()[1]) for text in lines if text.startswith("Pss:")), 0)
