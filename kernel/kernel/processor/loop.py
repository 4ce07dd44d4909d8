"""Owning partitions for as long as the process is asked to: the loop around an owner, and the partitions of a decider.

The ledger decides who owns a partition; being called here is a proposal only. An owner that reads another claim stands
down, waits, and claims again as long as it is still proposed: a claim that was sent by a former owner and landed late
leaves a partition with nobody, and it must not stay so.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.domain.decider import Decider
from kernel.errors import LogRefused, NotOwner, Temporary
from kernel.processor.owner import Action, Owner
from kernel.processor.ports import Ports
from kernel.proposals import Proposals

_WAIT_SECONDS_FIRST = 0.5
_WAIT_SECONDS_LAST = 8.0
_FRAMES_TOLD = 4


async def run_decider(
    decider: Decider, ports: Ports, stop: asyncio.Event, partitions: Iterable[int] | None = None
) -> None:
    """Own `partitions` of `decider` (all when None) until `stop` is set and they are drained.

    Raises `LogRefused` (in an `ExceptionGroup`) when the log can never serve one of them. Everything else that goes
    wrong is told to the observer and tried again. Cancel it to leave at once; that is as safe as a crash.
    """
    owned = range(ports.log.partitions(decider.ledger)) if partitions is None else partitions
    async with asyncio.TaskGroup() as group:
        for partition in owned:
            group.create_task(run_partition(decider, partition, ports, stop), name=f"{decider.name}/{partition}")


async def run_proposed(decider: Decider, ports: Ports, stop: asyncio.Event, proposals: Proposals) -> None:
    """Own what `proposals` proposes, as it changes, until `stop` is set and all is drained.

    A partition that is proposed no more is drained; whoever is proposed it need not wait for that, and then the drain
    ends as the other claim is read. While proposals are withheld, what is owned is owned on, and a partition that
    somebody else has claimed is not claimed back. Errors are those of `run_decider`.
    """
    owned: dict[int, _Owned] = {}
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            wanted = proposals.now
            for partition in sorted(wanted - owned.keys()):
                owned[partition] = _Owned.begin(group, decider, partition, ports, proposals)
            for partition in owned.keys() - wanted:
                owned[partition].stop.set()
            await _change(proposals, wanted, stop, [one.task for one in owned.values() if one.stop.is_set()])
            owned = {partition: one for partition, one in owned.items() if not one.task.done()}
        for one in owned.values():
            one.stop.set()


@dataclass(frozen=True, slots=True)
class _Owned:
    """A partition that was proposed, and the way to end owning it."""

    task: asyncio.Task[None]
    stop: asyncio.Event

    @classmethod
    def begin(
        cls, group: asyncio.TaskGroup, decider: Decider, partition: int, ports: Ports, proposals: Proposals
    ) -> _Owned:
        stop = asyncio.Event()
        name = f"{decider.name}/{partition}"
        return cls(group.create_task(run_partition(decider, partition, ports, stop, proposals), name=name), stop)


async def _change(
    proposals: Proposals, known: frozenset[int], stop: asyncio.Event, draining: Iterable[asyncio.Task[None]]
) -> None:
    """Wait until there is another proposal, `stop` is set, or one of `draining` is drained."""
    waiting = (asyncio.create_task(proposals.other_than(known)), asyncio.create_task(stop.wait()))
    try:
        await asyncio.wait((*waiting, *draining), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def run_partition(
    decider: Decider, partition: int, ports: Ports, stop: asyncio.Event, proposals: Proposals | None = None
) -> None:
    """Own one partition until `stop` is set and it is drained; claims while `proposals` are not withheld.

    Raises `LogRefused` only.
    """
    wait_seconds = _WAIT_SECONDS_FIRST
    while not stop.is_set():
        began_ms = ports.clock.boot_ms()
        try:
            await run_owner(Owner(decider, partition, ports, reads_ahead=True), stop, proposals)
        except LogRefused:
            raise
        except NotOwner:
            ports.observer.stood_down(decider.name, partition)
        except Exception as error:  # noqa: BLE001 (the edge of the loop: a partition is never left to nobody)
            ports.observer.failed(decider.name, partition, "the owner starts again", _whereabouts(error))
        else:
            return
        lasted_ms = ports.clock.boot_ms() - began_ms
        wait_seconds = _WAIT_SECONDS_FIRST if lasted_ms > 60_000 else min(wait_seconds * 2, _WAIT_SECONDS_LAST)
        await _first_of(stop.wait(), ports.clock.sleep(wait_seconds * (0.5 + ports.entropy.fraction() / 2)))


def _whereabouts(error: Exception) -> str:
    """The kind of an error and the last places in the code on its way, without any value of it."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_TOLD:]
    return " ".join([type(error).__name__, *(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1])])


async def run_owner(owner: Owner, stop: asyncio.Event, proposals: Proposals | None = None) -> None:
    """Step `owner` until it is drained after `stop`; it claims only while `proposals` are not withheld.

    Raises what `Owner.step` raises, except temporary failures.
    """
    stopper = asyncio.create_task(_drain_on(stop, owner))
    alarm = Alarm(owner)
    try:
        while True:
            if proposals is not None and owner.enabled()[0] is Action.CLAIM:
                await _first_of(stop.wait(), proposals.not_withheld())
                if stop.is_set():
                    return  # what it had in flight is for the next owner
            try:
                action = await owner.step()
            except Temporary as error:
                await owner.ports.clock.sleep(max(error.delay_seconds, 0.01))
                continue
            if action is Action.DRAINED:
                return
            if owner.unknown_in_a_row > 1:
                await owner.ports.clock.sleep(min(0.05 * 2**owner.unknown_in_a_row, _WAIT_SECONDS_LAST))
            if action is Action.IDLE and not owner.is_draining:
                alarm.set(owner.sleep_ms())
                await owner.await_work()
    finally:
        alarm.stop()
        stopper.cancel()
        await owner.close()


async def _drain_on(stop: asyncio.Event, owner: Owner) -> None:
    await stop.wait()
    owner.drain()


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of `waits` does."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class Alarm:
    """Rings an owner at its next due time. One sleeping task serves many turns: only an earlier one replaces it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._at_ms = 0.0

    def set(self, after_ms: int | None) -> None:
        """Ring after `after_ms`, or earlier if it is set already."""
        if after_ms is None:
            return
        at_ms = self._owner.ports.clock.boot_ms() + after_ms
        if self._task is not None and not self._task.done() and self._at_ms <= at_ms:
            return
        self.stop()
        self._at_ms = at_ms
        self._task = asyncio.create_task(self._ring(after_ms))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _ring(self, after_ms: int) -> None:
        await self._owner.ports.clock.sleep(after_ms / 1000)
        self._owner.ring()
