"""What a test needs from the machine. Absent: skipped with the reason, or failed where `TOWPATH_REQUIRE=all`."""

from __future__ import annotations

import os

import pytest


def everything_is_required() -> bool:
    """Whether an absent component is a failure, as in continuous integration."""
    return os.environ.get("TOWPATH_REQUIRE") == "all"


def requires(name: str, *, available: bool, reason: str) -> pytest.MarkDecorator:
    """Mark tests that need `name`; `reason` says how to get it. `tests/conftest.py` turns skips into failures."""
    return pytest.mark.skipif(not available, reason=f"needs {name}: {reason}")
