"""A source that rejects what a person answered: the question is asked again, with its words, and the steps repeated.

The answer that was refused is known to be refused, whatever happens to the runner meanwhile; no code is sent twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kernel.domain.ids import InputRequestId
from kernel.domain.task import (
    Answer,
    AnswerDelivered,
    StepFinished,
    TaskEnded,
    TaskParked,
    TaskParkRequested,
    TaskSuspended,
)
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from kernel.log.topics import Topic
from tests.support.asking_site import ASK, GOOD, HOME, LOGIN, REFUSAL, REJECTED, TYPE, AskingSite
from tests.support.doubles.runner_world import World, a_world
from tests.support.model_site import HOST
from tests.support.runner_documents import click, document, step
from tests.support.runner_world import FIRST, SECOND


async def the_answer(world: World, number: int, code: str) -> Answer:
    """A person's answer with `code`, to the `number`th question."""
    world.vault.secrets[f"ref-{number}"] = code.encode()
    given = await world.answer("code", {"code": {"$secret": f"ref-{number}"}})
    return replace(given, input_request_id=InputRequestId(f"question-{number}"))


async def answer(world: World, number: int, code: str, token: Any = FIRST) -> TaskSuspended:
    """Wait for the `number`th question of an attempt and answer it."""
    asked = await world.until_report(TaskSuspended, token, count=number)
    delivered = AnswerDelivered(asked.task_id, token, 1, await the_answer(world, number, code))
    await world.put(Topic.RUNNER_INBOX, delivered)
    return asked


def the_site(world: World) -> AskingSite:
    assert isinstance(world.site, AskingSite)
    return world.site


async def test_a_rejected_code_opens_a_new_question_with_the_words_of_the_site() -> None:
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        first = await answer(world, 1, "111111")
        second = await answer(world, 2, GOOD)
        ended = await world.until_report(TaskEnded)

        assert ended.status is WorkflowRunStatus.COMPLETED
        assert (first.ask_attempt, second.ask_attempt) == (1, 2)
        assert REFUSAL[:10] in await world.sealer.open_text(second.prompt)
        assert "accepted" not in await world.sealer.open_text(first.prompt)
        assert the_site(world).submitted == ["111111", GOOD]


async def test_what_a_rejection_takes_back_is_said_in_its_report() -> None:
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        await answer(world, 1, "111111")
        await answer(world, 2, GOOD)
        await world.until_report(TaskEnded)

        submitted = [r for r in await world.reports() if isinstance(r, StepFinished) and r.step_id == "submit"]
        refused, accepted = submitted
        assert (refused.status, refused.failure.code, refused.asks_again) == (
            StepStatus.FAILED, "login_rejected", "code",
        )  # fmt: skip
        assert not refused.safe_point
        assert (accepted.status, accepted.asks_again) == (StepStatus.COMPLETED, "")


async def test_the_third_rejection_ends_the_run() -> None:
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        for number in (1, 2, 3):
            asked = await answer(world, number, f"{number}" * 6)
        ended = await world.until_report(TaskEnded)

        assert asked.ask_attempt == 3
        assert (ended.status, ended.failure.code) == (WorkflowRunStatus.FAILED, "login_rejected")
        assert the_site(world).submitted == ["111111", "222222", "333333"]


async def test_a_refusal_that_still_stands_there_is_not_taken_for_a_new_one() -> None:
    """The page says no until the next document has come: a right code must not be counted as wrong."""
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        await answer(world, 1, "111111")
        await answer(world, 2, "222222")
        await answer(world, 3, GOOD)
        assert (await world.until_report(TaskEnded)).status is WorkflowRunStatus.COMPLETED


async def test_without_a_question_a_rejection_ends_the_run_at_once() -> None:
    submit = click("submit", "Continue", params={"expect": HOME, "rejected": {"when": {"text": "Wrong code"}}})
    plain = document(step("navigate", "open", {"url": f"https://{HOST}/code"}), submit)
    async with a_world(AskingSite()) as world:
        before = world.clock.now_ms()
        await world.assign(plain)
        ended = await world.until_report(TaskEnded)
        assert ended.failure.code == "login_rejected"
        assert world.clock.now_ms() == before, "nothing may wait for the post-condition's time to be over"


async def test_no_author_can_make_good_a_rejection() -> None:
    submit = click(
        "submit", "Continue", params={"expect": HOME, "rejected": {"when": {"text": "Wrong code"}}}, onError="continue"
    )
    going_on = document(step("navigate", "open", {"url": f"https://{HOST}/code"}), submit)
    async with a_world(AskingSite()) as world:
        await world.assign(going_on)
        assert (await world.until_report(TaskEnded)).failure.code == "login_rejected"


async def test_a_question_that_was_skipped_is_not_asked_because_of_a_rejection() -> None:
    skipped = {**ASK, "when": "1 > 2"}
    submit = click("submit", "Continue", params={"expect": HOME, "rejected": REJECTED})
    async with a_world(AskingSite()) as world:
        await world.assign(document(step("navigate", "open", {"url": f"https://{HOST}/code"}), skipped, submit))
        assert (await world.until_report(TaskEnded)).failure.code == "login_rejected"


async def test_the_question_of_a_loop_is_asked_again_for_the_same_item() -> None:
    submit = click("submit", "Continue", params={"expect": {"gone": {"locators": [{"label": "Nobody"}]}}})
    submit["params"]["expect"] = HOME
    submit["params"]["rejected"] = REJECTED
    body = [step("navigate", "open", {"url": f"https://{HOST}/code"}), ASK, TYPE, submit]
    twice = document(step("for_each", "each", {"items": "[1, 2]", "body": body}))
    async with a_world(AskingSite()) as world:
        await world.assign(twice)
        for number, (path, code) in enumerate(
            [("each[0].code", GOOD), ("each[1].code", "111111"), ("each[1].code", GOOD)], 1
        ):
            asked = await world.until_report(TaskSuspended, count=number)
            assert asked.path == path
            given = replace(await the_answer(world, number, code), path=path)
            await world.put(Topic.RUNNER_INBOX, AnswerDelivered(asked.task_id, FIRST, 1, given))
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert the_site(world).submitted == [GOOD, "111111", GOOD]


async def test_the_question_stands_before_the_branch_that_was_refused() -> None:
    submit = click("submit", "Continue", params={"expect": HOME, "rejected": REJECTED})
    branch = step("if", "maybe", {"condition": "1 < 2", "then": [TYPE, submit]})
    async with a_world(AskingSite()) as world:
        await world.assign(document(step("navigate", "open", {"url": f"https://{HOST}/code"}), ASK, branch))
        await answer(world, 1, "111111")
        await answer(world, 2, GOOD)
        assert (await world.until_report(TaskEnded)).status is WorkflowRunStatus.COMPLETED
        assert the_site(world).submitted == ["111111", GOOD]


# ---------------------------------------------------------------- and then the runner dies


LAST = 12
"""The report that says that the right code was accepted."""


@pytest.mark.parametrize("reports", range(1, LAST))
async def test_wherever_the_runner_dies_each_code_is_sent_once_and_no_question_is_lost(reports: int) -> None:
    """A first attempt is refused once and succeeds; a second one knows its first `reports` reports only."""
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        await answer(world, 1, "111111")
        await answer(world, 2, GOOD)
        await world.until_report(TaskEnded)
        said = await world.reports()
        journal = await world.journal(upto=reports)
        world.vault.secrets.clear()

    good = "515151"
    site = AskingSite(good=(good,))
    async with a_world(site) as world:
        await world.assign(LOGIN, SECOND, journal=journal)
        refused_before = any(isinstance(r, StepFinished) and r.asks_again for r in said[:reports])
        asked = await answer(world, 1, good, SECOND)
        assert asked.ask_attempt == (2 if refused_before else 1)
        prompt = await world.sealer.open_text(asked.prompt)
        assert (REFUSAL[:10] in prompt) is refused_before
        ended = await world.until_report(TaskEnded, SECOND)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert site.submitted == [good], "what an earlier attempt has typed is never typed again"


async def test_a_code_that_was_accepted_is_asked_for_no_more() -> None:
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        await answer(world, 1, "111111")
        await answer(world, 2, GOOD)
        await world.until_report(TaskEnded)
        await world.assign(LOGIN, SECOND, journal=await world.journal(upto=LAST))
        assert (await world.until_report(TaskEnded, SECOND)).status is WorkflowRunStatus.COMPLETED
        assert the_site(world).submitted == ["111111", GOOD]


async def test_rejections_are_counted_over_all_attempts() -> None:
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        await answer(world, 1, "111111")
        await answer(world, 2, "222222")
        third = await world.until_report(TaskSuspended, count=3)
        assert third.ask_attempt == 3
        journal = await world.journal()
        await world.assign(LOGIN, SECOND, journal=journal)
        await answer(world, 1, "333333", SECOND)
        ended = await world.until_report(TaskEnded, SECOND)
        assert ended.failure.code == "login_rejected"


async def test_a_question_that_was_parked_takes_its_answer_in_the_next_attempt() -> None:
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN)
        await answer(world, 1, "111111")
        asked = await world.until_report(TaskSuspended, count=2)
        await world.put(Topic.RUNNER_INBOX, TaskParkRequested(asked.task_id, FIRST, 1))
        await world.until_report(TaskParked)
        answers = (await the_answer(world, 2, GOOD),)
        await world.assign(LOGIN, SECOND, journal=await world.journal(), answers=answers)
        ended = await world.until_report(TaskEnded, SECOND)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert the_site(world).submitted == ["111111", GOOD]
