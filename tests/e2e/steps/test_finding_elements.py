"""What a target means in a real page, by every rank of locator, and that nothing but that is ever touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from browser_runner.browser import ChromiumPool
from browser_runner.browser.pages import ChromiumPage
from browser_runner.ports import Aim, StepFailed
from kernel.steps.targets import Identity, Locator, Target
from kernel.store.secret import Secret
from tests.support.chromium import chromium_path, needs_chromium

pytestmark = [needs_chromium, pytest.mark.timeout(90)]

SHORT_MS, LONG_MS = 150.0, 10_000.0
_RECORDS = """<script>addEventListener('click', event => {
  document.body.dataset.hits = (document.body.dataset.hits || '') + (event.target.closest('[id]')?.id ?? '?') + ' ';
  event.preventDefault();
}, true)</script>"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[ChromiumPool]:
    opened = ChromiumPool(chromium_path(), slots=1)
    await opened.start()
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(pool: ChromiumPool) -> AsyncIterator[ChromiumPage]:
    context = await pool.open("tenant", None, None)
    assert isinstance(context.page, ChromiumPage)
    yield context.page
    await context.close()


in_one_loop = pytest.mark.asyncio(loop_scope="module")


def aim(*locators: Locator, identity: Identity | None = None, within: Locator | None = None, **more: Any) -> Aim:
    return Aim(Target(locators, identity, within, frame=more.pop("frame", "")), **more)


async def show(page: ChromiumPage, html: str) -> None:
    await page.raw.set_content(_RECORDS + html)


async def touched(page: ChromiumPage, wanted: Aim, *, expected: str) -> str:
    """Click what `wanted` means: ids of all that was clicked, and the code of the failure if there was one."""
    code, timeout_ms = "", SHORT_MS if expected.startswith("target_") else LONG_MS
    try:
        await page.element(wanted).click(button="left", count=1, modifiers=(), timeout_ms=timeout_ms)
    except StepFailed as failure:
        code = failure.code
    hits = str(await page.raw.evaluate("() => document.body.dataset.hits || ''")).strip()
    return f"{code} {hits}".strip()


BUTTON = Locator(role="button", name="Save")
NAVIGATION = Locator(role="navigation")
ROW = Locator(role="row", has_text="lamp")
TABLE = """<table><tr><td>lamp</td><td><button id=lamp>Buy</button></td></tr>
<tr><td>bowl</td><td><button id=bowl>Buy</button></td></tr></table>"""
BY_RANK: list[tuple[str, Aim, str]] = [
    ("<button id=a data-testid=save>x</button>", aim(Locator(test_id="save")), "a"),
    ("<button id=a data-qa='s\"x'>x</button>", aim(Locator(test_id='s"x', test_id_attribute="data-qa")), "a"),
    ("<button id=a>Save</button><button id=b>Save all</button>", aim(BUTTON), "a"),
    ("<button id=a>  save\n ALL now</button>", aim(Locator(role="button", name="save all", exact=False)), "a"),
    ("<div id=a role=button aria-label=Save>x</div>", aim(BUTTON), "a"),
    ("<label>Name <input id=a></label>", aim(Locator(label="Name")), "a"),
    ("<input id=a placeholder=Name>", aim(Locator(placeholder="Name")), "a"),
    ("<img id=a width=9 height=9 alt=Logo>", aim(Locator(alt="Logo")), "a"),
    ("<button id=a title=Print>x</button>", aim(Locator(title="Print")), "a"),
    (TABLE, aim(Locator(text="Buy"), within=ROW), "lamp"),
    (TABLE, aim(Locator(css="td:nth-child(2) > button"), within=ROW), "lamp"),
    ("<button id=a name=save>x</button>", aim(Locator(css="[name=save]")), "a"),
    ("<nav><b><i><button id=a>x</button></i></b></nav>", aim(Locator(css="b button"), within=NAVIGATION), "a"),
]  # fmt: skip


@in_one_loop
async def test_each_rank_of_locator_finds_its_element(page: ChromiumPage) -> None:
    for html, wanted, hit in BY_RANK:
        await show(page, html)
        assert await touched(page, wanted, expected=hit) == hit, wanted


PAIR = "<button id=a>Save</button><button id=b>Delete</button>"
TWICE = "<button id=a>Save</button><div role=dialog><button id=b>Save</button></div>"
SAVE = Identity(role="button", name="Save")
SAVE_ORDER = Identity(role="button", name="Save order")
ODD = Identity(role="button", name="pay (1+1) [now] / 'it'")
LOOSE = Locator(role="button", name="Save", exact=False)
A = Locator(css="#a")
RULES: list[tuple[str, Aim, str]] = [
    # One that will do among several, none, more than one.
    ("<button hidden id=a>Save</button><button id=b>Save</button>", aim(Locator(css="button")), "b"),
    ("<button disabled id=a>Save</button><button id=b>Save</button>", aim(BUTTON), "b"),
    ("<button disabled id=a>Save</button>", aim(BUTTON), "target_missing"),
    ("<button aria-disabled=true id=a>Save</button>", aim(BUTTON), "target_missing"),
    (PAIR, aim(Locator(role="button")), "target_missing"),
    (PAIR, aim(Locator(role="button"), BUTTON), "a"),
    (PAIR, aim(Locator(css="#gone"), BUTTON), "a"),
    # Two that disagree, whatever their rank.
    (PAIR, aim(BUTTON, Locator(css="#b")), "target_conflict"),
    (PAIR, aim(BUTTON, Locator(css="#b"), Locator(css="#a")), "target_conflict"),
    # Narrowed by a container.
    (TWICE, aim(BUTTON), "target_missing"),
    (TWICE, aim(BUTTON, within=Locator(role="dialog")), "b"),
    (TWICE, aim(BUTTON, identity=Identity(container="dialog")), "b"),
    (TWICE, aim(BUTTON, identity=Identity(container="form")), "target_missing"),
    (TABLE, aim(Locator(text="Buy"), within=Locator(role="row")), "target_missing"),
    # What it must be.
    (PAIR, aim(Locator(css="#b"), identity=SAVE), "target_changed"),
    (PAIR, aim(A, identity=SAVE), "a"),
    (PAIR, aim(A, identity=Identity(role="link")), "target_changed"),
    (PAIR, aim(A, identity=Identity(tag="a")), "target_changed"),
    (PAIR, aim(A, identity=Identity(container="dialog")), "target_changed"),
    ("<input id=a type=button value=Save>", aim(BUTTON, identity=Identity(tag="INPUT", type="button")), "a"),
    ("<input id=a type=reset value=Save>", aim(BUTTON, identity=Identity(type="submit")), "target_changed"),
    # Names: one may hold the other, unless it acts once.
    ("<button id=a>Save order</button>", aim(A, identity=SAVE), "a"),
    ("<button id=a>Save</button>", aim(A, identity=SAVE_ORDER), "a"),
    ("<button id=a>Save</button>", aim(A, identity=Identity(name="save  ORDER")), "a"),
    ("<button id=a>Save order</button>", aim(A, identity=SAVE, exact_name=True), "target_changed"),
    ("<button id=a>Save</button>", aim(A, identity=SAVE_ORDER, exact_name=True), "target_changed"),
    ("<button id=a> SAVE\n</button>", aim(A, identity=SAVE, exact_name=True), "a"),
    ("<button id=a>Save order</button>", aim(LOOSE, identity=SAVE, exact_name=True), "target_changed"),
    ("<div id=a><button>Save</button></div>", aim(A, identity=Identity(name="Save")), "target_changed"),
    ("<button id=a>Pay (1+1) [now] / 'it'</button>", aim(A, identity=ODD, exact_name=True), "a"),
    # Links.
    ("<a id=a href='https://x.example/'>Go</a>", aim(A, plain_link=True), "a"),
    ("<a id=a href='https://x.example/' onclick='x()'>Go</a>", aim(A, plain_link=True), "target_changed"),
    ("<a id=a href='javascript:x()'>Go</a>", aim(A, plain_link=True), "target_changed"),
    ("<span id=a role=link>Go</span>", aim(A, plain_link=True), "target_changed"),
    # Frames.
    ("<iframe id=f srcdoc='<button>Save</button>'></iframe>", aim(BUTTON), "target_missing"),
    ("<iframe class=f></iframe><iframe class=f></iframe>", aim(BUTTON, frame=".f"), "target_missing"),
]  # fmt: skip


@in_one_loop
async def test_exactly_one_match_counts_locators_agree_and_identity_holds(page: ChromiumPage) -> None:
    for html, wanted, hit in RULES:
        await show(page, html)
        assert await touched(page, wanted, expected=hit) == hit, (html, wanted)


@in_one_loop
async def test_an_element_in_a_frame_and_one_in_a_shadow_tree_are_found(page: ChromiumPage) -> None:
    await show(page, "<iframe id=f srcdoc='<label>Name <input></label>'></iframe><div id=host></div>")
    await page.raw.evaluate("""() => {
      document.querySelector('#host').attachShadow({mode: 'open'}).innerHTML = '<button>Save</button>';
    }""")
    field = page.element(aim(Locator(label="Name"), identity=Identity(role="textbox"), frame="#f"))
    await field.fill("Ada", LONG_MS)
    assert await field.value() == "Ada"
    assert await touched(page, aim(BUTTON, identity=SAVE), expected="host") == "host"


SAVE_P, DROP_Q = "<button id=save class=p>Save</button>", "<button id=drop class=q>Delete</button>"
BANNER = "<div style='position:fixed;inset:0'>We use cookies</div>"
MUTATIONS: dict[str, tuple[str, str]] = {
    "as recorded": (f"<form>{SAVE_P}{DROP_Q}</form>", "save"),
    "classes renamed": ("<form><button id=save class=x1>Save</button><button id=drop>Delete</button></form>", "save"),
    "wrapped": (f"<form><div><div>{SAVE_P}</div></div>{DROP_Q}</form>", "save"),
    "places swapped": (f"<form>{DROP_Q}{SAVE_P}</form>", "save"),
    "classes swapped": (
        "<form><button id=save class=q>Save</button><button id=drop class=p>Delete</button></form>",
        "target_conflict",
    ),
    "texts swapped": (
        "<form><button id=save class=p>Delete</button><button id=drop class=q>Save</button></form>",
        "target_conflict",
    ),
    "wording changed": (f"<form><button id=save class=p>Store</button>{DROP_Q}</form>", "target_changed"),
    "gone": (f"<form>{DROP_Q}</form>", "target_missing"),
    "duplicated outside": (f"<nav><button id=menu>Save</button></nav><form>{SAVE_P}</form>", "save"),
    "duplicated inside": (
        "<form><button id=menu>Save</button><button id=save>Save</button></form>",
        "target_missing",
    ),
    "a banner over it": (f"<form>{SAVE_P}</form>{BANNER}", "target_covered"),
    "another role": ("<form><a id=save class=p href='/x'>Save</a></form>", "target_changed"),
    "hidden, another shown": (
        f"<form><button hidden id=save class=p>Save</button>{DROP_Q}</form>",
        "target_missing",
    ),
}


@in_one_loop
async def test_a_page_that_has_changed_never_makes_a_step_touch_the_wrong_control(page: ChromiumPage) -> None:
    wanted = aim(BUTTON, Locator(css=".p"), identity=SAVE, within=Locator(css="form"), exact_name=True)
    told = {}
    for name, (html, expected) in MUTATIONS.items():
        await show(page, html)
        told[name] = await touched(page, wanted, expected=expected)
    assert told == {name: expected for name, (_, expected) in MUTATIONS.items()}


@in_one_loop
async def test_an_overlay_is_waited_for_and_named_when_it_stays(page: ChromiumPage) -> None:
    banner = "<div id=banner role=dialog aria-label='We use cookies' style='position:fixed;inset:0'><p>Hm</p></div>"
    await show(page, f"<button id=a>Save</button>{banner}")
    with pytest.raises(StepFailed) as raised:
        await page.element(aim(BUTTON)).ready(SHORT_MS)
    assert (raised.value.code, raised.value.message) == (
        "target_covered",
        '<div role="dialog" id="banner"> "We use cookies"',
    )
    await page.raw.evaluate("() => setTimeout(() => document.querySelector('#banner').remove(), 200)")
    await page.element(aim(BUTTON)).ready(LONG_MS)
    assert await touched(page, aim(BUTTON), expected="a") == "a"


@in_one_loop
async def test_what_is_below_the_edge_is_ready_once_it_is_scrolled_to(page: ChromiumPage) -> None:
    await show(page, "<div style='height:4000px'></div><label><input id=a type=checkbox>Agree</label>")
    await page.element(aim(Locator(label="Agree"))).ready(LONG_MS)


@in_one_loop
async def test_a_page_cannot_lie_to_the_engine(page: ChromiumPage) -> None:
    await show(page, PAIR)
    await page.raw.evaluate("""() => {
      Element.prototype.getBoundingClientRect = () => ({width: 9, height: 9, left: 0, top: 0});
      Element.prototype.checkVisibility = () => true;
      Element.prototype.matches = () => false;
      Element.prototype.getAttribute = () => 'Save';
      Map.prototype.get = Map.prototype.has = () => { throw new Error('no'); };
      JSON.stringify = JSON.parse = () => { throw new Error('no'); };
      document.querySelector('#a').style.display = 'none';
    }""")
    sight = await page.look(aim(BUTTON, Locator(css="#a")))
    assert sight.code == "target_missing"
    assert [hit.visible for hit in sight.hits] == [0, 0]


@in_one_loop
async def test_what_was_meant_is_judged_again_when_the_page_draws_it_anew(page: ChromiumPage) -> None:
    await show(page, PAIR)
    element = page.element(aim(Locator(css="button:first-of-type"), identity=SAVE, exact_name=True))
    await element.prove(SHORT_MS)
    await page.raw.evaluate("() => document.body.prepend(document.querySelector('#b'))")
    with pytest.raises(StepFailed, match="target_changed"):
        await element.click(button="left", count=1, modifiers=(), timeout_ms=SHORT_MS)
    await page.raw.evaluate("() => { document.body.innerHTML = '<button id=c>Save</button>'; }")
    await element.click(button="left", count=1, modifiers=(), timeout_ms=LONG_MS)
    assert await page.raw.evaluate("() => document.body.dataset.hits") == "c "


@in_one_loop
async def test_a_secret_is_typed_only_into_the_document_whose_host_was_asked_for(page: ChromiumPage) -> None:
    await page.raw.route(
        "**/*", lambda route: route.fulfill(body="<label>Password <input></label>", content_type="text/html")
    )
    await page.raw.goto("http://one.example/")
    field = page.element(aim(Locator(label="Password")))
    assert await field.host() == "one.example"
    await page.raw.goto("http://other.example/")
    with pytest.raises(StepFailed) as raised:
        await field.fill(Secret(b"correct horse"), SHORT_MS)
    assert (raised.value.code, raised.value.message) == ("target_changed", "the field could not be filled")
    assert await page.raw.locator("input").input_value() == ""
