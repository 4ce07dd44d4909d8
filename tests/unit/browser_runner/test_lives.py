"""The watchdog tells of a life that is over; whatever the log does, the next life is not kept waiting."""

from __future__ import annotations

import threading
import time

import pytest

from browser_runner import watching
from browser_runner.scratch import Scratch
from browser_runner.watchdog import Death
from browser_runner.watching import _Lives
from kernel.clock import SystemClock
from kernel.ids import SystemEntropy
from kernel.log.kafka.settings import KafkaSettings


def test_a_report_that_hangs_holds_up_no_next_life(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    async def hang(_lives: _Lives, _incarnation: str) -> None:
        asked.set()
        answered.wait(60)

    monkeypatch.setattr(watching, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(watching, "_ENDING_SECONDS", 0.1)
    monkeypatch.setattr(_Lives, "_append", hang)
    scratch = Scratch()
    lives = _Lives(KafkaSettings("127.0.0.1:9"), "host", scratch, SystemClock(), SystemEntropy())
    lives.begin()
    (scratch.path / "profile").mkdir()
    began = time.monotonic()
    try:
        lives.over(Death(1, -9, was_hung=False, lived_seconds=3.0))
        assert time.monotonic() - began < 15
        assert asked.wait(10)
        assert not list(scratch.path.iterdir())
    finally:
        answered.set()
        scratch.remove()
