"""What lines are about: inside a block, in what is begun inside, and no longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest
import structlog

from kernel.line_context import LineContext, add_to_lines
from tests.support.told_lines import Told, telling

NAMES = ("organization_id", "root_run_id", "step", "request_id")
_log = structlog.get_logger("tests.line_context")


@pytest.fixture
def told() -> Iterator[Told]:
    with telling() as told:
        yield told


def about(told: Told, event: str = "said") -> list[dict[str, Any]]:
    return [{name: line[name] for name in NAMES if name in line} for line in told.lines(event)]


def say(event: str = "said") -> None:
    _log.info(event)


def test_a_line_has_what_all_blocks_around_it_say_and_afterwards_nothing(told: Told) -> None:
    with LineContext(root_run_id="run-1"):
        with LineContext(step="a"):
            say()
        say()
    say()
    assert about(told) == [{"root_run_id": "run-1", "step": "a"}, {"root_run_id": "run-1"}, {}]


def test_an_inner_block_comes_before_an_outer_one_and_the_line_itself_before_both(told: Told) -> None:
    with LineContext(step="loop"), LineContext(step="loop[0].click"):
        say()
        _log.info("said", step="its own")
    assert about(told) == [{"step": "loop[0].click"}, {"step": "its own"}]


def test_a_block_ends_with_an_error(told: Told) -> None:
    with pytest.raises(ValueError, match="broken"), LineContext(step="a"):
        raise ValueError("broken")
    say()
    assert about(told) == [{}]


def test_what_becomes_known_later_is_added_and_goes_with_the_block(told: Told) -> None:
    with LineContext(request_id="request-1"):
        add_to_lines(organization_id="acme")
        say()
    add_to_lines(organization_id="nobody's")
    say()
    assert about(told) == [{"request_id": "request-1", "organization_id": "acme"}, {}]


def test_what_is_not_known_is_left_out_and_libraries_lines_have_the_same(told: Told) -> None:
    with LineContext(request_id="request-1", organization_id=""):
        logging.getLogger("theirs").warning("said")
    assert about(told) == [{"request_id": "request-1"}]


def test_an_id_that_is_a_live_secret_is_hidden_as_well(told: Told) -> None:
    told.live.add("hunter2-hunter2")
    with LineContext(request_id="hunter2-hunter2"):
        say()
    assert about(told) == [{"request_id": "[redacted]"}]


async def test_tasks_and_threads_begun_inside_have_it_until_the_block_ends(told: Told) -> None:
    over = asyncio.Event()

    async def outliving() -> None:
        say()
        await over.wait()
        say("later")

    with LineContext(root_run_id="run-1"):
        with LineContext(step="a"):
            task = asyncio.create_task(outliving())
            await asyncio.to_thread(say)
        await asyncio.sleep(0)
    over.set()
    await task
    assert all(line["root_run_id"] == "run-1" for line in about(told))
    assert {"root_run_id": "run-1", "step": "a"} in about(told)
    assert about(told, "later") == [{}]


async def test_tasks_side_by_side_do_not_see_each_other(told: Told) -> None:
    async def attempt(name: str) -> None:
        with LineContext(root_run_id=name):
            for _ in range(3):
                await asyncio.sleep(0)
                _log.info("said", of=name)

    await asyncio.gather(*(attempt(f"run-{number}") for number in range(4)))
    assert [line["root_run_id"] for line in told.lines("said")] == [line["of"] for line in told.lines("said")]


async def test_what_is_begun_in_an_empty_context_is_about_nobody(told: Told) -> None:
    async def shared() -> None:
        say()

    with LineContext(root_run_id="run-1"):
        await asyncio.get_running_loop().create_task(shared(), context=Context())
    assert about(told) == [{}]
