"""What a gateway that is one of several follows: its share of the public topics, and what the others project.

A composition root opens it, hands its `waiters` and `is_ready` to the gateway's services, and runs it beside the
server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from api_gateway.announcing import Announcements
from api_gateway.projecting import Projector, unmeasured
from api_gateway.waiting import Projected, Waiters
from kernel.clock import Clock
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.proposals import Proposals
from kernel.sql.port import Database, Signals


@dataclass(frozen=True, slots=True)
class Following:
    """One per process; made by `open`, before anybody is served."""

    waiters: Waiters
    announcements: Announcements
    projector: Projector

    @classmethod
    async def open(
        cls,
        log: EventLog,
        db: Database,
        signals: Signals,
        clock: Clock,
        *,
        measured: Callable[[Projected], None] = unmeasured,
    ) -> Following:
        """`measured` as in `Projector`. Errors are those of the database."""
        waiters = Waiters(lambda root_run_id: partition_of(root_run_id, log.partitions(Topic.JOB_RUNS)))
        announcements = await Announcements.open(log, db, signals, waiters, clock)
        return cls(waiters, announcements, Projector(log, db, announcements, clock, measured=measured))

    async def run(self, proposals: Proposals) -> None:
        """Project the proposed partitions of `job_runs`, and the same of `definitions`, and tell who waits; for ever.

        Ends by cancellation, or with `LogRefused` in an `ExceptionGroup` when nothing helps.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self.announcements.run())
            group.create_task(self.projector.run(proposals))

    async def is_ready(self) -> bool:
        """Whether requests may be sent here: announcements come through, and the partitions taken are caught up."""
        return self.announcements.is_listening and self.projector.is_caught_up
