"""Every step kind in a real headless browser against the fake shop, and the death of that browser in mid-run."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from browser_runner.browser import ChromiumPool
from browser_runner.egress_proxy import EgressProxy
from kernel.domain.plan import WorkflowType
from kernel.domain.task import StepFinished, TaskEnded
from kernel.domain.values import Token
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from kernel.egress.dialer import Dialer
from kernel.egress.policy import Policy, parse_networks
from kernel.ids import SystemEntropy
from kernel.store.port import SecretKind
from tests.support.chromium import browser_processes, chromium_path, needs_chromium
from tests.support.eventually import until
from tests.support.fake_site import PASSWORD, FakeSite
from tests.support.grounded_runner import World, grounded
from tests.support.real_browser import document, outcome, shop, step, target, told, world
from tests.support.runner_world import CONNECTION, SECOND

__all__ = ["shop", "world"]

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


def an_order(shop: FakeSite, **save: Any) -> dict[str, Any]:
    return document(
        step("navigate", "open", {"url": shop.url("/form")}),
        step("fill", "item", {"target": target(label="Item"), "value": "{{inputs.item}}"}),
        step("select", "size", {"target": target(label="Size"), "value": "Large"}),
        step("click", "send", {
            "target": {"locators": [{"testId": "send"}, {"role": "button", "name": "Order now"}],
                       "identity": {"role": "button", "name": "Order now", "tag": "button"}},
            "expect": {"url": "*/done", "text": "Thank you"}, **save}),
        inputSchema={"properties": {"item": {"type": "string"}}},
    )  # fmt: skip


async def test_a_form_is_filled_and_sent_once(world: World, shop: FakeSite) -> None:
    ended, steps = await outcome(world, an_order(shop), inputs={"item": "lamp"})
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert shop.orders == ["lamp"]
    assert await world.opened(steps["size"].output) == {"labels": ["Large"]}
    assert steps["send"].safe_point


async def test_a_box_is_brought_into_a_state_and_stays_there_when_told_again(world: World, shop: FakeSite) -> None:
    gift = target(label="Wrap as a gift")
    is_on = {"count": {"locator": {"css": "[name=gift]:checked"}, "atLeast": 1}}
    doc = document(
        step("navigate", "open", {"url": shop.url("/form")}),
        step("tick", "wrap", {"target": gift, "expect": is_on}),
        step("tick", "again", {"target": gift, "expect": is_on}),
        step(
            "tick",
            "off",
            {"target": gift, "checked": False, "expect": {"count": {**is_on["count"], "atLeast": 0, "atMost": 0}}},
        ),
        step("tick", "no_box", {"target": target(label="Item")}, onError="continue"),
    )
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert await world.opened(steps["off"].output) == {"checked": False}
    assert steps["no_box"].failure.code == "step_failed"


async def test_orders_are_read_page_by_page_and_as_a_table(world: World, shop: FakeSite) -> None:
    paging = {"kind": "next-button", "target": target(text="Next")}
    doc = document(
        step("navigate", "open", {"url": shop.url("/orders")}),
        step("extract", "orders", {
            "rows": {"css": "tr:has(td)"}, "paging": paging, "schema": {"type": "array", "minItems": 7},
            "fields": {"number": {"locator": {"css": ".n"}, "type": "integer"}, "name": {"locator": {"css": "td"}}}}),
        step("navigate", "again", {"url": shop.url("/orders")}),
        step("extract", "table", {"engine": "table", "scope": target(css="table"), "columns": {"total": "Total"}}),
        step("assert", "right", {"that": ["steps.orders.count == 7", "steps.table.rows[2].total == '3.50'"]}),
    )  # fmt: skip
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    result = await world.opened(steps["orders"].output)
    assert result["pages"] == 3
    assert result["rows"][0] == {"number": 1, "name": "Customer 1"}
    assert [artifact.type for artifact in steps["orders"].artifacts] == ["extracted_data"]


async def test_rows_for_filters_and_sums_and_rows_out_of_sight_are_no_data(world: World, shop: FakeSite) -> None:
    doc = document(
        step("navigate", "open", {"url": shop.url("/sums")}),
        step("extract", "sums", {"engine": "table", "scope": target(css="table"), "columns": {"item": "Item"}}),
    )
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert (await world.opened(steps["sums"].output))["rows"] == [{"item": "lamp"}, {"item": "rope"}]


async def test_a_form_that_refuses_is_quoted_in_the_failure(world: World, shop: FakeSite) -> None:
    send = {"target": target(role="button", name="Send"), "expect": {"text": "Saved"}}
    doc = document(step("navigate", "open", {"url": shop.url("/strict")}), step("click", "send", send, timeoutMs=3000))
    ended, _ = await outcome(world, doc)
    said = "The page says: We could not save it.; Colour: Say a colour."
    assert (await told(world, ended)).endswith(said), await told(world, ended)


async def test_the_picture_of_an_icon_font_is_no_part_of_a_name(world: World, shop: FakeSite) -> None:
    button = target(role="button", name="Filter") | {"identity": {"role": "button", "name": "Filter"}}
    doc = document(step("navigate", "open", {"url": shop.url("/icons")}), step("click", "press", {"target": button}))
    ended, _ = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)


async def test_files_are_kept_under_clean_names(world: World, shop: FakeSite) -> None:
    doc = document(
        step("navigate", "open", {"url": shop.url("/exports")}),
        step("download", "clicked", {"target": target(role="link", name="Export")}),
        step("download", "fetched", {"url": shop.url("/export.csv"), "name": "orders.csv"}),
    )
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    for path, name in (("clicked", "ex port.csv"), ("fetched", "orders.csv")):
        file = (await world.opened(steps[path].output))["files"][0]
        assert file["name"].endswith(name)
        assert await world.blob(file["sha256"]) == b"a,b\n1,2\n"


async def test_pictures_late_elements_and_keys(world: World, shop: FakeSite) -> None:
    doc = document(
        step("navigate", "open", {"url": shop.url("/late")}),
        step("click", "late", {"target": target(role="button", name="Late")}),
        step("wait_for", "gone", {"target": target(role="button", name="Late"), "state": "hidden"}),
        step("screenshot", "seen", {"fullPage": True}),
        step("navigate", "form", {"url": shop.url("/form"), "wait": target(label="Item")}),
        step("fill", "item", {"target": target(placeholder="What"), "value": "by key"}),
        step("press", "enter", {"keys": "Enter", "target": target(label="Item"), "expect": {"url": "*/done"}}),
    )
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert shop.orders == ["by key"]
    picture = await world.blob(steps["seen"].artifacts[0].sha256)
    assert picture.startswith(b"\xff\xd8\xff")


async def test_a_missing_target_is_told_with_what_was_tried_and_a_picture(world: World, shop: FakeSite) -> None:
    gone = step(
        "click", "gone", {"target": target(role="button", name="Cancel")}, timeoutMs=300, retry={"maxAttempts": 1}
    )
    ended, steps = await outcome(world, document(step("navigate", "open", {"url": shop.url("/form")}), gone))
    assert ended.failure.code == "target_missing"
    message = await told(world, ended)
    assert "the target was not found: role button 'Cancel' matches nothing. At " in message
    assert "what is most like it: button 'Order now'" in message
    assert steps["gone"].status is StepStatus.FAILED
    assert steps["gone"].screenshot_artifact_id


async def test_the_wrong_control_is_never_touched(world: World, shop: FakeSite) -> None:
    opened = step("navigate", "open", {"url": shop.url("/pair")})
    torn = {"locators": [{"css": "#b"}, {"role": "button", "name": "Save"}]}
    ended, _ = await outcome(world, document(opened, step("click", "save", {"target": torn})))
    assert ended.failure.code == "target_conflict"
    changed = {"locators": [{"css": "#b"}], "identity": {"role": "button", "name": "Save"}}
    ended, _ = await outcome(world, document(opened, step("click", "save", {"target": changed})), token=SECOND)
    assert ended.failure.code == "target_changed"


async def test_a_frame_is_reached_and_a_500_is_tried_again(world: World, shop: FakeSite) -> None:
    shop.fails["/framed"] = 1
    inner = {**target(label="Item"), "frame": "#inner"}
    doc = document(
        step("navigate", "open", {"url": shop.url("/framed")}, retry={"delayMs": 10}),
        step("fill", "item", {"target": inner, "value": "x", "expect": {"value": "x"}}),
    )
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert steps["open"].tries == 2


def a_login(shop: FakeSite) -> dict[str, Any]:
    return document(
        step("navigate", "open", {"url": shop.url("/login")}),
        step("fill", "password", {"target": target(label="Password"), "value": "{{inputs.password}}"},
             evidence="always"),
        step("click", "enter", {"target": target(role="button", name="Sign in"), "expect": {"url": "*/home"}}),
        sessionCheck=[
            step("navigate", "check", {"url": shop.url("/home"), "expect": {"text": "Welcome"}}, timeoutMs=4000,
                 retry={"maxAttempts": 1}),
        ],
        inputSchema={"properties": {"password": {"type": "string", "secret": True}}},
    )  # fmt: skip


async def test_a_login_is_saved_and_the_next_work_finds_itself_logged_in(world: World, shop: FakeSite) -> None:
    inputs = {"password": {"$secret": await world.keep(PASSWORD.encode(), SecretKind.CREDENTIAL)}}
    login = {"type": WorkflowType.LOGIN, "connection": CONNECTION, "inputs": inputs}
    ended, steps = await outcome(world, a_login(shop), **login)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert steps["password"].output.size
    session, blobs = await world.session(CONNECTION), await world.all_blobs()
    assert session is not None
    assert b"kept" in session.state
    assert blobs
    assert PASSWORD.encode() not in b"".join(blobs) + session.state

    ended, _ = await outcome(world, a_login(shop), token=SECOND, **login)
    assert ended.status is WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN
    assert shop.deeds["POST /login"] == 1


async def test_a_run_whose_browser_is_killed_goes_on_within_seconds(world: World, shop: FakeSite) -> None:
    doc = document(
        *an_order(shop)["steps"],
        step("wait_for", "pause", {"text": "ordered rope"}, timeoutMs=60_000),
        step("wait_for", "there", {"text": "ordered lamp"}),
        inputSchema={"properties": {"item": {}}},
    )
    await world.assign(doc, inputs={"item": "lamp"})
    await until(lambda: shop.orders == ["lamp"])
    await world.until_report(StepFinished, count=4)
    shop.orders.append("rope")  # somebody else's, which the page shows once it is loaded again
    began = asyncio.get_running_loop().time()
    for pid in browser_processes():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: shop.deeds["GET /done"] == 2)
    assert asyncio.get_running_loop().time() - began < 15, "no lease had to be over first"
    ended = await world.until_report(TaskEnded)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert shop.deeds["POST /order"] == 1


NOT_TO_BE_REACHED = (
    ("navigate", "http://localhost:1/"), ("download", "http://localhost:1/"), ("navigate", "https://localhost:1/"),
    ("navigate", "file:///etc/hosts"), ("navigate", "view-source:file:///etc/hosts"), ("download", "file:///etc/hosts"),
    ("navigate", "data:text/html,x"), ("navigate", "about:blank"), ("navigate", " file:///etc/hosts"),
)  # fmt: skip


async def test_a_page_reaches_only_what_the_egress_proxy_lets_it_reach(shop: FakeSite, tmp_path: Path) -> None:
    policy = Policy(parse_networks("127.0.0.0/8"))
    pool = ChromiumPool(chromium_path(), slots=1)
    await pool.start()
    try:
        async with grounded(tmp_path, pool, host="127.0.0.1", run=False) as world:
            proxy = EgressProxy(Dialer(policy), world.fence, SystemEntropy())
            await proxy.start()
            world.start(egress=proxy)
            for attempt, (kind, url) in enumerate(NOT_TO_BE_REACHED, start=1):
                token = Token(attempt, f"{attempt:032}")
                elsewhere = step(kind, "out", {"url": url}, retry={"maxAttempts": 1})
                doc = document(step("navigate", "in", {"url": shop.url("/form")}), elsewhere)
                ended, steps = await outcome(world, doc, token=token)
                assert steps["in"].status is StepStatus.COMPLETED
                assert (ended.status, ended.failure.code) == (WorkflowRunStatus.FAILED, "navigation_blocked"), url
            await proxy.close()
    finally:
        await pool.close()


async def test_a_browser_that_is_killed_while_it_acts_leaves_the_outcome_unknown(world: World, shop: FakeSite) -> None:
    shop.stalled.add("/done")
    await world.assign(an_order(shop), inputs={"item": "lamp"})
    await until(lambda: shop.orders == ["lamp"])
    for pid in browser_processes():
        os.kill(pid, signal.SIGKILL)
    ended = await world.until_report(TaskEnded)
    assert ended.failure.code == "step_outcome_unknown"
    assert shop.orders == ["lamp"]
