"""Ctrl-C that cannot get lost, and what follows the log with it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from towpath.cli import cli
from towpath.commands.shared import App
from towpath.event_log import reading
from towpath.interrupting import remembered_interrupts


@pytest.fixture(autouse=True)
def an_ordinary_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler, "it was not put back"


def interrupt_that_is_dropped() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_somebody_dropped_is_found_at_the_next_look() -> None:
    with remembered_interrupts() as check:
        check()
        interrupt_that_is_dropped()
        with pytest.raises(KeyboardInterrupt):
            check()


def test_an_error_that_was_made_of_an_interrupt_leaves_as_one() -> None:
    def follow() -> None:
        with remembered_interrupts():
            interrupt_that_is_dropped()
            raise ImportError("module not found")

    with pytest.raises(KeyboardInterrupt):
        follow()


def test_other_errors_leave_as_they_are() -> None:
    with pytest.raises(ImportError), remembered_interrupts():
        raise ImportError("module not found")


def test_whoever_ignores_interrupts_goes_on_ignoring_them() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with remembered_interrupts() as check:
        signal.raise_signal(signal.SIGINT)
        check()
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is signal.SIG_IGN


def test_in_another_thread_nothing_changes() -> None:
    done = []

    def look() -> None:
        with remembered_interrupts() as check:
            check()
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


class _Consumer:
    """A consumer of a topic where nothing happens; in its third poll an interrupt comes and is dropped."""

    def __init__(self, _configuration: dict[str, Any]) -> None:
        self.polls = 0

    def list_topics(self, name: str, timeout: float) -> Any:
        assert timeout > 0
        return SimpleNamespace(topics={name: SimpleNamespace(error=None, partitions={0: None})})

    def assign(self, _places: list[Any]) -> None:
        pass

    def consume(self, _count: int, _seconds: float) -> list[Any]:
        self.polls += 1
        assert self.polls < 10, "it goes on after an interrupt"
        if self.polls == 3:
            interrupt_that_is_dropped()
        return []

    def close(self) -> None:
        pass


def follow_until_interrupted() -> None:
    result = CliRunner().invoke(cli, ["events", "tail", "--kafka", "127.0.0.1:1"], obj=App())
    assert result.exit_code == 130, result.output
    assert "Stopped following" in result.stderr


def test_following_the_log_ends_though_the_library_drops_the_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "Consumer", _Consumer)
    follow_until_interrupted()


def test_following_the_log_ends_though_the_library_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(_Consumer, "close", lambda _: hangs.wait())
    monkeypatch.setattr(reading, "Consumer", _Consumer)
    monkeypatch.setattr(reading, "_CLOSE_SECONDS", 0.01)
    follow_until_interrupted()
    hangs.set()
