"""Logins in the runner: saved ones that no longer hold, half-finished and locked ones, work that loses its login."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from browser_runner.login import half_login_of
from kernel.domain.ids import InputRequestId
from kernel.domain.plan import WorkflowType
from kernel.domain.task import AnswerDelivered, StepFinished, TaskEnded, TaskParked, TaskParkRequested, TaskSuspended
from kernel.domain.values import Token
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.errors import ConnectionLocked
from kernel.log.topics import Topic
from kernel.store.port import Session
from tests.support.asking_site import ASK, GOOD, SUBMIT, TYPE, AskingSite
from tests.support.doubles.runner_world import World, a_world
from tests.support.model_site import HOST, Control, ModelContext, ModelPage, Site
from tests.support.runner_documents import OPEN, SAVE, a_shop, click, document, fill, step
from tests.support.runner_world import CONNECTION, RUN, SECOND

CHECK = [step("navigate", "home", {"url": f"https://{HOST}/orders", "expect": {"text": "Welcome"}}, timeoutMs=1)]
SEND = click("send", "Send a code", params={"expect": {"url": f"https://{HOST}/code"}})
LOGIN = document(step("navigate", "open", {"url": f"https://{HOST}/login"}), SEND, ASK, TYPE, SUBMIT)
AS_LOGIN: dict[str, Any] = {"type": WorkflowType.LOGIN, "connection": CONNECTION}
DAY_MS = 86_400_000


async def ended_in_time(world: World) -> TaskEnded:
    """Let time pass until the attempt has said its end."""
    for _ in range(300):
        await world.tick(100)
        ends = [report for report in await world.reports() if isinstance(report, TaskEnded)]
        if ends:
            return ends[0]
    raise AssertionError("it did not end")


async def test_a_session_that_was_seen_not_to_hold_is_forgotten() -> None:
    async with a_world(a_shop()) as world:
        world.vault.session = Session(4, b"kept")
        await world.assign(document(OPEN, SAVE, sessionCheck=CHECK), **AS_LOGIN)
        assert (await ended_in_time(world)).failure.code == "login_failed"
        assert world.site.states[0] == b"kept"
        assert world.vault.session is None


async def test_a_session_is_kept_when_the_site_could_not_be_seen() -> None:
    site = a_shop()
    del site.pages["/orders"]
    async with a_world(site) as world:
        world.vault.session = Session(4, b"kept")
        await world.assign(document(OPEN, SAVE, sessionCheck=CHECK), **AS_LOGIN)
        await ended_in_time(world)
        assert world.vault.session == Session(4, b"kept")


async def test_a_login_older_than_the_setting_is_none_whatever_the_vault_says() -> None:
    async with a_world(a_shop()) as world:
        saved_ms = world.clock.now_ms()
        world.vault.session = Session(4, b"saved %d\nold" % saved_ms)
        world.clock.wall_ms += 30 * DAY_MS - 1
        await world.assign(document(OPEN), connection=CONNECTION)
        await world.until_report(TaskEnded)
        world.clock.wall_ms += 1
        await world.assign(document(OPEN), SECOND, connection=CONNECTION)
        await world.until_report(TaskEnded, SECOND)
        assert world.site.states == [b"old", None]


async def parked_between_password_and_code(world: World) -> None:
    await world.assign(LOGIN, **AS_LOGIN)
    asked = await world.until_report(TaskSuspended)
    await world.put(Topic.RUNNER_INBOX, TaskParkRequested(asked.task_id, asked.token, 1))
    await world.until_report(TaskParked)


async def test_a_login_that_waits_without_a_page_goes_on_at_the_code() -> None:
    async with a_world(AskingSite()) as world:
        await parked_between_password_and_code(world)
        assert set(world.vault.halves) == {half_login_of(RUN)}
        assert world.vault.session is None, "a half-finished login is nobody else's"
        world.vault.secrets["ref"] = GOOD.encode()
        answer = await world.answer("code", {"code": {"$secret": "ref"}})
        await world.assign(LOGIN, SECOND, journal=await world.journal(), answers=(answer,), **AS_LOGIN)
        ended = await world.until_report(TaskEnded, SECOND)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.states[-1] == b"state of shop.example"
        assert world.site.deeds["click Send a code"] == 1
        assert world.vault.session is not None
        assert not world.vault.halves


async def test_a_page_that_hangs_while_its_login_is_saved_keeps_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_world(AskingSite()) as world:
        await world.assign(LOGIN, **AS_LOGIN)
        asked = await world.until_report(TaskSuspended)
        monkeypatch.setattr(ModelContext, "save_state", never)
        await world.put(Topic.RUNNER_INBOX, TaskParkRequested(asked.task_id, asked.token, 1))
        for _ in range(300):
            await world.tick(100)
            if any(isinstance(report, TaskParked) for report in await world.reports()):
                break
        else:
            raise AssertionError("it was not parked")
        assert world.vault.halves, "what the last step had made is there"


async def never(*_: Any) -> bytes:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never ends


async def test_a_half_finished_login_goes_with_its_run() -> None:
    async with a_world(AskingSite(good=())) as world:
        await parked_between_password_and_code(world)
        for number in (1, 2, 3):
            world.vault.secrets[f"ref-{number}"] = b"wrong"
            given = await world.answer("code", {"code": {"$secret": f"ref-{number}"}})
            answer = replace(given, input_request_id=InputRequestId(f"question-{number}"))
            token = replace(SECOND, attempt=number + 1, nonce=str(number) * 32)
            before = [await world.journal(), *[await world.journal(t) for t in earlier_tokens(number)]]
            entries = tuple(entry for journal in before for entry in journal.entries)
            journal = replace(before[0], entries=entries)
            asked = await world.assign(LOGIN, token, journal=journal, answers=(answer,), **AS_LOGIN)
            if number < 3:
                await world.until_report(TaskSuspended, token)
                assert world.vault.halves
                await world.put(Topic.RUNNER_INBOX, TaskParkRequested(asked.task_id, token, 1))
                await world.until_report(TaskParked, token)
        ended = await world.until_report(TaskEnded, token)
        assert ended.failure.code == "login_rejected"
        assert not world.vault.halves


def earlier_tokens(number: int) -> list[Token]:
    return [replace(SECOND, attempt=n + 1, nonce=str(n) * 32) for n in range(1, number)]


async def test_a_locked_connection_has_a_name_of_its_own() -> None:
    async with a_world(a_shop()) as world:
        world.vault.refuses = ConnectionLocked("too many unproven openings")
        typed = fill("pw", "Password", "{{inputs.password}}")
        doc = document(
            OPEN, {**typed, "onError": "continue"}, inputSchema={"properties": {"password": {"secret": True}}}
        )
        await world.assign(doc, inputs={"password": {"$secret": "ref"}}, **AS_LOGIN)
        assert (await world.until_report(TaskEnded)).failure.code == "connection_locked"


# ---------------------------------------------------------------- work whose login ends on the way


def a_site_that_logs_out() -> Site:
    site = a_shop()

    def expire(page: ModelPage) -> None:
        page.url = f"https://{HOST}/login"

    site.pages["/form"][1] = Control(name="Save", click=expire)
    site.pages["/login"] = [
        Control(role="textbox", name="Name", tag="input"),
        Control(role="textbox", name="Secret", tag="input", type="password"),
    ]
    return site


async def test_work_types_nothing_into_the_login_page_that_it_finds_itself_on() -> None:
    site = a_site_that_logs_out()
    async with a_world(site) as world:
        await world.assign(document(OPEN, SAVE, fill("name", "Name", "order 17")), connection=CONNECTION)
        ended = await world.until_report(TaskEnded)
        assert ended.failure.code == "login_failed"
        assert site.typed == []
        assert world.vault.proven == 0


async def test_work_that_types_a_secret_itself_means_to_be_on_such_a_page() -> None:
    site = a_site_that_logs_out()
    async with a_world(site) as world:
        world.vault.secrets["ref"] = b"hunter2222"
        doc = document(
            OPEN, SAVE, fill("name", "Secret", "{{inputs.new}}"), inputSchema={"properties": {"new": {"secret": True}}}
        )
        await world.assign(doc, connection=CONNECTION, inputs={"new": {"$secret": "ref"}})
        assert (await world.until_report(TaskEnded)).status is WorkflowRunStatus.COMPLETED
        assert site.typed == ["hunter2222"]


async def test_work_without_a_login_may_meet_any_page() -> None:
    site = a_site_that_logs_out()
    async with a_world(site) as world:
        await world.assign(document(OPEN, SAVE, fill("name", "Name", "order 17")))
        assert (await world.until_report(TaskEnded)).status is WorkflowRunStatus.COMPLETED


# ---------------------------------------------------------------- answers that are used up


async def test_a_code_that_is_wanted_again_behind_a_safe_point_is_asked_for_again() -> None:
    """The answer stands before a safe point, so its question is passed over; but its secret is gone."""
    again = {**TYPE, "id": "again"}
    away = step("navigate", "away", {"url": f"https://{HOST}/code"})
    walk = document(step("navigate", "open", {"url": f"https://{HOST}/code"}), ASK, TYPE, away, again)
    async with a_world(AskingSite()) as world:
        world.vault.secrets["ref"] = b"111111"
        answer = await world.answer("code", {"code": {"$secret": "ref"}})
        await world.assign(walk, answers=(answer,))
        await world.until_report(TaskEnded)
        journal = await world.journal()
        upto_away = replace(journal, entries=journal.entries[:-1])
        world.vault.secrets.clear()

        await world.assign(walk, SECOND, journal=upto_away)
        asked = await world.until_report(TaskSuspended, SECOND)
        assert (asked.path, asked.ask_attempt) == ("code", 1)
        world.vault.secrets["ref-2"] = b"222222"
        given = replace(
            await world.answer("code", {"code": {"$secret": "ref-2"}}), input_request_id=InputRequestId("question-2")
        )
        await world.put(Topic.RUNNER_INBOX, AnswerDelivered(asked.task_id, SECOND, 1, given))
        ended = await world.until_report(TaskEnded, SECOND)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.typed == ["111111", "111111", "222222"]
        used = [r for r in await world.reports(SECOND) if isinstance(r, StepFinished) and r.path == "code"]
        assert len(used) == 1
        assert used[0].consumed
