"""The runner on a log in memory with a model site: order, repetition, waiting, stopping, unknown outcomes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from browser_runner.arriving import PAUSES_SECONDS
from kernel.domain.plan import WorkflowType
from kernel.domain.task import (
    RunnerHeartbeat,
    StepChecked,
    StepFinished,
    StepStarted,
    TaskEnded,
    TaskLeaseLapsed,
    TaskParked,
    TaskReleased,
    TaskStopped,
    TaskStopRequested,
    TaskSuspended,
)
from kernel.domain.values import Effect, FailureKind
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from kernel.log.memory import Fault
from kernel.log.topics import Topic
from kernel.store.port import Session
from tests.support.doubles.runner_world import SUBJECT, World, a_world
from tests.support.eventually import idle, until
from tests.support.model_site import HOST, Control
from tests.support.runner_documents import FORM, OPEN, PROVE, SAVE, a_shop, click, document, fill, step
from tests.support.runner_world import CONNECTION, FIRST, ROOT, RUN, SECOND, kinds


async def test_three_constant_asserts_open_no_browser_and_end_well() -> None:
    async with a_world() as world:
        await world.assign(document(*(step("assert", f"s{n}", {"that": ["true"]}) for n in range(3))))
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert kinds(await world.reports()) == ["TaskStarted", *["StepFinished"] * 3, "TaskEnded"]
        assert world.site.opened == 0
        await until(lambda: world.runner.held == 0)


async def test_a_form_is_filled_and_sent_once_and_announced_before() -> None:
    async with a_world(a_shop()) as world:
        await world.assign(FORM, inputs={"who": "Ada"})
        ended = await world.until_report(TaskEnded)
        reports = await world.reports()
        assert ended.status is WorkflowRunStatus.COMPLETED, ended
        assert [r.path for r in reports if isinstance(r, StepFinished)] == ["open", "name", "save", "prove"]
        assert kinds(reports)[3:5] == ["StepStarted", "StepFinished"]
        assert world.site.typed == ["Ada"]
        assert world.site.deeds["click Save"] == 1
        assert world.site.closed == 1


async def test_a_run_waits_for_a_vault_that_is_away_and_does_not_fail() -> None:
    async with a_world(a_shop()) as world:
        world.vault.away = 20
        await world.assign(FORM, inputs={"who": "Ada"}, timeout_seconds=300)
        await world.tick(1000, times=60)
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED, ended
        assert world.vault.away == 0
        assert world.site.deeds["click Save"] == 1


async def test_a_run_waits_for_the_key_when_it_has_grown_old_while_the_vault_is_away() -> None:
    async with a_world(a_shop()) as world:
        pressed = world.site.holds_at["click Save"] = asyncio.Event()
        await world.assign(FORM, inputs={"who": "Ada"}, timeout_seconds=300)
        await world.until_report(StepStarted)
        world.services.keys.forget(SUBJECT)
        world.vault.away = 20
        pressed.set()
        await world.tick(1000, times=60)
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED, ended
        assert world.vault.away == 0


async def test_a_run_ends_at_its_time_out_when_the_vault_never_comes_back() -> None:
    async with a_world(a_shop()) as world:
        world.vault.away = 1_000_000
        await world.assign(FORM, inputs={"who": "Ada"}, timeout_seconds=30)
        await world.tick(1000, times=40)
        ended = await world.until_report(TaskEnded)
        assert (ended.status, ended.failure.code) == (WorkflowRunStatus.FAILED, "task_unreadable")


async def test_an_assignment_that_comes_twice_is_carried_out_once() -> None:
    async with a_world(a_shop()) as world:
        assigned = await world.assign(FORM, inputs={"who": "Ada"})
        await world.put(Topic.RUNNER_INBOX, assigned)
        await world.until_report(TaskEnded)
        await world.put(Topic.RUNNER_INBOX, assigned)
        await idle()
        assert world.site.deeds["click Save"] == 1
        assert len(await world.reports()) == 7


async def test_a_token_that_lapsed_before_the_announcement_was_read_back_does_not_act() -> None:
    async with a_world(a_shop()) as world:
        assigned = await world.task(FORM, inputs={"who": "Ada"})
        lapsed = TaskLeaseLapsed(assigned.task_id, ROOT, RUN, FIRST, "expired")
        await world.put(Topic.TASK_REPORTS, lapsed)
        await world.put(Topic.RUNNER_INBOX, assigned)
        await world.until_report(StepStarted)
        await until(lambda: world.runner.held == 0)
        assert world.site.deeds["click Save"] == 0
        assert kinds(await world.reports())[-1] == "StepStarted"


async def test_a_second_attempt_repeats_what_led_to_the_page_and_not_what_was_done_once() -> None:
    async with a_world(a_shop()) as world:
        await world.assign(FORM, inputs={"who": "Ada"})
        await world.until_report(TaskEnded)
        journal = await world.journal()
        partial = replace(journal, entries=journal.entries[:3])
        await world.assign(FORM, SECOND, inputs={"who": "Ada"}, journal=partial)
        await world.until_report(TaskEnded, SECOND)
        assert world.site.deeds["click Save"] == 1
        assert kinds(await world.reports(SECOND)) == ["TaskStarted", "StepFinished", "TaskEnded"]

        third = replace(FIRST, attempt=3, nonce="3" * 32)
        await world.assign(FORM, third, inputs={"who": "Ada"}, journal=replace(journal, entries=journal.entries[:2]))
        await world.until_report(TaskEnded, third)
        assert world.site.typed == ["Ada", "Ada"]
        assert world.site.deeds["click Save"] == 2


async def unknown(world: World, save: dict[str, Any], *, answer: str = "") -> TaskEnded | None:
    doc = document(OPEN, save, *([ASK] if answer else []))
    await world.assign(doc)
    await world.until_report(TaskEnded)
    journal = await world.journal()
    journal = replace(journal, entries=journal.entries[:1], unknown=("save",))
    world.site.deeds.clear()
    answers = (await world.answer("save", {"happened": answer}),) if answer in {"yes", "no"} else ()
    await world.assign(doc, SECOND, journal=journal, answers=answers)
    return await world.until_report(TaskEnded, SECOND) if answer != "open" else None


ASK = step("ask_user", "ask", {"fields": [{"name": "x"}]}, when="false")


async def test_an_unknown_act_without_check_or_person_fails_and_is_not_repeated() -> None:
    async with a_world(a_shop()) as world:
        ended = await unknown(world, SAVE)
        assert ended is not None
        assert (ended.status, ended.failure.code) == (WorkflowRunStatus.FAILED, "step_outcome_unknown")
        assert world.site.deeds["click Save"] == 0


async def test_a_check_that_finds_the_act_done_settles_it() -> None:
    async with a_world(a_shop()) as world:
        check = {"open": f"https://{HOST}/orders", "text": "order 17"}
        ended = await unknown(world, click("save", "Save", params={"check": check}))
        assert ended is not None
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.deeds["click Save"] == 0
        resolved = [r for r in await world.reports(SECOND) if isinstance(r, StepFinished)][-1]
        assert resolved.resolved


async def test_a_check_that_finds_nothing_lets_the_act_happen() -> None:
    async with a_world(a_shop()) as world:
        check = {"open": f"https://{HOST}/orders", "text": "order 99", "timeoutMs": 0}
        ended = await unknown(world, click("save", "Save", params={"check": check}))
        assert ended is not None
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.deeds["click Save"] == 1
        assert [k for k in kinds(await world.reports(SECOND)) if k != "StepFinished"] == [
            "TaskStarted", "StepChecked", "StepStarted", "TaskEnded",
        ]  # fmt: skip


async def test_a_check_on_a_broken_page_is_no_answer() -> None:
    async with a_world(a_shop()) as world:
        world.site.statuses["/orders"] = 500
        check = {"open": f"https://{HOST}/orders", "text": "order 99", "timeoutMs": 0}
        settling = asyncio.create_task(unknown(world, click("save", "Save", params={"check": check})))
        await until(lambda: world.site.deeds["goto /orders"] == 1)
        await world.tick(1000, times=12)
        ended = await settling
        assert ended is not None
        assert ended.failure.code == "step_outcome_unknown"
        assert world.site.deeds["click Save"] == 0
        assert world.site.deeds["goto /orders"] == 1 + len(PAUSES_SECONDS)


async def test_a_site_that_is_away_while_an_act_is_settled_is_asked_again() -> None:
    async with a_world(a_shop()) as world:
        world.site.statuses["/orders"] = 502
        check = {"open": f"https://{HOST}/orders", "text": "order 99", "timeoutMs": 0}
        settling = asyncio.create_task(unknown(world, click("save", "Save", params={"check": check})))
        await until(lambda: world.site.deeds["goto /orders"] == 1)
        del world.site.statuses["/orders"]
        await world.tick(250)
        ended = await settling
        assert ended is not None
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.deeds["click Save"] == 1


async def missed(world: World, **check: Any) -> tuple[TaskEnded, StepFinished]:
    """`save` acts, and the page does not become what is expected."""
    params = {"expect": {"text": "order 17"}, **({"check": check} if check else {})}
    await world.assign(document(OPEN, click("save", "Save", params=params, timeoutMs=1000)))
    await until(lambda: world.site.deeds["click Save"] == 1)
    await world.tick(1000)
    ended = await world.until_report(TaskEnded)
    assert world.site.deeds["click Save"] == 1, "it was done again"
    return ended, [r for r in await world.reports() if isinstance(r, StepFinished)][-1]


async def test_an_act_that_the_page_does_not_confirm_counts_when_its_check_finds_it_done() -> None:
    async with a_world(a_shop()) as world:
        ended, finished = await missed(world, open=f"https://{HOST}/orders", text="order 17")
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert finished.resolved


async def test_an_act_that_the_page_does_not_confirm_is_no_reason_to_repeat_it() -> None:
    async with a_world(a_shop()) as world:
        ended, _ = await missed(world)
        assert (ended.failure.code, ended.failure.kind) == ("expect_failed", FailureKind.PERMANENT)
    async with a_world(a_shop()) as world:
        world.site.statuses["/orders"] = 404  # so the check cannot tell
        ended, _ = await missed(world, open=f"https://{HOST}/orders", text="order 17")
        assert (ended.failure.code, ended.failure.kind) == ("expect_failed", FailureKind.PERMANENT)


async def test_an_act_of_which_the_check_finds_nothing_may_be_repeated_by_a_new_run() -> None:
    async with a_world(a_shop()) as world:
        ended, finished = await missed(world, open=f"https://{HOST}/orders", text="order 99", timeoutMs=0)
        assert (ended.failure.code, ended.failure.kind) == ("expect_failed", FailureKind.TEMPORARY)
        assert not finished.resolved


async def test_a_person_settles_an_unknown_act_where_the_workflow_asks_people() -> None:
    for answer, clicks in (("yes", 0), ("no", 1)):
        async with a_world(a_shop()) as world:
            ended = await unknown(world, SAVE, answer=answer)
            assert ended is not None
            assert ended.status is WorkflowRunStatus.COMPLETED
            assert world.site.deeds["click Save"] == clicks
    async with a_world(a_shop()) as world:
        await unknown(world, SAVE, answer="open")
        suspended = await world.until_report(TaskSuspended, SECOND)
        assert suspended.kind == "confirm"
        await world.until_report(TaskParked, SECOND)


async def test_a_person_is_asked_anew_about_an_act_that_was_started_again() -> None:
    async with a_world(a_shop()) as world:
        doc = document(OPEN, SAVE, ASK)
        await world.assign(doc)
        await world.until_report(TaskEnded)
        journal = replace(await world.journal(), unknown=("save",))
        journal = replace(journal, entries=journal.entries[:1])
        world.site.deeds.clear()
        world.site.dies_after = ["click Save"]
        answers = (await world.answer("save", {"happened": "no"}),)
        await world.assign(doc, SECOND, journal=journal, answers=answers)
        await world.until_report(TaskParked, SECOND)
        assert world.site.deeds["click Save"] == 1


async def test_a_browser_that_dies_is_replaced_and_the_walk_goes_on_from_the_safe_point() -> None:
    site = a_shop()
    site.dies_at = ["click Save"]
    async with a_world(site) as world:
        doc = document(OPEN, fill("name", "Name", "Ada"), click("save", "Save", effect="once", params={
            "check": {"open": f"https://{HOST}/orders", "text": "order 99", "timeoutMs": 0}}))  # fmt: skip
        await world.assign(doc)
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert (site.opened, site.deeds["fill Name"], site.deeds["click Save"]) == (2, 2, 1)
        assert "StepChecked" in kinds(await world.reports())


async def test_a_browser_that_dies_right_after_an_act_does_not_double_it() -> None:
    site = a_shop()
    site.dies_after = ["click Save"]
    async with a_world(site) as world:
        await world.assign(document(OPEN, SAVE))
        ended = await world.until_report(TaskEnded)
        assert ended.failure.code == "step_outcome_unknown"
        assert site.deeds["click Save"] == 1


async def test_a_stop_is_obeyed_between_two_steps() -> None:
    site = a_shop()
    async with a_world(site) as world:
        gate = site.holds_at["goto /form"] = asyncio.Event()
        assigned = await world.assign(FORM, inputs={"who": "Ada"})
        await until(lambda: site.opened == 1)
        await world.put(Topic.RUNNER_INBOX, TaskStopRequested(assigned.task_id, FIRST, 1))
        await idle()
        gate.set()
        await world.until_report(TaskStopped)
        assert site.deeds["click Save"] == 0
        assert site.closed == 1


async def test_a_step_that_does_not_end_is_cut_five_seconds_after_a_stop() -> None:
    site = a_shop()
    async with a_world(site) as world:
        site.holds_at["goto /form"] = asyncio.Event()
        assigned = await world.assign(FORM, inputs={"who": "Ada"})
        await until(lambda: site.opened == 1)
        await world.put(Topic.RUNNER_INBOX, TaskStopRequested(assigned.task_id, FIRST, 1))
        await world.tick(500, times=13)
        await world.until_report(TaskStopped)


async def test_a_stop_that_comes_before_its_assignment_keeps_it_from_starting() -> None:
    async with a_world(a_shop()) as world:
        assigned = await world.task(FORM, inputs={"who": "Ada"})
        await world.put(Topic.RUNNER_INBOX, TaskStopRequested(assigned.task_id, FIRST, 1))
        await world.put(Topic.RUNNER_INBOX, assigned)
        await idle()
        assert world.runner.held == 0
        assert await world.reports() == []


async def test_draining_hands_the_task_back_and_ends_the_runner() -> None:
    site = a_shop()
    async with a_world(site) as world:
        gate = site.holds_at["goto /form"] = asyncio.Event()
        await world.assign(FORM, inputs={"who": "Ada"})
        await until(lambda: site.opened == 1)
        world.runner.drain()
        await idle()
        gate.set()
        released = await world.until_report(TaskReleased)
        assert released.reason == "drain"
        assert world.running is not None
        await until(lambda: world.running is not None and world.running.done())
        assert site.deeds["click Save"] == 0


async def test_a_runner_whose_heartbeats_do_not_get_through_cuts_its_attempts_without_a_word() -> None:
    site = a_shop()
    async with a_world(site) as world:
        site.holds_at["goto /form"] = asyncio.Event()
        await world.assign(FORM, inputs={"who": "Ada"})
        await until(lambda: site.opened == 1)
        world.log.faults = lambda _records: Fault.REFUSED
        await world.tick(500, times=24)
        await until(lambda: world.runner.held == 0)
        assert site.closed == 1
        assert kinds(await world.reports()) == ["TaskStarted"]


async def test_heartbeats_name_what_is_held_and_what_waits() -> None:
    async with a_world(a_shop()) as world:
        await world.tick(2500)
        ask = step("ask_user", "ask", {"fields": [{"name": "code"}], "prompt": "The code?"})
        await world.assign(document(OPEN, ask, PROVE))
        await world.until_report(TaskSuspended)
        await world.tick(200, times=3)
        beats = [e for e in await world.events(Topic.DISPATCH) if isinstance(e, RunnerHeartbeat) and e.held]
        assert beats[-1].held[0].waiting
        assert beats[-1].held[0].token == FIRST


async def test_a_run_that_takes_too_long_is_timed_out() -> None:
    site = a_shop()
    async with a_world(site) as world:
        site.holds_at["goto /form"] = asyncio.Event()
        doc = document({**OPEN, "timeoutMs": 600_000}, finally_=[PROVE])
        await world.assign(doc, timeout_seconds=8)
        await until(lambda: site.opened == 1)
        await world.tick(500, times=18)
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.TIMED_OUT
        assert [r.path for r in await world.reports() if isinstance(r, StepFinished)] == ["prove"]


async def test_a_short_retry_is_waited_for_and_a_long_one_hands_the_task_back() -> None:
    site = a_shop()
    async with a_world(site) as world:
        missing = step("navigate", "open", {"url": f"https://{HOST}/gone"}, retry={"maxAttempts": 2, "delayMs": 1000})
        await world.assign(document(missing))
        await until(lambda: site.deeds["goto /gone"] == 1)
        await world.tick(500, times=4)
        ended = await world.until_report(TaskEnded)
        assert (ended.failure.code, site.deeds["goto /gone"]) == ("navigation_failed", 2)
        assert ended.failure.step_id == "open"

        slow = {**missing, "retry": {"maxAttempts": 2, "delayMs": 60_000}}
        await world.assign(document(slow), SECOND)
        released = await world.until_report(TaskReleased, SECOND)
        assert (released.reason, released.not_before_ms > world.clock.now_ms()) == ("delayed", True)
        third = replace(FIRST, attempt=3, nonce="3" * 32)
        await world.assign(document(slow), third, journal=await world.journal(SECOND))
        ended = await world.until_report(TaskEnded, third)
        assert (ended.status, site.deeds["goto /gone"]) == (WorkflowRunStatus.FAILED, 4)


async def test_a_failed_step_that_may_fail_does_not_end_the_run_and_finally_always_runs() -> None:
    async with a_world() as world:
        doc = document(
            step("assert", "no", {"that": ["false"]}, onError="continue"),
            step("if", "branch", {"condition": "steps.no.failed", "then": [PROVE]}),
            step("assert", "never", {"that": ["false"], "message": "not today"}),
            finally_=[step("assert", "last", {"that": ["true"]})],
        )
        await world.assign(doc)
        ended = await world.until_report(TaskEnded)
        told = [(r.path, r.status) for r in await world.reports() if isinstance(r, StepFinished)]
        assert told == [
            ("no", StepStatus.FAILED),
            ("branch", StepStatus.COMPLETED),
            ("prove", StepStatus.COMPLETED),
            ("never", StepStatus.FAILED),
            ("last", StepStatus.COMPLETED),
        ]
        assert ended.failure.code == "assert_failed"
        assert "not today" in await world.sealer.open_text(ended.failure.message)


async def test_a_loop_addresses_its_items_and_goes_on_behind_the_finished_ones() -> None:
    doc = document(
        step("extract", "orders", {"rows": {"role": "row"}, "fields": {"n": {}}}),
        step("for_each", "each", {"items": "steps.orders.rows", "variable": "order", "body": [
            step("assert", "one", {"that": ["order.n != ''"]}), click("press", "{{order.n}}", effect="once")]}),
        step("finish", "end", {"outcome": "nothing_to_do", "output": {"n": "{{steps.each.items}}"}}),
    )  # fmt: skip
    site = a_shop()
    site.pages[""] = [Control(role, name) for name in ("17", "18") for role in ("row", "button")]
    async with a_world(site) as world:
        await world.assign(doc)
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN, ended
        assert await world.opened(ended.output) == {"n": 2}
        paths = [r.path for r in await world.reports() if isinstance(r, StepFinished)]
        assert paths == ["orders", "each[0].one", "each[0].press", "each[1].one", "each[1].press", "each", "end"]
        journal = await world.journal()
        await world.assign(doc, SECOND, journal=replace(journal, entries=journal.entries[:3]))
        await world.until_report(TaskEnded, SECOND)
        assert (site.deeds["click 17"], site.deeds["click 18"]) == (1, 2)


async def test_a_long_journal_is_staged_and_read_back() -> None:
    steps = [step("assert", f"s{n}", {"that": ["true"]}) for n in range(150)]
    async with a_world() as world:
        await world.assign(document(*steps))
        await world.until_report(TaskEnded)
        journal = await world.journal()
        assert journal.staged.size
        assert len(journal.entries) < 150
        await world.assign(document(*steps), SECOND, journal=journal)
        await world.until_report(TaskEnded, SECOND)
        assert kinds(await world.reports(SECOND)) == ["TaskStarted", "TaskEnded"]


LOGIN = document(
    OPEN, fill("pw", "Password", "{{inputs.password}}"), SAVE,
    sessionCheck=[
        step("navigate", "home", {"url": f"https://{HOST}/orders", "expect": {"text": "order 17"}}, timeoutMs=1)
    ],
    inputSchema={"properties": {"password": {"secret": True}}},
)  # fmt: skip


async def test_a_login_types_its_secret_and_saves_the_session_once_proven() -> None:
    async with a_world(a_shop()) as world:
        world.vault.secrets["ref"] = b"hunter2222"
        inputs = {"password": {"$secret": "ref"}}
        await world.assign(LOGIN, type=WorkflowType.LOGIN, connection=CONNECTION, inputs=inputs)
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert world.site.typed == ["hunter2222"]
        assert world.vault.session is not None
        assert (world.vault.session.version, world.vault.proven) == (1, 1)
        assert not world.vault.halves, "what only this run needs goes with it"


async def test_a_login_that_was_cut_short_goes_on_with_what_its_act_had_made() -> None:
    site = a_shop()
    async with a_world(site) as world:
        world.vault.secrets["ref"] = b"hunter2222"
        inputs = {"password": {"$secret": "ref"}}
        await world.assign(LOGIN, type=WorkflowType.LOGIN, connection=CONNECTION, inputs=inputs)
        await world.until_report(TaskEnded)
        made, journal = world.vault.session, await world.journal()
        assert made is not None
        await world.assign(
            LOGIN, SECOND, type=WorkflowType.LOGIN, connection=CONNECTION, inputs=inputs, journal=journal
        )
        ended = await world.until_report(TaskEnded, SECOND)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert made.state.endswith(site.states[-1] or b"?")
        assert ((world.vault.session or Session(0, b"")).version, site.typed) == (made.version + 1, ["hunter2222"])


async def test_a_login_whose_session_still_holds_does_nothing() -> None:
    async with a_world(a_shop()) as world:
        world.vault.session = Session(4, b"kept")
        await world.assign(LOGIN, type=WorkflowType.LOGIN, connection=CONNECTION, inputs={})
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN
        assert world.site.states == [b"kept"]
        assert kinds(await world.reports()) == ["TaskStarted", "TaskEnded"]


async def test_a_used_window_is_waited_out_on_the_clocks_time_and_not_on_the_steps() -> None:
    site = a_shop()
    async with a_world(site) as world:
        world.vault.codes = [29.0, "482913"]
        code = {**fill("code", "Password", "{{inputs.seed | totp}}"), "timeoutMs": 100, "retry": {"maxAttempts": 1}}
        doc = document(OPEN, code, inputSchema={"properties": {"seed": {"secret": True}}})
        await world.assign(doc, type=WorkflowType.LOGIN, connection=CONNECTION, inputs={"seed": {"$secret": "ref"}})
        await until(lambda: world.vault.codes == ["482913"])
        assert site.typed == []
        await world.tick(1000, times=30)
        ended = await world.until_report(TaskEnded)
        assert ended.status is WorkflowRunStatus.COMPLETED
        assert site.typed == ["482913"]


async def test_a_secret_is_not_typed_into_a_foreign_page() -> None:
    site = a_shop()
    async with a_world(site) as world:
        world.vault.secrets["ref"] = b"hunter2222"
        foreign = step("navigate", "open", {"url": "https://evil.example/form"})
        doc = document(foreign, fill("pw", "Password", "{{inputs.password}}"), inputSchema=LOGIN["inputSchema"])
        await world.assign(doc, type=WorkflowType.LOGIN, inputs={"password": {"$secret": "ref"}})
        ended = await world.until_report(TaskEnded)
        assert ended.failure.code == "secret_host_refused"
        assert site.typed == []


async def test_work_that_meets_a_login_page_says_so() -> None:
    site = a_shop()
    site.pages["/form"] = [Control(role="textbox", name="Password", tag="input", type="password")]
    async with a_world(site) as world:
        await world.assign(document(OPEN, {**SAVE, "timeoutMs": 1}), connection=CONNECTION)
        await until(lambda: site.deeds["goto /form"] == 1)
        await world.tick(10, times=3)
        ended = await world.until_report(TaskEnded)
        assert ended.failure.code == "login_failed"


async def test_two_locators_that_disagree_stop_the_step() -> None:
    site = a_shop()
    site.pages["/form"].append(Control(name="Delete"))
    async with a_world(site) as world:
        both = {"locators": [{"role": "button", "name": "Save"}, {"css": "#Delete"}]}
        await world.assign(document(OPEN, step("click", "save", {"target": both})))
        ended = await world.until_report(TaskEnded)
        assert ended.failure.code == "target_conflict"
        assert site.deeds["click Save"] == site.deeds["click Delete"] == 0


async def test_every_effect_is_told_in_its_report() -> None:
    async with a_world(a_shop()) as world:
        await world.assign(FORM, inputs={"who": "Ada"})
        await world.until_report(TaskEnded)
        effects = {r.path: r.effect for r in await world.reports() if isinstance(r, StepFinished)}
        assert effects == {"open": Effect.READ, "name": Effect.IDEMPOTENT, "save": Effect.ONCE, "prove": Effect.READ}
        safe = {r.path for r in await world.reports() if isinstance(r, StepFinished) and r.safe_point}
        assert safe == {"open", "save"}
        assert not [r for r in await world.reports() if isinstance(r, StepChecked)]
