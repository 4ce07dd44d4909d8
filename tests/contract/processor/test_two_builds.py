"""Two builds take turns on one ledger: an upgrade while work goes on, and the way back.

The builds differ in the classes of their state. An older one is handed what a newer one wrote, snapshots included, and
the other way round, again and again; in between both hold the partition in turn, paused and fenced as any two owners.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from kernel.domain.decider import Decision
from kernel.domain.owner import OwnerSnapshotChunked, OwnerSnapshotCompleted
from kernel.errors import LogRefused, NotOwner, UnknownType
from kernel.log.envelope import Message
from kernel.log.port import Stored
from kernel.processor import Action, Owner, Ports
from kernel.processor.values import StateValues
from tests.support.processing import Bench, check_outside, map_of, run_to_idle
from tests.support.toy_decider import Did, Thing, ToyDecider, asked


def additive() -> type:
    """The same class with one field more."""

    @dataclass(frozen=True, slots=True)
    class Thing:
        number: int
        status: str
        due_ms: int = 0
        woken: int = 0

    return Thing


def reshaped(written: int) -> type:
    """The same class in another shape, two fields have become one; values are written in shape `written`."""

    @dataclass(frozen=True, slots=True)
    class Former:
        number: int
        status: str
        due_ms: int = 0

        def raised(self) -> Any:
            newer: Any = Thing
            return newer(self.number, [self.status, str(self.due_ms)])

        @classmethod
        def lowered(cls, value: Any) -> Any:
            return cls(value.number, value.status, value.due_ms)

    @dataclass(frozen=True, slots=True)
    class Thing:
        SHAPE: ClassVar[int] = 1
        FORMER: ClassVar[tuple[type, ...]] = (Former,)
        WRITES: ClassVar[int] = written
        number: int
        state: list[str]

        @property
        def status(self) -> str:
            return self.state[0]

        @property
        def due_ms(self) -> int:
            return int(self.state[1])

    return Thing


OLD = Thing
NEW = additive()
RESHAPED = reshaped(1)
PREPARED = reshaped(0)
"""The release before `RESHAPED`: it works in the new shape and writes the old one."""


class _Build(ToyDecider):
    """The toy with the state of one build."""

    def __init__(self, cls: type) -> None:
        super().__init__()
        self.value_types = (cls,)

    def evolve(self, key: str, old: Any | None, decision: Decision) -> Any | None:
        made = super().evolve(key, old, decision)
        (cls,) = self.value_types
        if made is None or cls is OLD:
            return made
        if cls is RESHAPED or cls is PREPARED:
            return cls(made.number, [made.status, str(made.due_ms)])
        woken = (old.woken if old is not None else 0) + (decision.event.what == "signalled")
        return cls(made.number, made.status, made.due_ms, woken)


async def turn(bench: Bench, cls: type, *whats: str) -> Owner:
    """A build takes over, works off what is asked, and leaves its snapshots behind."""
    bench.decider = _Build(cls)
    await bench.log.inner.append([asked(bench.codec, what) for what in whats])
    owner = bench.owner()
    await run_to_idle(owner)
    return owner


def story(*whats: str) -> dict[str, list[Did]]:
    return {"A": [Did(what, number) for number, what in enumerate(whats, start=1)]}


async def test_a_field_more_goes_there_and_back_while_work_goes_on(bench: Bench) -> None:
    await turn(bench, OLD, "start", *["signal"] * 7)
    newer = await turn(bench, NEW, *["signal"] * 7)
    assert map_of(newer)["A"].woken > 0
    assert {type(value) for value in map_of(newer).values()} == {NEW}
    older = await turn(bench, OLD, *["signal"] * 7)
    assert map_of(older) == {"A": OLD(22, "live")}
    again = await turn(bench, NEW, "signal")
    assert map_of(again)["A"].number == 23
    await check_outside(bench, story("started", *["signalled"] * 22))
    assert await snapshots(bench) > 0


async def test_both_builds_at_once_are_two_owners_like_any(bench: Bench) -> None:
    bench.decider = _Build(OLD)
    await bench.log.inner.append([asked(bench.codec, "start"), asked(bench.codec, "signal")])
    older = bench.owner()
    await until(older, Action.APPEND)
    await turn(bench, NEW, "signal")
    with pytest.raises(NotOwner):
        await run_to_idle(older)
    await turn(bench, OLD, "end")
    await check_outside(bench, story("started", "signalled", "signalled", "ended"))


async def test_another_shape_is_raised_by_the_newer_build_and_refused_by_the_older_one(bench: Bench) -> None:
    await turn(bench, OLD, "start", *["signal"] * 10)
    newer = await turn(bench, RESHAPED, *["signal"] * 10)
    assert map_of(newer) == {"A": RESHAPED(21, ["live", "0"])}
    appended = bench.log.appends
    with pytest.raises(LogRefused, match=r"a Thing of shape 1, and this build knows them up to 0: run the build that"):
        await turn(bench, OLD)
    assert bench.log.appends == appended + 1  # its claim; nothing of what it cannot read was decided, told or deleted
    await turn(bench, RESHAPED, "end")
    await check_outside(bench, story("started", *["signalled"] * 20, "ended"))


async def test_a_new_shape_that_is_read_a_release_early_can_be_taken_back_twice(bench: Bench) -> None:
    await turn(bench, OLD, "start", *["signal"] * 7)
    shapes = []
    for build in (PREPARED, OLD, PREPARED, RESHAPED, PREPARED, OLD):
        owner = await turn(bench, build, *["signal"] * 7)
        assert {type(value) for value in map_of(owner).values()} == {build}
        shapes.append(max(await written_shapes(bench)))
    assert shapes == [0, 0, 0, 1, 0, 0]
    assert map_of(owner) == {"A": OLD(50, "live")}
    await check_outside(bench, story("started", *["signalled"] * 49))


class _WithoutEnds:
    """The codec of a build that does not know yet that things end."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.encode = inner.encode

    def decode(self, stored: Stored) -> Message:
        message: Message = self._inner.decode(stored)
        if isinstance(message.event, Did) and message.event.what == "ended":
            raise UnknownType("thing.ended")
        return message


async def test_a_decision_of_a_newer_build_stops_the_older_one_in_one_line(bench: Bench) -> None:
    await turn(bench, OLD, "start", "end")
    older = Owner(bench.decider, 0, without_ends(bench))
    with pytest.raises(LogRefused, match=r"run_ledger/0 holds a thing\.ended at \d+, which this build does not know"):
        await run_to_idle(older)
    await turn(bench, OLD, "forget")
    await check_outside(bench, story("started", "ended", "forgot"))


async def test_an_older_owner_stands_down_for_a_claim_among_records_that_it_cannot_read(bench: Bench) -> None:
    await bench.log.inner.append([asked(bench.codec, "start")])
    older = Owner(bench.decider, 0, without_ends(bench))
    await until(older, Action.APPEND)
    await turn(bench, OLD, "end")
    with pytest.raises(NotOwner):
        await run_to_idle(older)
    await check_outside(bench, story("started", "ended"))


def test_a_class_that_forgets_a_former_shape_is_no_state() -> None:
    @dataclass(frozen=True, slots=True)
    class Thing:
        SHAPE: ClassVar[int] = 1
        number: int

    with pytest.raises(TypeError, match="keeps 0 former ones"):
        StateValues((Thing,))


def test_a_class_is_written_in_a_shape_only_to_which_its_values_can_be_lowered() -> None:
    @dataclass(frozen=True, slots=True)
    class Former:
        number: int

    @dataclass(frozen=True, slots=True)
    class Thing:
        SHAPE: ClassVar[int] = 1
        FORMER: ClassVar[tuple[type, ...]] = (Former,)
        WRITES: ClassVar[int] = 0
        number: int

    with pytest.raises(TypeError, match="Thing is written in shape 0, to which it cannot be lowered"):
        StateValues((Thing,))


def without_ends(bench: Bench) -> Ports:
    return replace(bench.ports(), codec=_WithoutEnds(bench.codec))


async def until(owner: Owner, action: Action) -> None:
    while await owner.step() is not action:
        pass


async def snapshots(bench: Bench) -> int:
    """How many snapshots stand in what is kept of the ledger."""
    return sum(isinstance(message.event, OwnerSnapshotCompleted) for message in await bench.ledger())


async def written_shapes(bench: Bench) -> list[int]:
    """The shapes of the entries of the newest snapshot."""
    ledger = await bench.ledger()
    start = max(m.event.start for m in ledger if isinstance(m.event, OwnerSnapshotCompleted))
    return [m.event.shape for m in ledger if isinstance(m.event, OwnerSnapshotChunked) and m.offset >= start]
