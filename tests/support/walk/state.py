"""A state of the walked platform, made of small numbers and tuples only, and what an instance may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Pc(IntEnum):
    """Where a runner stands in its attempt."""

    IDLE = 0
    DEAD = 1
    TAKEN = 2
    """It will say `task.started`."""
    CHECK = 3
    """The `once` step is unknown: it will look."""
    HAPPENED = 4
    NOT_HAPPENED = 5
    """It looked, and will say so."""
    BEFORE = 6
    """It will say `step.started`."""
    READY = 7
    """That was read back; it will act as soon as the fence is open."""
    ACTED = 8
    """It will say the outcome."""
    LAST = 9
    """It will do the read and end."""
    ASK = 10
    WAITING = 11
    """It holds the page for a person."""
    ANSWERED = 12
    """It will say that the answer is used."""
    TYPING = 13
    """It will type the answer as soon as the fence is open."""


class Runner(NamedTuple):
    """One place with a watchdog and a runner."""

    pc: Pc = Pc.IDLE
    life: int = 1
    task: int = 0
    """The assignment that it holds."""
    number: int = 0
    """Of its last report."""
    fence: int = 0
    """Ticks that its fence stays open without another read."""
    answer: int = 0
    seen: tuple[int, ...] = ()
    """Assignments that it has taken or was told to stop, of those that may still come (again)."""
    is_death_told: bool = True


class Run(NamedTuple):
    """One root run: what `advance` knows, and its part of `task_reports`."""

    value: int = 0
    from_advance: tuple[int, ...] = ()
    from_dispatch: tuple[int, ...] = ()
    """Derived records on their way into the reports, in order."""
    unread: tuple[tuple[int, int], ...] = ()
    """(record, what of its token stood before it): landed, and not yet read by `advance`."""
    landed: tuple[int, ...] = ()
    """Everything in the reports that fences look at."""
    late: tuple[int, ...] = ()
    """Repeats of reports that will land at some time."""


class Inbox(NamedTuple):
    """A runner's inbox, by who writes into it: their records may overtake each other."""

    advance: tuple[int, ...] = ()
    dispatch: tuple[int, ...] = ()
    late: tuple[int, ...] = ()
    """Repeats, read at some time."""


class Platform(NamedTuple):
    """Everything."""

    runs: tuple[Run, ...]
    dispatch: int
    to_dispatch: tuple[int, ...]
    """Derived by `advance`, not yet read by `dispatch`."""
    inboxes: tuple[Inbox, ...]
    runners: tuple[Runner, ...]
    asked: tuple[int, ...]
    """Requests of people, not yet read by `advance`, in order."""
    acts: int = 0
    typed: tuple[int, ...] = ()
    """Answers that were typed."""
    faults: int = 0
    """How many more may happen."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A small instance. Times are in ticks."""

    program: str = "pay"
    """`pay`: a `once` step, then a read; `ask`: a person is asked, then a read."""
    cancel: bool = False
    second: bool = False
    """Another run wants the same login."""
    faults: int = 0
    """Of `kinds`, in one trace."""
    kinds: frozenset[str] = frozenset({"silence"})
    """`death`, `takeover`, `drain`, `repeat`; and `silence`, which takes no fault: whoever is slow, paused or lost."""
    lapses_max: int = 2
    fence: int = 1
    wait: int = 2
    wait_after_death: int = 1
    lease: int = 0
    """0: a silent runner loses its task at any time. That is more than can happen."""
    echo: int = 0
    stop: int = 0
    """0: a cancelled run is settled without the runner's word at any time."""
    hold: int = 0
    answer: int = 900
    """How long a person has; long by default."""
    acts_only: bool = False
    """Look at second acts only, not at live sessions or acts after the end: those come first in many traces."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The runner's own rules, each of which a test switches off."""

    reads_fence: bool = True
    """Its fence opens by reading the reports; otherwise by an acknowledged heartbeat."""
    reads_back: bool = True
    """It acts only when its `step.started` has no lapse or settling before it."""
    drops_repeats: bool = True
    remembers_stops: bool = True
    advance_reads_lapses: bool = True
    """Otherwise `advance` learns a lapse when it is decided, not when it is read."""


def put(state: Platform, root: int, run: Run) -> Platform:
    """The state with another value of one run."""
    return state._replace(runs=(*state.runs[:root], run, *state.runs[root + 1 :]))


def put_inbox(state: Platform, place: int, inbox: Inbox) -> Platform:
    """The state with another inbox."""
    return state._replace(inboxes=(*state.inboxes[:place], inbox, *state.inboxes[place + 1 :]))


def put_runner(state: Platform, place: int, runner: Runner) -> Platform:
    """The state with another runner."""
    return state._replace(runners=(*state.runners[:place], runner, *state.runners[place + 1 :]))
