"""What is started again, what is not, and what people are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cluster.keeping import Keeper
from cluster.parts import Restarts
from kernel.errors import Permanent


@dataclass
class Model:
    """A part whose process is a flag."""

    name: str
    address: str = ""
    is_running: bool = True
    is_broken: bool = False
    starts: int = 0
    pids: Sequence[int] = field(default_factory=lambda: [7])

    def start(self) -> None:
        self.starts += 1
        if self.is_broken:
            raise Permanent("component_failed", "it ended by itself\nwith much to tell")
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False

    def kill(self) -> None:
        self.is_running = False


class Time:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_what_died_after_a_long_life_is_started_again_at_once_and_told(time: Time) -> None:
    told, changed = list[str](), list[int]()
    part, other = Model("scheduler-1"), Model("scheduler-2")
    keeper = Keeper([part, other], told.append, lambda: changed.append(1), time)
    time.now += 60
    part.kill()

    keeper.look()

    assert part.is_running
    assert (part.starts, other.starts) == (1, 0)
    assert told == ["scheduler-1 died; started again as process 7"]
    assert changed == [1]


def test_short_lives_make_the_next_start_later_and_a_long_one_makes_up_for_them(time: Time) -> None:
    restarts = Restarts(time)
    waits = []
    for _ in range(8):
        died = time.now
        while not restarts.is_due():
            time.now += 0.01
        waits.append(round(time.now - died, 1))
        restarts.restarted()

    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    time.now += 60
    assert restarts.is_due()


def test_a_part_that_does_not_start_is_told_in_one_line_and_tried_again(time: Time) -> None:
    told = list[str]()
    part = Model("kafka", is_running=False, is_broken=True)
    keeper = Keeper([part], told.append, lambda: None, time)
    time.now += 60

    keeper.look()
    assert told == ["kafka died and does not start: it ended by itself"]
    part.is_broken = False
    time.now += 60
    keeper.look()

    assert part.is_running
    assert part.starts == 2
