"""The runner's process without a browser: put together, serving, drained."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from browser_runner.main import serve
from browser_runner.settings import Settings
from kernel.clock import SystemClock
from kernel.domain.ids import Incarnation
from kernel.domain.task import RunnerHeartbeat, TaskEnded
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.ids import SystemEntropy
from kernel.log.topics import Topic
from kernel.redaction import LiveSecrets
from kernel.store.port import ByteStore, Vault
from tests.support.runner_world import World, a_world


async def beats(world: World) -> list[RunnerHeartbeat]:
    return [event for event in await world.events(Topic.DISPATCH) if isinstance(event, RunnerHeartbeat)]


async def test_a_runner_for_light_work_serves_until_it_is_told_to_stop() -> None:
    clock, stop = SystemClock(), asyncio.Event()
    async with a_world(clock=clock, run=False) as world:
        store, vault = cast("ByteStore", world.store), cast("Vault", world.vault)
        serving = asyncio.create_task(
            serve(
                Settings(browser_slots=0, light_slots=3),
                world.log,
                store,
                vault,
                clock=clock,
                entropy=SystemEntropy(),
                live=LiveSecrets(),
                stop=stop,
                incarnation=Incarnation("runner-1"),
            )
        )
        async with asyncio.timeout(10):
            while not await beats(world):  # noqa: ASYNC110 (the log wakes nobody for a topic of two partitions)
                await asyncio.sleep(0.001)
        beat = (await beats(world))[0]
        assert (beat.slots, beat.incarnation) == (3, "runner-1")
        world.services = replace(world.services, inbox_partition=beat.inbox_partition)
        proof = {"id": "proof", "type": "assert", "params": {"that": ["1 < 2"]}}
        await world.assign({"version": 1, "steps": [proof]})
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        stop.set()
        async with asyncio.timeout(10):
            await serving
