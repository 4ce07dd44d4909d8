"""A runner with a real headless browser against the fake shop: fixtures to import, and words for its documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from browser_runner import walk
from browser_runner.browser import ChromiumPool, elements
from kernel.domain.task import StepFinished, TaskEnded
from tests.support.chromium import chromium_path
from tests.support.fake_site import FakeSite, a_fake_site
from tests.support.grounded_runner import World, grounded
from tests.support.runner_world import FIRST


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    # A step that is to fail says what it has waited for, also when the machine stood still meanwhile.
    monkeypatch.setattr(walk, "_GRACE_MS", 30_000.0)
    monkeypatch.setattr(elements, "LOOK_MS", 30_000.0)
    pool = ChromiumPool(chromium_path(), slots=1)
    await pool.start()
    try:
        async with grounded(tmp_path, pool, host="127.0.0.1") as opened:
            yield opened
    finally:
        await pool.close()


@pytest.fixture
async def shop() -> AsyncIterator[FakeSite]:
    async with a_fake_site() as site:
        yield site


def step(kind: str, id_: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": kind, "params": params, **more}


def target(**locator: Any) -> dict[str, Any]:
    return {"locators": [locator]}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "steps": list(steps), **more}


async def outcome(world: World, doc: dict[str, Any], **more: Any) -> tuple[TaskEnded, dict[str, StepFinished]]:
    """Run `doc` to its end: the end, and every finished step by path."""
    token = more.pop("token", FIRST)
    await world.assign(doc, token, **more)
    ended = await world.until_report(TaskEnded, token, seconds=40)
    steps = {report.path: report for report in await world.reports(token) if isinstance(report, StepFinished)}
    return ended, steps


async def told(world: World, ended: TaskEnded) -> str:
    return f"{ended.failure.code} {await world.sealer.open_text(ended.failure.message)}"
