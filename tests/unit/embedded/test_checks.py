"""What `doctor` says of folder, disk, browser and keys."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from api_gateway.doctor import DAY_MS, Verdict
from embedded.checks import FREE_BYTES_LEAST, FREE_BYTES_MIN, browser_finding, checks, disk_finding, folder_finding
from embedded.settings import Settings
from tests.support.reports import TestClock


def test_a_key_that_others_may_read_is_told_by_name(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    settings.api_key.write_text("k")
    settings.api_key.chmod(0o600)
    assert folder_finding(settings).verdict is Verdict.OK
    settings.api_key.chmod(0o640)
    found = folder_finding(settings)
    assert (found.verdict, "api-key" in found.message) == (Verdict.FAILED, True)


async def test_the_age_of_the_folders_keys_is_told_and_those_that_can_be_exchanged_have_a_limit(tmp_path: Path) -> None:
    clock, settings = TestClock(), Settings(tmp_path)
    for path in (tmp_path / "signing-key", tmp_path / "pepper", settings.keyring):
        path.write_text("k")
        os.utime(path, (clock.ms / 1000, clock.ms / 1000))
    key_files = dict(checks(settings, clock))["key files"]
    clock.ms += 365 * DAY_MS
    found = await key_files()
    assert (found.verdict, found.message) == (
        Verdict.OK,
        "days since they were changed: signing key 365, pepper 365, keyring 365",
    )
    clock.ms += DAY_MS
    found = await key_files()
    assert (found.verdict, found.message) == (
        Verdict.WARNING,
        "not changed for more than a year: signing key 366 days, keyring 366 days",
    )
    assert "remove signing-key" in found.advice
    assert "rotate-keyring" in found.advice


@pytest.mark.parametrize(
    ("free", "verdict"),
    [
        (FREE_BYTES_MIN, Verdict.OK),
        (FREE_BYTES_MIN - 1, Verdict.WARNING),
        (FREE_BYTES_LEAST - 1, Verdict.FAILED),
    ],
)
def test_a_disk_is_told_before_it_is_full(tmp_path: Path, free: int, verdict: Verdict) -> None:
    assert disk_finding(tmp_path, free).verdict is verdict


@pytest.mark.parametrize(
    ("browser", "is_root", "verdict"),
    [
        ("", False, Verdict.WARNING),
        ("/nowhere/chromium", False, Verdict.FAILED),
        (sys.executable, True, Verdict.WARNING),
        (sys.executable, False, Verdict.OK),
    ],
)
def test_a_browser_is_told_by_how_well_it_is_shut_in(browser: str, is_root: bool, verdict: Verdict) -> None:
    assert browser_finding(browser, is_root=is_root).verdict is verdict
