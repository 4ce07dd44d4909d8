"""One part is killed and the others live: the run goes on within seconds, and nothing is left behind.

What: SIGKILL of the platform process, of the watchdog, of every browser process, while the demo job is under way.

How: the moment is seen in the folder's log. How soon work goes on is read from the times that the platform itself
wrote; what the new process spent waiting for a CPU of a busy machine is told apart from that.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

import pytest

from kernel.clock import SystemClock
from kernel.domain.task import StepFinished, TaskStarted
from tests.support.chromium import needs_chromium
from tests.support.demo_runs import MOMENTS, DemoRun, await_run, first_demo, reports, start_run
from tests.support.platform_process import PlatformProcess, Role, Trace, waited_seconds

pytestmark = [needs_chromium, pytest.mark.timeout(400)]

RESUME_SECONDS_MAX = 5.0


def test_a_killed_platform_is_back_at_its_run_within_seconds(
    product: PlatformProcess, report: Callable[[str], None]
) -> None:
    trace = Trace(product.data)
    run = _under_way(product, trace, "the orders were read")
    old, browsers = product.pid(Role.PLATFORM), product.pids(Role.BROWSER)
    killed_ms = SystemClock().now_ms()
    product.signal(signal.SIGKILL, Role.PLATFORM)
    first = trace.await_one(lambda told: reports(told, run, killed_ms, TaskStarted), 60, "a next attempt")
    new = product.pid(Role.PLATFORM)
    waited = waited_seconds(new)
    took = (first.time_ms - killed_ms) / 1000
    report(f"killed platform: next attempt after {took:.2f} s, of that {waited:.2f} s without a CPU")
    assert new != old
    assert took - waited < RESUME_SECONDS_MAX
    with product.client() as client:
        await_run(client, run.id)
    assert Counter(product.collected())[run.ref] == 1
    assert not set(browsers) & set(product.pids(Role.BROWSER)), "a browser of the former life is left"
    assert len(product.profiles()) <= 1, "a profile of the former life is left"


def test_without_its_watchdog_everything_ends_and_the_next_start_resumes(
    product: PlatformProcess, report: Callable[[str], None]
) -> None:
    trace = Trace(product.data)
    run = _under_way(product, trace, "the orders were saved")
    product.signal(signal.SIGKILL, Role.WATCHDOG)
    assert product.await_end(30) == 1
    product.await_nothing_left()
    assert "Traceback" not in product.said()
    started_ms = SystemClock().now_ms()
    product.start()
    product.await_ready()
    first = trace.await_one(lambda told: reports(told, run, started_ms, TaskStarted), 60, "a next attempt")
    report(f"killed watchdog: next attempt {(first.time_ms - started_ms) / 1000:.2f} s after the next start")
    with product.client() as client:
        await_run(client, run.id)
    assert Counter(product.collected())[run.ref] == 1


def test_a_run_whose_browser_is_killed_goes_on_at_once_in_another_one(
    product: PlatformProcess, report: Callable[[str], None]
) -> None:
    trace = Trace(product.data)
    run = _under_way(product, trace, "the orders are open")
    platform, browsers = product.pid(Role.PLATFORM), product.pids(Role.BROWSER)
    waited = waited_seconds(platform)
    killed_ms = SystemClock().now_ms()
    product.signal(signal.SIGKILL, Role.BROWSER)
    first = trace.await_one(lambda told: reports(told, run, killed_ms, StepFinished), 60, "a next step")
    took, waited = (first.time_ms - killed_ms) / 1000, waited_seconds(platform) - waited
    report(f"killed browser: next step after {took:.2f} s, of that {waited:.2f} s without a CPU")
    assert product.pid(Role.PLATFORM) == platform
    assert took - waited < RESUME_SECONDS_MAX
    with product.client() as client:
        await_run(client, run.id)
    assert Counter(product.collected())[run.ref] == 1
    assert not set(browsers) & set(product.pids(Role.BROWSER)), "a killed browser is left"
    assert len(product.profiles()) <= 1, "a profile of a killed browser is left"


def _under_way(product: PlatformProcess, trace: Trace, moment: str) -> DemoRun:
    product.start()
    product.await_ready()
    with product.client() as client:
        await_run(client, first_demo(client).id)
        run = start_run(product, client, trace)
    MOMENTS[moment](product, trace, run)
    return run
