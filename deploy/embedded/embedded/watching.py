"""The watchdog of the platform process: restarts it when it dies, and leaves neither browser nor profile behind."""

from __future__ import annotations

import os
import resource
import shutil
import sys

from browser_runner.process_tree import sweep_orphans
from browser_runner.watchdog import WatchdogSettings, run_watchdog
from embedded.settings import Settings, read_settings
from kernel.errors import LogRefused
from kernel.refusing import REFUSED_EXIT_CODE
from kernel.sqlite_guard import FolderLock

MARK_VARIABLE = "TOWPATH_FOLDER"
"""Stands in the environment of everything that belongs to one data folder, so that leftovers are found."""


def watch() -> int:
    """Run the platform until it ends in good order; the exit code of its last life."""
    settings = read_settings()
    # A core file would hold every secret that was open; whatever starts below inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        # Held for as long as this process lives: whoever sweeps must know that what it finds is nobody's.
        lock = FolderLock(settings.data, "watchdog.lock")
        sweep_leftovers(settings)
        clear_scratch(settings)
    except (LogRefused, OSError) as error:
        print(f"towpath: {error}", file=sys.stderr, flush=True)
        return REFUSED_EXIT_CODE
    try:
        return run_watchdog(
            [sys.executable, "-m", "embedded", "platform"],
            environ={**os.environ, MARK_VARIABLE: str(settings.data), "TMPDIR": str(settings.scratch)},
            on_death=lambda _: clear_scratch(settings),
            settings=WatchdogSettings(drain_seconds=settings.drain_seconds + 10),
        )
    finally:
        lock.release()


def sweep_leftovers(settings: Settings) -> None:
    """Kill what an earlier life over the folder left behind. Only for who knows that no platform runs there."""
    sweep_orphans(f"{MARK_VARIABLE}={settings.data}")


def clear_scratch(settings: Settings) -> None:
    """An empty folder for what browsers and downloads need for a while; a killed browser never tidies up."""
    shutil.rmtree(settings.scratch, ignore_errors=True)
    settings.scratch.mkdir(mode=0o700)
