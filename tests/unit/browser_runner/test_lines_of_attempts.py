"""What the runner logs names the run and the step it is about, whoever writes the line, and nothing that is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from browser_runner.steps import EXECUTORS
from kernel.domain.task import TaskEnded
from kernel.steps.document import AssertStep
from kernel.tracing.context import of_run
from tests.support.doubles.runner_world import World, a_world
from tests.support.eventually import until
from tests.support.runner_documents import document, step
from tests.support.runner_world import FIRST, ORGANIZATION, ROOT, RUN, SECOND
from tests.support.told_lines import Told, telling

NAMES = ("organization_id", "root_run_id", "workflow_run_id", "attempt", "step", "trace_id")
LOOP = step("for_each", "orders", {
    "items": "[1, 2]", "variable": "order", "maxItems": 2,
    "body": [step("assert", "look", {"that": ["true"]})],
})  # fmt: skip
_log = structlog.get_logger("tests.deep_below")


@pytest.fixture
def told() -> Iterator[Told]:
    with telling() as told:
        yield told


@pytest.fixture
def outliving(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[asyncio.Task[None]]]:
    """Every `assert` logs, as a library does and as a task of its own that goes on until it is told to end."""
    tasks: list[asyncio.Task[None]] = []
    execute: Callable[..., Any] = EXECUTORS[AssertStep]

    async def go_on() -> None:
        _log.info("begun")
        try:
            await asyncio.Event().wait()
        finally:
            _log.info("outlived")

    async def and_say(trying: object, one: AssertStep) -> object:
        logging.getLogger("a.library").warning("in a step")
        tasks.append(asyncio.create_task(go_on()))
        await asyncio.sleep(0)
        return await execute(trying, one)

    monkeypatch.setitem(EXECUTORS, AssertStep, and_say)
    yield tasks
    for task in tasks:
        task.cancel()


async def ended(world: World, **more: Any) -> None:
    await world.until_report(TaskEnded, **more)
    await until(lambda: world.runner.held == 0)


def about(told: Told, event: str) -> list[dict[str, Any]]:
    return [{name: line[name] for name in NAMES if name in line} for line in told.lines(event)]


async def test_a_line_of_a_step_names_organization_run_attempt_and_step_and_a_later_one_none(
    told: Told, outliving: list[asyncio.Task[None]]
) -> None:
    async with a_world() as world:
        await world.assign(document(step("assert", "first", {"that": ["true"]}), LOOP))
        await ended(world)
        run = {"organization_id": ORGANIZATION, "root_run_id": ROOT, "workflow_run_id": RUN, "attempt": 1}
        steps = [{**run, "step": path} for path in ("first", "orders[0].look", "orders[1].look")]
        assert about(told, "in a step") == steps
        assert about(told, "begun") == steps
        _log.info("afterwards")
        for task in outliving:
            task.cancel()
        await asyncio.gather(*outliving, return_exceptions=True)
    assert about(told, "afterwards") == [{}]
    assert about(told, "outlived") == [{}] * 3


async def test_attempts_side_by_side_each_tell_of_themselves(
    told: Told, outliving: list[asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, both = EXECUTORS[AssertStep], asyncio.Barrier(2)

    async def together(trying: object, one: AssertStep) -> object:
        await both.wait()
        return await execute(trying, one)

    monkeypatch.setitem(EXECUTORS, AssertStep, together)
    async with a_world() as world:
        for token in (FIRST, SECOND):
            await world.assign(document(step("assert", f"of{token.attempt}", {"that": ["true"]})), token)
        for token in (FIRST, SECOND):
            await ended(world, token=token)
    found = {(line["attempt"], line["step"]) for line in about(told, "begun")}
    assert found == {(1, "of1"), (2, "of2")}
    assert len(outliving) == 2


async def test_a_broken_attempt_is_told_with_its_run_and_with_its_trace_where_somebody_traces(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_world() as world:
        monkeypatch.setattr(type(world.services.tracer), "is_on", True)
        monkeypatch.setattr("browser_runner.attempt.prepare", lambda text: 1 / 0 if text else None)
        await world.assign(document(step("assert", "first", {"that": ["true"]})))
        await until(lambda: bool(told.lines("attempt_broke")))
    line = about(told, "attempt_broke")[0]
    assert (line["root_run_id"], line["attempt"], line["trace_id"]) == (ROOT, 1, of_run(ROOT).trace)
