"""What an attempt leaves behind: its log, its trace, and pictures in which no secret can be read."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from kernel.domain.plan import RunOptions, WorkflowType
from kernel.domain.task import TaskEnded
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.store.port import SecretKind
from tests.support.chromium import launched, needs_chromium
from tests.support.disguises import plant, search_for
from tests.support.fake_site import FakeSite
from tests.support.grounded_runner import World
from tests.support.real_browser import document, outcome, shop, step, target, told, world
from tests.support.runner_world import CONNECTION

__all__ = ["shop", "world"]
pytestmark = [needs_chromium, pytest.mark.timeout(120)]

NOISY = """<h1>Noise</h1><script>
console.log('hello from the page', 7);
console.error('Authorization: Bearer abcdefghijkl and password=hunter22 at https://x.example/a?token=zzz9');
fetch('/missing?session=topsecret9&page=2').then(() => document.body.append('answered'));
</script>"""


async def left(world: World, ended: TaskEnded, kind: str) -> list[bytes]:
    return [await world.blob(artifact.sha256) for artifact in ended.artifacts if artifact.type == kind]


async def test_the_log_tells_what_the_page_said_and_asked_for_without_values(world: World, shop: FakeSite) -> None:
    shop.extra["/noisy"] = NOISY
    doc = document(
        step("navigate", "open", {"url": shop.url("/noisy?ref=private77")}),
        step("wait_for", "quiet", {"text": "answered"}),
    )
    ended, _ = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    (artifact,) = ended.artifacts
    assert (artifact.type, await world.sealer.open_text(artifact.display_name)) == ("log_file", "attempt-1.ndjson")
    (content,) = await left(world, ended, "log_file")
    lines = [msgspec.json.decode(line) for line in content.splitlines()]
    assert all(set(line) == {"ms", "kind", "level", "message", "data"} for line in lines)
    said = {(line["kind"], line["level"], line["message"].replace(shop.url(""), "")) for line in lines}
    assert ("console", "info", "hello from the page 7") in said
    assert ("network", "info", "GET /noisy?ref=… 200") in said
    assert ("network", "warning", "GET /missing?session=…&page=… 404") in said
    for value in (b"private77", b"topsecret9", b"hunter22", b"abcdefghijkl", b"zzz9"):
        assert value not in content


async def test_a_run_without_a_page_leaves_nothing(world: World) -> None:
    ended, _ = await outcome(world, document(step("assert", "prove", {"that": ["1 < 2"]})))
    assert ended.artifacts == ()


SECRET_PAGE = """<form method="post" action="/echo"><label>Password <input name="p" type="password"></label>
<label>Code <input name="c"></label><button>Go</button></form><iframe src="/inner"></iframe><script>
document.querySelector('[name=c]').addEventListener('input', e => {
  console.log('typed ' + e.target.value + ' ' + btoa('x' + e.target.value));
  fetch('/api?code=' + encodeURIComponent(e.target.value), {method: 'POST', body: JSON.stringify({c: e.target.value})});
  document.cookie = 'copy=' + encodeURIComponent(e.target.value);
});
</script>"""


def a_secret_run(shop: FakeSite) -> dict[str, Any]:
    text = {"type": "string", "secret": True}
    return document(
        step("navigate", "open", {"url": shop.url("/secret")}),
        step("fill", "password", {"target": target(label="Password"), "value": "{{inputs.password}}"}),
        step("fill", "code", {"target": target(label="Code"), "value": "{{inputs.code}}"}),
        step("click", "go", {"target": target(role="button", name="Go"), "expect": {"url": "*/echo"}}),
        inputSchema={"properties": {"password": text, "code": text}},
    )


async def test_a_trace_on_demand_holds_what_happened_and_no_secret_in_any_disguise(
    world: World, shop: FakeSite
) -> None:
    password, code, cookie = plant("password", '{}"<&>'), plant("code", "{} %/ä"), plant("cookie")
    shop.extra |= {"/secret": SECRET_PAGE, "/inner": "<p>inner</p>", "/echo": "<p>thanks</p>"}
    shop.headers["/secret"] = {"Set-Cookie": f"session={cookie.text}; Path=/; HttpOnly"}
    login = {"type": WorkflowType.LOGIN, "connection": CONNECTION}
    planted = {"password": password, "code": code}
    given = {
        name: {"$secret": await world.keep(one.text.encode(), SecretKind.CREDENTIAL)} for name, one in planted.items()
    }
    options = RunOptions(trace=True)
    ended, _ = await outcome(world, a_secret_run(shop), inputs=given, options=options, **login)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    (trace,) = await left(world, ended, "trace")
    (log,) = await left(world, ended, "log_file")
    search = search_for(password, code, cookie)
    search.look(trace, "trace")
    search.look(log, "log")
    assert not search.hits, search.told()
    seen = search_for(plant("page"))
    seen.needles = {b"frame-snapshot": ("page", ""), b"thanks": ("page", "")}
    seen.look(trace, "trace")
    assert len(seen.hits) > 0


COPIES = """<form><label>Password <input id="p" type="text"></label></form>
<iframe srcdoc="<body style='margin:0'><input id=copy style='position:absolute;left:0;top:0;width:150px;height:20px'>"
 style="position:absolute;left:300px;top:100px;width:200px;height:60px;border:0"></iframe><script>
p.addEventListener('input', () => setTimeout(() => {
  const held = p.value;
  document.querySelector('form').innerHTML =
    '<input class=fresh style="position:absolute;left:100px;top:100px;width:150px;height:20px;border:0">';
  document.querySelector('.fresh').value = held;
  document.querySelector('iframe').contentDocument.querySelector('#copy').value = held;
  document.title = 'redrawn';
}));
</script>"""

PIXELS = """async ([jpeg, spots]) => {
  const picture = new Image();
  picture.src = 'data:image/jpeg;base64,' + jpeg;
  await picture.decode();
  const canvas = document.createElement('canvas');
  canvas.width = picture.width; canvas.height = picture.height;
  const drawing = canvas.getContext('2d');
  drawing.drawImage(picture, 0, 0);
  return spots.map(([x, y]) => [...drawing.getImageData(x, y, 1, 1).data].slice(0, 3));
}"""


async def test_a_field_that_was_drawn_anew_or_copied_into_a_frame_is_covered(world: World, shop: FakeSite) -> None:
    shop.extra["/copies"] = COPIES
    ref = await world.keep(b"hunter2222")
    doc = document(
        step("navigate", "open", {"url": shop.url("/copies")}),
        step("fill", "password", {"target": target(css="#p"), "value": "{{inputs.password}}", "verify": False}),
        step("wait_for", "redrawn", {"target": target(css=".fresh")}),
        step("screenshot", "seen", {}),
        inputSchema={"properties": {"password": {"type": "string", "secret": True}}},
    )
    ended, steps = await outcome(world, doc, inputs={"password": {"$secret": ref}})
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    picture = base64.b64encode(await world.blob(steps["seen"].artifacts[0].sha256)).decode()
    async with launched() as browser:
        page = await browser.new_page()
        fresh, copy, beside = await page.evaluate(PIXELS, [picture, [[120, 110], [320, 110], [280, 300]]])
    for red, green, blue in (fresh, copy):
        assert (red > 215, green < 40, blue > 215) == (True, True, True)
    assert min(beside) > 240
