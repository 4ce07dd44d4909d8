"""Owning what a group proposes, for the length of a process: join, own, hand over, leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from kernel.domain.decider import Decider
from kernel.processor.loop import run_proposed
from kernel.processor.ports import Ports
from kernel.proposals import Proposals

HAND_OVER_SECONDS = 0.3
"""What draining gets before the group is told to give everything to others; they need not wait for the rest of it."""


class Group(Protocol):
    """Processes that share the partitions of some topics."""

    def proposals(self, topic: str) -> Proposals:
        """What this process should own of `topic`."""
        ...

    async def leave(self) -> None:
        """Let the others have everything. Idempotent."""
        ...


async def run_in_group(
    deciders: Sequence[Decider], ports: Ports, group: Group, stop: asyncio.Event, *, drain_seconds: float
) -> None:
    """Own what `group` proposes of each decider's ledger until `stop` is set; then drain and leave.

    What is not drained after `drain_seconds` is left as by a crash, which is as safe. Raises `LogRefused` (in an
    `ExceptionGroup`) when the log can never serve one of them.
    """
    async with asyncio.TaskGroup() as running:
        owners = [
            running.create_task(run_proposed(decider, ports, stop, group.proposals(decider.ledger)))
            for decider in deciders
        ]
        await stop.wait()
        await asyncio.wait(owners, timeout=min(HAND_OVER_SECONDS, drain_seconds))
        await group.leave()
        await asyncio.wait(owners, timeout=drain_seconds)
        for owner in owners:
            owner.cancel()
