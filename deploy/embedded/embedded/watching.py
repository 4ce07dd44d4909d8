"""The watchdog of the platform process: restarts it when it dies, and leaves no browser behind."""

from __future__ import annotations

import os
import sys

from browser_runner.process_tree import sweep_orphans
from browser_runner.watchdog import WatchdogSettings, run_watchdog
from embedded.settings import read_settings

MARK_VARIABLE = "TOWPATH_FOLDER"
"""Stands in the environment of everything that belongs to one data folder, so that leftovers are found."""


def watch() -> int:
    """Run the platform until it ends in good order; the exit code of its last life."""
    settings = read_settings()
    mark = f"{MARK_VARIABLE}={settings.data}"
    sweep_orphans(mark)
    environ = {**os.environ, MARK_VARIABLE: str(settings.data)}
    return run_watchdog(
        [sys.executable, "-m", "embedded", "platform"],
        environ=environ,
        settings=WatchdogSettings(drain_seconds=settings.drain_seconds + 10),
    )
