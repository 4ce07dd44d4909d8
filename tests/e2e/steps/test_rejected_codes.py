"""Codes that a site rejects, in a real browser: asked for again with its words, also when the browser dies."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from kernel.domain.ids import InputRequestId
from kernel.domain.plan import WorkflowType
from kernel.domain.task import AnswerDelivered, TaskEnded, TaskSuspended
from kernel.domain.values import Token
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.log.topics import Topic
from kernel.store.port import SecretKind
from tests.support.chromium import browser_processes, needs_chromium
from tests.support.fake_site import CODE, FakeSite
from tests.support.grounded_runner import World
from tests.support.real_browser import shop, world
from tests.support.runner_documents import click, document, fill, step
from tests.support.runner_world import CONNECTION, FIRST, SECOND

__all__ = ["shop", "world"]

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


def a_login(shop: FakeSite, path: str = "/code") -> dict[str, Any]:
    ask = {"fields": [{"name": "code", "kind": "mfa_code", "secret": True}], "kind": "mfa_code", "prompt": "The code?"}
    alert = {"locators": [{"role": "alert"}]}
    submit = {
        "expect": {"url": shop.url("/home")},
        "rejected": {"when": {"appears": alert}, "ask": "code"},
        "check": {"open": shop.url("/home"), "text": "Welcome"},
    }
    return document(
        step("navigate", "open", {"url": shop.url(path)}),
        step("ask_user", "code", ask),
        fill("type", "Code", "{{steps.code.code}}"),
        click("submit", "Continue", params=submit),
    )


async def answer(world: World, number: int, code: str, token: Token = FIRST) -> TaskSuspended:
    """Wait for the `number`th question of an attempt and answer it with `code`."""
    asked = await world.until_report(TaskSuspended, token, count=number)
    ref = await world.keep(code.encode(), SecretKind.ANSWER)
    given = await world.answer("code", {"code": {"$secret": ref}})
    given = replace(given, input_request_id=InputRequestId(f"question-{token.attempt}-{number}"))
    await world.put(Topic.RUNNER_INBOX, AnswerDelivered(asked.task_id, token, 1, given))
    return asked


@pytest.mark.parametrize("path", ["/code", "/code-app"])
async def test_two_wrong_codes_and_a_right_one(world: World, shop: FakeSite, path: str) -> None:
    """With a document for each answer, or with a message that comes and goes in one."""
    await world.assign(a_login(shop, path), type=WorkflowType.LOGIN, connection=CONNECTION)
    attempts = [(await answer(world, n, code)).ask_attempt for n, code in enumerate(["111111", "222222", CODE], 1)]
    ended = await world.until_report(TaskEnded)
    assert ended.status is WorkflowRunStatus.COMPLETED, await world.sealer.open_text(ended.failure.message)
    assert attempts == [1, 2, 3]
    assert shop.codes == ["111111", "222222", CODE]


async def test_the_words_of_the_site_are_told_without_the_code_that_they_repeat(world: World, shop: FakeSite) -> None:
    await world.assign(a_login(shop), type=WorkflowType.LOGIN, connection=CONNECTION)
    await answer(world, 1, "111111")
    asked = await world.until_report(TaskSuspended, count=2)
    prompt = await world.sealer.open_text(asked.prompt)
    assert "is a wrong code. Try again." in prompt
    assert "111111" not in prompt


async def test_a_browser_that_dies_behind_a_rejection_loses_no_question_and_sends_no_code_twice(
    world: World, shop: FakeSite
) -> None:
    await world.assign(a_login(shop), type=WorkflowType.LOGIN, connection=CONNECTION)
    await answer(world, 1, "111111")
    await world.until_report(TaskSuspended, count=2)
    for pid in browser_processes():
        os.kill(pid, signal.SIGKILL)
    await answer(world, 2, "222222")  # used up, and never typed: there is no page
    third = await answer(world, 3, CODE)
    ended = await world.until_report(TaskEnded)
    assert ended.status is WorkflowRunStatus.COMPLETED, await world.sealer.open_text(ended.failure.message)
    assert third.ask_attempt == 2, "only what the site has rejected counts"
    assert shop.codes == ["111111", CODE]


async def test_a_later_attempt_knows_of_the_rejection(world: World, shop: FakeSite) -> None:
    await world.assign(a_login(shop), type=WorkflowType.LOGIN, connection=CONNECTION)
    await answer(world, 1, "111111")
    await world.until_report(TaskSuspended, count=2)
    journal = await world.journal()
    await world.assign(a_login(shop), SECOND, type=WorkflowType.LOGIN, connection=CONNECTION, journal=journal)
    asked = await answer(world, 1, CODE, SECOND)
    ended = await world.until_report(TaskEnded, SECOND)
    assert ended.status is WorkflowRunStatus.COMPLETED, await world.sealer.open_text(ended.failure.message)
    assert asked.ask_attempt == 2
    assert shop.codes == ["111111", CODE]
