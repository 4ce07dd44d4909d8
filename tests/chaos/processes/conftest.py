"""One product at a time: these tests measure how fast it comes back, so they do not run beside each other."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.chromium import chromium_path
from tests.support.platform_process import PlatformProcess


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The turn of this test among the workers of a parallel run."""
    with (tmp_path_factory.getbasetemp().parent / "one-product-at-a-time.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def product(alone: None, tmp_path: Path) -> Iterator[PlatformProcess]:
    """The product over a fresh folder, not started; nothing of it outlives the test."""
    with PlatformProcess(tmp_path, browser=chromium_path()) as product:
        yield product


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Say what was measured, past the capturing of output; a worker of a parallel run has no terminal."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return say
