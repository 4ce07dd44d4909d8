"""The private folder of one watchdog, for what browsers and downloads need for a while.

It lies below the system's folder for temporary files, where the path of a socket stays short. It is emptied after every
life, and goes with its watchdog; what a killed one left, its browsers included, is swept by the next one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from browser_runner.process_tree import sweep_orphans
from kernel.errors import LogRefused
from kernel.sqlite_guard import FolderLock

_PREFIX = "towpath-runner-"
_LOCK = "lock"
_USED = "used"


class Scratch:
    """One folder, held by a lock until `remove`."""

    def __init__(self) -> None:
        """Make it. Sweeps what dead watchdogs of this user left. `OSError` when there is no room."""
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = FolderLock(self._folder, _LOCK)
        self.path.mkdir(mode=0o700)

    @property
    def path(self) -> Path:
        """What is put there is private, and gone after `clear`."""
        return self._folder / _USED

    def clear(self) -> None:
        """Empty it. Nobody below the watchdog may live any more."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Let go of it for good."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.geteuid() or not (folder / _LOCK).exists():
                continue  # another user's, or one that is just being made
            lock = FolderLock(folder, _LOCK)
        except (LogRefused, OSError):
            continue  # its watchdog lives
        sweep_orphans(f"TMPDIR={folder / _USED}")
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
