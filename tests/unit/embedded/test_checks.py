"""What `doctor` says of folder, disk and browser."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from api_gateway.doctor import Verdict
from embedded.checks import FREE_BYTES_LEAST, FREE_BYTES_MIN, browser_finding, disk_finding, folder_finding
from embedded.settings import Settings


def test_a_key_that_others_may_read_is_told_by_name(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    settings.api_key.write_text("k")
    settings.api_key.chmod(0o600)
    assert folder_finding(settings).verdict is Verdict.OK
    settings.api_key.chmod(0o640)
    found = folder_finding(settings)
    assert (found.verdict, "api-key" in found.message) == (Verdict.FAILED, True)


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
