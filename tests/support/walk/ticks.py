"""The platform's times, counted in ticks for the walk: only their order matters (F < W)."""

from __future__ import annotations

import pytest

from scheduler import dispatch
from scheduler.advance import build, reports, waits
from scheduler.dispatch import match
from scheduler.dispatch import state as dispatch_state
from tests.support.walk.state import Instance
from tests.support.walk.tables import FAR_MS, TICK_MS


def count_in_ticks(patch: pytest.MonkeyPatch, instance: Instance) -> None:
    """Set the timers of both deciders as `instance` says."""
    patch.setattr(reports, "WAIT_MS", instance.wait * TICK_MS)
    patch.setattr(reports, "WAIT_AFTER_DEATH_MS", instance.wait_after_death * TICK_MS)
    patch.setattr(build, "STOP_MS", instance.stop * TICK_MS)
    patch.setattr(waits, "LAPSES_MAX", instance.lapses_max)
    for room in (match, dispatch_state):
        patch.setattr(room, "ECHO_MS", instance.echo * TICK_MS)
    patch.setattr(match, "RUNNER_SILENT_MS", FAR_MS)
    for room in (dispatch, dispatch_state):
        patch.setattr(room, "LEASE_MS", instance.lease * TICK_MS)
        patch.setattr(room, "RUNNER_FORGET_MS", FAR_MS)
