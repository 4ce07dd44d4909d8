"""The platform process is stopped in the middle of the step that acts once, and wakes up later: nothing is doubled.

What: SIGSTOP right after the step was announced, for longer than a lease, and right after the click has landed, for a
moment; then SIGCONT. The browser and the shop go on meanwhile, so the click may land while its sender is stopped.

How: the moment is seen in the folder's log or in the shop's. Afterwards the run must end well, the shop must have seen
one collection, and the watchdog must have left the stopped process alone: it is the same one.
"""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from tests.support.chromium import needs_chromium
from tests.support.demo_runs import MOMENTS, await_run, first_demo, start_run
from tests.support.platform_process import PlatformProcess, Role, Trace

pytestmark = [needs_chromium, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    ("moment", "stopped_seconds"),
    [("the click was announced", 60.0), ("the click has landed", 3.0)],
    ids=["a minute, before the click", "a moment, behind the click"],
)
def test_a_platform_that_wakes_up_in_the_middle_of_the_act_doubles_nothing(
    product: PlatformProcess, moment: str, stopped_seconds: float
) -> None:
    trace = Trace(product.data)
    product.start()
    product.await_ready()
    with product.client() as client:
        await_run(client, first_demo(client).id)
        run = start_run(product, client, trace)
        platform = product.pid(Role.PLATFORM)
        MOMENTS[moment](product, trace, run)
        product.signal(signal.SIGSTOP, Role.PLATFORM)
        time.sleep(stopped_seconds)
        product.signal(signal.SIGCONT, Role.PLATFORM)
        await_run(client, run.id)
    assert product.pid(Role.PLATFORM) == platform
    assert Counter(product.collected())[run.ref] == 1
