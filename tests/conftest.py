"""Rules that hold for every test: an absent component is told, and fails where everything is required."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.support.requires import everything_is_required

# A busy machine is slow; that alone is no failure of a property.
settings.register_profile("towpath", deadline=None, print_blob=True)
settings.load_profile("towpath")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for whoever is started in the background, and children that a test interrupts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and everything_is_required():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and TOWPATH_REQUIRE=all: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and everything_is_required():
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and TOWPATH_REQUIRE=all: {_reason(report.longrepr)}"
    return report


def _reason(told: object) -> str:
    return str(told[2]) if isinstance(told, tuple) else str(told)
