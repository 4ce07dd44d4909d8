"""The runner over the log and the store of both forms: reports that stand, secrets behind the fence, bytes kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from browser_runner.main import serve
from browser_runner.settings import Settings
from kernel.clock import SystemClock
from kernel.domain.ids import Incarnation, RootRunId
from kernel.domain.plan import WorkflowType
from kernel.domain.task import (
    AnswerDelivered,
    RunnerHeartbeat,
    StepFinished,
    StepStarted,
    TaskEnded,
    TaskLeaseLapsed,
    TaskParked,
    TaskParkRequested,
    TaskSuspended,
)
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.errors import SecretUnavailable
from kernel.ids import SystemEntropy
from kernel.log.topics import Topic
from kernel.redaction import LiveSecrets
from kernel.store.port import RunOpener, SecretKind
from tests.support.eventually import PATIENCE_SECONDS, until
from tests.support.grounded_runner import World, grounded
from tests.support.grounds import FORMS
from tests.support.model_site import HOST, ModelBrowsers, Site
from tests.support.runner_documents import FORM, OPEN, SAVE, a_shop, document, fill, step
from tests.support.runner_world import CONNECTION, FIRST, ORGANIZATION, ROOT, RUN, SECOND, kinds

CODE = step("ask_user", "ask", {"fields": [{"name": "code", "secret": True}]})
LOGIN = document(
    OPEN, fill("pw", "Password", "{{inputs.password}}"), SAVE,
    sessionCheck=[
        step("navigate", "home", {"url": f"https://{HOST}/orders", "expect": {"text": "order 17"}}, timeoutMs=1)
    ],
    inputSchema={"properties": {"password": {"secret": True}}},
)  # fmt: skip


@pytest.fixture
def site() -> Site:
    return a_shop()


@pytest.fixture(params=FORMS)
async def world(request: pytest.FixtureRequest, tmp_path: Path, site: Site) -> AsyncIterator[World]:
    """A runner that is about to be started."""
    async with grounded(tmp_path, ModelBrowsers(site), FORMS[request.param], run=False) as opened:
        yield opened


async def test_a_form_is_filled_and_sent_once_though_its_assignment_comes_twice(world: World, site: Site) -> None:
    world.start()
    assigned = await world.assign(FORM, inputs={"who": "Ada"})
    await world.put(Topic.RUNNER_INBOX, assigned)
    ended = await world.until_report(TaskEnded)
    assert ended.status is WorkflowRunStatus.COMPLETED, ended
    await world.put(Topic.RUNNER_INBOX, assigned)
    other = document(step("assert", "other", {"that": ["true"]}))
    await world.assign(other, SECOND)  # behind it in the inbox
    await world.until_report(TaskEnded, SECOND)
    reports = await world.reports()
    assert [r.path for r in reports if isinstance(r, StepFinished)] == ["open", "name", "save", "prove"]
    assert kinds(reports)[3:5] == ["StepStarted", "StepFinished"]
    assert len(reports) == 7
    assert (site.typed, site.deeds["click Save"]) == (["Ada"], 1)


async def test_a_token_that_lapses_before_an_announcement_is_read_back_does_not_act(world: World, site: Site) -> None:
    world.start()
    gate = site.holds_at["goto /form"] = asyncio.Event()
    assigned = await world.assign(FORM, inputs={"who": "Ada"})
    await until(lambda: site.opened == 1)
    await world.put(Topic.TASK_REPORTS, TaskLeaseLapsed(assigned.task_id, ROOT, RUN, FIRST, "expired"))
    gate.set()
    await world.until_report(StepStarted)
    await until(lambda: world.runner.held == 0)
    assert site.deeds["click Save"] == 0
    assert kinds(await world.reports())[-1] == "StepStarted"


async def test_an_assignment_that_lapsed_opens_no_key_and_no_page(world: World, site: Site) -> None:
    world.start()
    assigned = await world.task(FORM, inputs={"who": "Ada"})
    await world.put(Topic.TASK_REPORTS, TaskLeaseLapsed(assigned.task_id, ROOT, RUN, FIRST, "expired"))
    await world.put(Topic.RUNNER_INBOX, assigned)
    ended = await world.until_report(TaskEnded)  # which nobody accepts behind a lapse
    assert (ended.failure.code, site.opened) == ("task_unreadable", 0)


async def test_a_second_attempt_reads_a_long_journal_back_and_repeats_nothing(world: World) -> None:
    world.start()
    doc = document(*(step("assert", f"s{n}", {"that": ["true"]}) for n in range(150)))
    await world.assign(doc)
    await world.until_report(TaskEnded, seconds=30)
    journal = await world.journal()
    assert journal.staged.size
    assert await world.all_blobs()
    assert len(journal.entries) < 150
    await world.assign(doc, SECOND, journal=journal)
    await world.until_report(TaskEnded, SECOND, seconds=30)
    assert kinds(await world.reports(SECOND)) == ["TaskStarted", "TaskEnded"]


async def test_a_one_time_answer_is_gone_after_the_parked_run_has_used_it(world: World, site: Site) -> None:
    world.start()
    doc = document(OPEN, CODE, fill("name", "Name", "{{steps.ask.code}}"))
    assigned = await world.assign(doc)
    await world.until_report(TaskSuspended)
    await world.put(Topic.RUNNER_INBOX, TaskParkRequested(assigned.task_id, FIRST, 1))
    await world.until_report(TaskParked)
    ref = await world.keep(b"123456", SecretKind.ANSWER)
    answer = await world.answer("ask", {"code": {"$secret": ref}})
    again = await world.assign(doc, SECOND, journal=await world.journal(), answers=(answer,))
    ended = await world.until_report(TaskEnded, SECOND)
    assert (ended.status, site.typed) == (WorkflowRunStatus.COMPLETED, ["123456"])
    with pytest.raises(SecretUnavailable):
        await world.services.vault.open_secret(
            ref, RunOpener(ORGANIZATION, RootRunId(ROOT), RUN, again.task_id, SECOND)
        )
    assert not any(b"123456" in blob for blob in await world.all_blobs())


async def test_an_answer_reaches_the_page_that_is_held(world: World, site: Site) -> None:
    world.start()
    ask = step("ask_user", "ask", {"fields": [{"name": "who"}]})
    assigned = await world.assign(document(OPEN, ask, fill("name", "Name", "{{steps.ask.who}}")))
    await world.until_report(TaskSuspended)
    answer = await world.answer("ask", {"who": "Eve"})
    await world.put(Topic.RUNNER_INBOX, AnswerDelivered(assigned.task_id, FIRST, 1, answer))
    ended = await world.until_report(TaskEnded)
    assert (ended.status, site.typed, site.opened) == (WorkflowRunStatus.COMPLETED, ["Eve"], 1)


async def test_a_login_opens_its_secret_under_its_token_and_saves_the_session(world: World, site: Site) -> None:
    world.start()
    inputs = {"password": {"$secret": await world.keep(b"hunter2222", SecretKind.CREDENTIAL)}}
    login: dict[str, Any] = {"type": WorkflowType.LOGIN, "connection": CONNECTION, "inputs": inputs}
    await world.assign(LOGIN, **login)
    ended = await world.until_report(TaskEnded)
    assert ended.status is WorkflowRunStatus.COMPLETED, ended
    saved = await world.session(CONNECTION)
    assert saved is not None
    assert saved.version == 1
    await world.assign(LOGIN, SECOND, journal=await world.journal(), **login)
    await world.until_report(TaskEnded, SECOND)
    again = await world.session(CONNECTION)
    assert again is not None
    assert (again.version, site.typed) == (2, ["hunter2222"])


async def beats(world: World) -> list[RunnerHeartbeat]:
    return [event for event in await world.events(Topic.DISPATCH) if isinstance(event, RunnerHeartbeat)]


async def test_a_runner_for_light_work_serves_until_it_is_told_to_stop(world: World) -> None:
    stop, services = asyncio.Event(), world.services
    serving = asyncio.create_task(
        serve(
            Settings(browser_slots=0, light_slots=3),
            services.log,
            services.store,
            services.vault,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            live=LiveSecrets(),
            stop=stop,
            incarnation=Incarnation("runner-1"),
        )
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await beats(world):  # noqa: ASYNC110 (the log wakes nobody for a topic of two partitions)
            await asyncio.sleep(0.02)
    beat = (await beats(world))[0]
    assert (beat.slots, beat.incarnation) == (3, "runner-1")
    world.services = replace(services, inbox_partition=beat.inbox_partition)
    await world.assign(document(step("assert", "proof", {"that": ["1 < 2"]})))
    ended = await world.until_report(TaskEnded)
    assert ended.status is WorkflowRunStatus.COMPLETED
    stop.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await serving
