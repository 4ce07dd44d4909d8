"""What a caller asks of a rehearsal: to stop behind a step, and to leave the page open for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kernel.domain.plan import RunOptions, WorkflowType
from kernel.domain.task import StepFinished, TaskEnded
from kernel.domain.values import Token
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.log.memory import Fault
from tests.support.doubles.runner_world import World, a_world
from tests.support.eventually import until
from tests.support.model_site import HOST, ModelContext, Site
from tests.support.runner_documents import FORM, OPEN, SAVE, a_shop, document, step
from tests.support.runner_world import CONNECTION, SECOND, kinds


def stop_after(step_id: str) -> RunOptions:
    return RunOptions(test_mode=True, stop_after_step=step_id)


async def test_a_run_ends_well_right_behind_the_step_that_it_was_to_stop_after() -> None:
    async with a_world(a_shop()) as world:
        await world.assign(FORM, inputs={"who": "Eve"}, options=stop_after("name"))
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert await world.opened(ended.output) == {"stoppedAfterStep": "name"}
        assert world.site.deeds["click Save"] == 0


async def test_the_last_name_is_that_of_the_last_step_that_was_walked() -> None:
    """Of what never comes no name is shown, behind a stop as behind a failure."""
    wrong = step("assert", "wrong", {"that": ["1 > 2"]})
    for walk, options, last in (
        (FORM, stop_after("name"), "name"),
        (document(OPEN, wrong, SAVE), RunOptions(), "wrong"),
    ):
        async with a_world(a_shop()) as world:
            await world.assign(walk, inputs={"who": "Eve"}, options=options)
            await world.until_report(TaskEnded)
            told = [report for report in await world.reports() if isinstance(report, StepFinished)]
            assert [report.next_name for report in told][-1] == ""
            assert told[-1].step_id == last


async def test_what_was_read_until_then_is_told_and_no_schema_is_owed() -> None:
    read = step("extract", "read", {"rows": {"role": "row"}, "fields": {"number": {}}})
    open_orders = step("navigate", "orders", {"url": f"https://{HOST}/orders"})
    walk = document(open_orders, read, SAVE, outputSchema={"type": "object", "required": ["all"]})
    async with a_world(a_shop()) as world:
        await world.assign(walk, options=stop_after("read"))
        ended = await world.until_report(TaskEnded)
        output = await world.opened(ended.output)
        assert output["stoppedAfterStep"] == "read"
        assert output["read"]["count"] == 2


async def test_inside_a_loop_the_first_end_of_the_step_counts() -> None:
    body = [OPEN, step("assert", "inner", {"that": ["item > 0"]}), SAVE]
    async with a_world(a_shop()) as world:
        await world.assign(
            document(step("for_each", "each", {"items": "[1, 2]", "body": body})), options=stop_after("inner")
        )
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert (world.site.deeds["goto /form"], world.site.deeds["click Save"]) == (1, 0)


@pytest.mark.parametrize("when", ["1 < 2", "1 > 2"])
async def test_a_step_that_is_skipped_has_ended_too(when: str) -> None:
    async with a_world(a_shop()) as world:
        skipped = step("assert", "maybe", {"that": ["true"]}, when=when)
        await world.assign(document(OPEN, skipped, SAVE), options=stop_after("maybe"))
        assert (await world.until_report(TaskEnded)).status is WorkflowRunStatus.COMPLETED
        assert world.site.deeds["click Save"] == 0


async def test_the_last_steps_of_the_author_run_all_the_same() -> None:
    walk = document(OPEN, SAVE, finally_=[step("navigate", "leave", {"url": f"https://{HOST}/done"})])
    async with a_world(a_shop()) as world:
        await world.assign(walk, options=stop_after("open"))
        await world.until_report(TaskEnded)
        assert world.site.deeds["goto /done"] == 1


async def test_a_later_attempt_stops_at_the_same_place() -> None:
    async with a_world(a_shop()) as world:
        await world.assign(FORM, inputs={"who": "Eve"}, options=stop_after("name"))
        await world.until_report(TaskEnded)
        journal = await world.journal()
        await world.assign(FORM, SECOND, inputs={"who": "Eve"}, options=stop_after("name"), journal=journal)
        await world.until_report(TaskEnded, SECOND)
        assert world.site.deeds["click Save"] == 0


async def test_a_login_that_was_stopped_on_the_way_is_not_saved() -> None:
    async with a_world(a_shop()) as world:
        await world.assign(
            document(OPEN, SAVE), type=WorkflowType.LOGIN, connection=CONNECTION, options=stop_after("open")
        )
        await world.until_report(TaskEnded)
        assert (world.vault.session, world.vault.proven) == (None, 0)


# ---------------------------------------------------------------- pages that stay open

KEEP = RunOptions(test_mode=True, keep_open_seconds=300)


async def ended_runs(world: World, count: int, **more: Any) -> None:
    for number in range(count):
        token = Token(number + 1, f"{number:032x}")
        await world.assign(document(OPEN), token, options=KEEP, **more)
        await world.until_report(TaskEnded, token)
    await until(lambda: world.runner.held == 0)


async def test_the_page_of_a_rehearsal_stays_open_behind_its_end_and_takes_no_slot() -> None:
    async with a_world(a_shop()) as world:
        await ended_runs(world, 1)
        assert kinds(await world.reports(Token(1, "0" * 32)))[-1] == "TaskEnded"
        assert (world.site.opened, world.site.closed) == (1, 0)
        await world.tick(60_000, times=4)
        assert world.site.closed == 0
        await world.tick(60_000, times=2)
        assert world.site.closed == 1


async def test_the_oldest_page_makes_room_for_the_newest() -> None:
    async with a_world(a_shop()) as world:
        await ended_runs(world, 5)
        await until(lambda: world.site.closed == 3)
        assert world.site.opened == 5


async def test_a_drain_closes_the_pages_that_were_kept() -> None:
    async with a_world(a_shop()) as world:
        await ended_runs(world, 2)
        assert world.running is not None
        world.runner.drain()
        await world.running
        assert world.site.closed == 2


# ---------------------------------------------------------------- a browser that hangs


class HangingContext(ModelContext):
    async def close(self) -> None:
        await asyncio.Event().wait()


class HangingBrowsers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def open(self, tenant: str, grant: object, state: bytes | None) -> HangingContext:
        self._site.opened += 1
        return HangingContext(self._site)

    async def close(self) -> None:
        return


async def test_a_page_that_does_not_close_holds_up_no_end() -> None:
    site = a_shop()
    async with a_world(site, browsers=HangingBrowsers(site)) as world:
        await world.assign(document(OPEN))
        await until(lambda: site.deeds["goto /form"] == 1)
        await world.tick(2000, times=6)
        assert (await world.until_report(TaskEnded)).status is WorkflowRunStatus.COMPLETED


async def test_a_page_that_does_not_close_holds_up_no_other_cut() -> None:
    """Silence cuts every attempt of a pool, again and again; one whose page hangs is cut once and not waited for."""
    site = a_shop()
    site.holds_at["goto /form"] = asyncio.Event()
    async with a_world(site, browsers=HangingBrowsers(site)) as world:
        for number in (1, 2):
            await world.assign(document(OPEN), Token(number, str(number) * 32))
        await until(lambda: site.opened == 2)
        world.log.faults = lambda _records: Fault.REFUSED
        await world.tick(1000, times=40)
        assert world.runner.held == 0
        world.log.faults = None
