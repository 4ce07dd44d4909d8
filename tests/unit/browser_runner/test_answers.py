"""People's answers in the runner: held pages, parking, answers that are good once, secrets that a page shows again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernel.domain.ids import InputRequestId
from kernel.domain.task import (
    AnswerDelivered,
    StepFinished,
    TaskEnded,
    TaskLeaseLapsed,
    TaskParked,
    TaskParkRequested,
    TaskSuspended,
)
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.log.memory import Fault
from kernel.log.port import Record
from kernel.log.topics import Topic
from kernel.store.secret import HIDDEN
from tests.support.doubles.runner_world import a_world
from tests.support.eventually import until
from tests.support.model_site import Control
from tests.support.runner_documents import OPEN, SAVE, a_shop, document, fill, step
from tests.support.runner_world import FIRST, ROOT, RUN, SECOND, kinds


async def test_an_answer_reaches_the_page_that_is_held() -> None:
    async with a_world(a_shop()) as world:
        ask = step("ask_user", "ask", {"fields": [{"name": "who"}]})
        assigned = await world.assign(document(OPEN, ask, fill("name", "Name", "{{steps.ask.who}}")))
        suspended = await world.until_report(TaskSuspended)
        assert suspended.hold_seconds == 600
        answer = await world.answer("ask", {"who": "Eve"})
        await world.put(Topic.RUNNER_INBOX, AnswerDelivered(assigned.task_id, FIRST, 1, answer))
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.typed == ["Eve"]
        assert world.site.opened == 1


async def test_a_hold_that_ends_parks_and_the_next_task_brings_the_answer() -> None:
    async with a_world(a_shop()) as world:
        ask = step("ask_user", "ask", {"fields": [{"name": "code", "secret": True}]})
        doc = document(OPEN, ask, fill("name", "Name", "{{steps.ask.code}}"))
        assigned = await world.assign(doc)
        await world.until_report(TaskSuspended)
        await world.put(Topic.RUNNER_INBOX, TaskParkRequested(assigned.task_id, FIRST, 1))
        await world.until_report(TaskParked)
        assert world.site.closed == 1
        world.vault.secrets["ref-code"] = b"123456"
        answer = await world.answer("ask", {"code": {"$secret": "ref-code"}})
        await world.assign(doc, SECOND, journal=await world.journal(), answers=(answer,))
        ended = await world.until_report(TaskEnded, SECOND)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.typed == ["123456"]
        asked = next(r for r in await world.reports(SECOND) if isinstance(r, StepFinished) and r.path == "ask")
        assert asked.consumed


ASK_CODE = step("ask_user", "ask", {"fields": [{"name": "code", "secret": True}]})
TYPE_CODE = document(OPEN, ASK_CODE, fill("name", "Name", "{{steps.ask.code}}"), SAVE)


async def test_a_one_time_answer_whose_use_stands_behind_a_lapse_is_not_used() -> None:
    async with a_world(a_shop()) as world:
        world.vault.secrets["ref-code"] = b"123456"

        def hold_the_report(records: Sequence[Record]) -> Fault:
            held = any(dict(record.headers).get("ce_type") == "towpath.step.finished.v1" for record in records)
            return Fault.DELAYED if held else Fault.NONE

        world.log.faults = hold_the_report
        answer = await world.answer("ask", {"code": {"$secret": "ref-code"}})
        doc = document(ASK_CODE, OPEN, fill("name", "Name", "{{steps.ask.code}}"))
        assigned = await world.assign(doc, answers=(answer,))
        await until(lambda: bool(world.log.in_flight))
        world.log.faults = None
        await world.put(Topic.TASK_REPORTS, TaskLeaseLapsed(assigned.task_id, ROOT, RUN, FIRST, "expired"))
        world.log.in_flight[0].land()
        await until(lambda: world.runner.held == 0)
        assert world.site.typed == []
        assert kinds(await world.reports()) == ["TaskStarted", "StepFinished"]
        await world.assign(doc, SECOND, answers=(answer,))
        ended = await world.until_report(TaskEnded, SECOND)
        assert (ended.status, world.site.typed) == (WorkflowRunStatus.COMPLETED, ["123456"])


async def test_a_one_time_answer_is_asked_for_again_when_the_browser_dies_after_its_use() -> None:
    site = a_shop()
    site.dies_at = ["fill Name"]
    async with a_world(site) as world:
        world.vault.secrets |= {"ref-1": b"111111", "ref-2": b"222222"}
        first = await world.answer("ask", {"code": {"$secret": "ref-1"}})
        assigned = await world.assign(TYPE_CODE, answers=(first,))
        await world.until_report(TaskSuspended)
        second = replace(
            await world.answer("ask", {"code": {"$secret": "ref-2"}}), input_request_id=InputRequestId("question-2")
        )
        for answer in (first, second):  # the old one may be delivered again
            await world.put(Topic.RUNNER_INBOX, AnswerDelivered(assigned.task_id, FIRST, 1, answer))
        ended = await world.until_report(TaskEnded)
        assert (ended.status, site.typed) == (WorkflowRunStatus.COMPLETED, ["222222"])


async def test_what_a_page_shows_of_a_typed_secret_is_not_kept() -> None:
    site = a_shop()
    async with a_world(site) as world:
        world.vault.secrets |= {"ref": b"s3cret-code", "pin": b"2026"}
        site.pages["/form"] += [
            Control(role="note", name="you typed s3cret-code"),
            Control(role="note", name="in 2026"),
        ]
        peek = step("extract", "peek", {"rows": {"role": "note"}, "fields": {"typed": {}}})
        doc = document(
            OPEN, fill("pin", "Name", "{{inputs.pin}}"), fill("name", "Name", "{{inputs.code}}"), peek,
            inputSchema={"properties": {"code": {"secret": True}, "pin": {"secret": True}}},
        )  # fmt: skip
        await world.assign(doc, inputs={"code": {"$secret": "ref"}, "pin": {"$secret": "pin"}})
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        told = next(r for r in await world.reports() if isinstance(r, StepFinished) and r.path == "peek")
        assert (await world.opened(told.output))["rows"] == [
            {"typed": f"you typed {HIDDEN}"}, {"typed": "in 2026"},  # a short secret is passed over: it may be anything
        ]  # fmt: skip
        assert await world.opened(ended.output) == {"peek": await world.opened(told.output)}
        assert not any(b"s3cret" in blob for blob in world.store.blobs.values())


async def test_a_light_task_that_asks_is_parked_at_once() -> None:
    async with a_world() as world:
        await world.assign(document(step("ask_user", "ask", {"fields": [{"name": "x"}]})))
        suspended = await world.until_report(TaskSuspended)
        assert suspended.hold_seconds == 0
        await world.until_report(TaskParked)
