"""Rows out of pages of every kind, and files into them, in a real headless browser."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kernel.domain.task import StepFinished, TaskEnded
from kernel.domain.workflow_run import WorkflowRunStatus
from tests.support.chromium import needs_chromium
from tests.support.fake_site import FakeSite
from tests.support.grounded_runner import World
from tests.support.real_browser import document, outcome, shop, step, target, told, world

__all__ = ["shop", "world"]
pytestmark = [needs_chromium, pytest.mark.timeout(120)]

LIST = """<main><h1>Invoices</h1><ul>
<li><a href="/invoice/1">Invoice 1</a> <b>open</b> <button>Pay</button></li>
<li><a href="/invoice/2">Invoice "2": late</a> <b>paid</b> <button disabled>Pay</button></li></ul>
<div role="grid" aria-label="Lines"><div role="row"><div role="columnheader">Item</div></div>
<div role="row"><div role="gridcell">Lamp</div><div role="gridcell">2</div></div>
<div role="row"><div role="gridcell">Cable: 5 m</div><div role="gridcell">x</div></div></div></main>"""

ENDLESS = """<ol id="list"></ol><script>
let shown = 0;
const more = () => { for (let i = 0; i < 10 && shown < 34; i++) {
  const row = document.createElement('li');
  row.style.height = '90px'; row.textContent = 'row ' + ++shown; list.append(row);
} };
more();
const isAtEnd = () => innerHeight + scrollY >= document.body.scrollHeight - 50;
addEventListener('scroll', () => { if (isAtEnd()) setTimeout(more, 30); });
</script>"""

VIRTUAL = """<div id="box" style="height:200px;overflow:auto;position:relative"><div id="all"></div></div><script>
const draw = () => { const from = Math.floor(box.scrollTop / 20); all.style.height = '2000px';
  all.innerHTML = Array.from({length: 12}, (_, i) => from + i).filter(i => i < 100).map(i =>
    `<p class=r style="position:absolute;margin:0;top:${i * 20}px"><i>${i}</i> name ${i % 3}</p>`).join(''); };
box.addEventListener('scroll', () => requestAnimationFrame(draw)); draw();
</script>"""

FIELD: dict[str, Any] = {"fields": {"text": {}}}


async def rows_of(world: World, url: str, params: dict[str, Any], **more: Any) -> tuple[TaskEnded, StepFinished, Any]:
    doc = document(step("navigate", "open", {"url": url}), step("extract", "read", params, **more))
    ended, steps = await outcome(world, doc)
    return ended, steps["read"], await world.opened(steps["read"].output)


async def kept(world: World, read: StepFinished, place: int = -1) -> Any:
    data = [artifact for artifact in read.artifacts if artifact.type == "extracted_data"]
    return msgspec.json.decode(await world.blob(data[place].sha256))


async def test_rows_are_read_by_role_and_name(world: World, shop: FakeSite) -> None:
    shop.extra["/list"] = LIST
    fields = {
        "name": {"locator": {"role": "link"}},
        "address": {"locator": {"role": "link"}, "attribute": "href"},
        "locked": {"locator": {"role": "button", "name": "Pay"}, "attribute": "disabled", "type": "boolean"},
    }
    params = {"engine": "aria", "rows": {"role": "listitem"}, "fields": fields}
    ended, _, result = await rows_of(world, shop.url("/list"), params)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert result["rows"] == [
        {"name": "Invoice 1", "address": "/invoice/1", "locked": None},
        {"name": 'Invoice "2": late', "address": "/invoice/2", "locked": True},
    ]


async def test_what_does_not_fit_is_kept_with_the_reason_and_may_be_left_to_the_author(
    world: World, shop: FakeSite
) -> None:
    shop.extra["/list"] = LIST
    fields = {"item": {"locator": {"role": "gridcell"}},
              "count": {"locator": {"role": "gridcell"}, "nth": 1, "type": "integer"}}  # fmt: skip
    params = {"engine": "aria", "scope": target(role="grid", name="Lines"), "rows": {"role": "row"}, "fields": fields}
    _, read, result = await rows_of(world, shop.url("/list"), {**params, "onInvalid": "branch"})
    assert (result["ok"], result["reasons"]) == (False, ["/1/count: is no integer"])
    assert result["rows"] == [{"item": "Lamp", "count": 2}, {"item": "Cable: 5 m", "count": "x"}]
    assert (await kept(world, read))["faults"] == ["/1/count: is no integer"]


async def test_a_row_says_where_it_stood_and_shows_its_page(world: World, shop: FakeSite) -> None:
    params = {
        "rows": {"css": "tr:has(td)"}, "fields": {"number": {"locator": {"css": ".n"}, "type": "integer"}},
        "paging": {"kind": "page-number", "url": shop.url("/orders?page={page}")}, "until": "row.number == 6",
    }  # fmt: skip
    ended, read, result = await rows_of(world, shop.url("/orders"), params, evidence="always")
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert [row["number"] for row in result["rows"]] == [1, 2, 3, 4, 5]
    data = await kept(world, read)
    assert data["rows"] == result["rows"]
    lineage = data["lineage"]
    assert (lineage["step"], lineage["locator"]) == ("read", "css 'tr:has(td)'")
    assert [page["url"] for page in lineage["pages"]] == [shop.url("/orders"), shop.url("/orders?page=2")]
    assert lineage["rows"][3] == {"page": 1, "position": 0}
    pictures = {artifact.artifact_id for artifact in read.artifacts if artifact.type == "screenshot"}
    assert {page["screenshot"] for page in lineage["pages"]} < pictures
    assert len(pictures) == 3


@pytest.mark.parametrize("paging", [
    {"kind": "page-number", "link": {"role": "link", "name": "{page}"}},
    {"kind": "page-number", "url": "{{inputs.base}}/numbered?page={page}"},
])  # fmt: skip
async def test_numbered_pages_are_followed_to_the_last(world: World, shop: FakeSite, paging: dict[str, Any]) -> None:
    for number in range(1, 4):
        links = "".join(f'<a href="/numbered{n}">{n}</a> ' for n in range(1, 4) if n != number)
        shop.extra[f"/numbered{number}"] = f"<ul><li>row {number}a<li>row {number}b</ul>{links}"
    if "url" in paging:
        paging = {**paging, "url": shop.url("/numbered{page}")}
    params = {"rows": {"css": "li"}, **FIELD, "paging": paging}
    ended, _, result = await rows_of(world, shop.url("/numbered1"), params)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert [row["text"] for row in result["rows"]] == [f"row {n}{c}" for n in (1, 2, 3) for c in "ab"]


async def test_an_endless_page_is_read_to_its_end(world: World, shop: FakeSite) -> None:
    shop.extra["/endless"] = ENDLESS
    paging = {"kind": "infinite-scroll", "settleMs": 400}
    ended, _, result = await rows_of(world, shop.url("/endless"), {"rows": {"css": "li"}, **FIELD, "paging": paging})
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert [row["text"] for row in result["rows"]] == [f"row {number}" for number in range(1, 35)]


async def test_a_list_that_draws_only_what_is_in_view_is_read_whole(world: World, shop: FakeSite) -> None:
    shop.extra["/virtual"] = VIRTUAL
    paging = {"kind": "virtual-list", "container": target(css="#box"), "key": ["id"], "settleMs": 200}
    fields = {"id": {"locator": {"css": "i"}, "type": "integer"}, "name": {}}
    params = {"rows": {"css": "p.r"}, "fields": fields, "paging": paging}
    ended, _, result = await rows_of(world, shop.url("/virtual"), params)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert [row["id"] for row in result["rows"]] == list(range(100))


async def test_rows_as_csv_run_no_formula_and_their_places_stand_beside_them(world: World, shop: FakeSite) -> None:
    shop.extra["/sums"] = "<table><tr><th>Name</th><th>Sum</th></tr><tr><td>=1+1</td><td>-1,5</td></tr></table>"
    params = {
        "engine": "table", "scope": target(css="table"), "format": "csv",
        "columns": {"name": "Name", "sum": {"header": "sum", "type": "number", "required": True}},
    }  # fmt: skip
    _, read, result = await rows_of(world, shop.url("/sums"), params)
    table = next(artifact for artifact in read.artifacts if artifact.artifact_id == result["artifactId"])
    assert await world.blob(table.sha256) == b"name,sum\r\n'=1+1,-1.5\r\n"
    assert (result["name"], result["rows"]) == ("read.csv", [{"name": "=1+1", "sum": -1.5}])
    assert (await kept(world, read))["lineage"]["rows"] == [{"page": 0, "position": 0}]


# ---------------------------------------------------------------- files

FORM = """<form method="post" action="/take" enctype="multipart/form-data">
<label for="f">File</label><input id="f" name="f" type="file" multiple style="display:none"><button>Send</button></form>
<div id="zone" style="width:200px;height:80px">Drop here</div><output></output><script>
zone.addEventListener('dragover', e => e.preventDefault());
zone.addEventListener('drop', async e => { e.preventDefault(); for (const file of e.dataTransfer.files)
  document.querySelector('output').textContent += `${file.name} ${await file.text()};`; });
</script>"""


async def test_what_was_downloaded_is_handed_on_through_an_input_that_nobody_sees(world: World, shop: FakeSite) -> None:
    shop.extra["/form2"] = FORM
    doc = document(
        step("download", "export", {"url": shop.url("/export.csv"), "name": "orders.csv"}),
        step("navigate", "open", {"url": shop.url("/form2")}),
        step("upload", "file", {"target": target(css="#f"), "files": ["{{steps.export.files[0]}}"]}),
        step("click", "send", {"target": target(role="button", name="Send"), "expect": {"text": "Taken"}}),
    )
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    (sent,) = shop.received
    assert b'filename="orders.csv"' in sent
    assert b"a,b\n1,2\n" in sent
    (file,) = (await world.opened(steps["file"].output))["files"]
    assert (file["name"], file["size"]) == ("orders.csv", 8)


async def test_files_of_an_input_are_dropped_on_a_zone_once(world: World, shop: FakeSite) -> None:
    shop.extra["/form2"] = FORM
    one = await world.put_blob(b"one")
    file = {"artifactId": "id-1", "name": "../one.txt", "sha256": one, "type": "text/plain", "size": 3}
    doc = document(
        step("navigate", "open", {"url": shop.url("/form2")}),
        step("upload", "drop", {"target": target(css="#zone"), "drop": True, "files": ["{{inputs.files}}"],
                                "expect": {"text": "one.txt one;"}}),
        inputSchema={"properties": {"files": {"type": "array", "kind": "artifact"}}},
    )  # fmt: skip
    ended, steps = await outcome(world, doc, inputs={"files": [file]})
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    assert steps["drop"].effect == "once"


async def test_nothing_but_artifacts_of_the_run_is_handed_on(world: World, shop: FakeSite) -> None:
    shop.extra["/form2"] = FORM
    foreign = await world.put_blob(b"of somebody else")
    forged = {"artifactId": "x", "name": "x", "sha256": foreign, "type": "text/plain", "size": 3}
    doc = document(
        step("navigate", "open", {"url": shop.url("/form2")}),
        step("upload", "file", {"target": target(css="#f"), "files": ["{{inputs.other}}"]}),
        inputSchema={"properties": {"other": {}}},
    )
    ended, _ = await outcome(world, doc, inputs={"other": forged})
    assert ended.failure.code == "upload_refused"


# ---------------------------------------------------------------- files that come

SELF = """<p>Your export</p><script>setTimeout(() => { const a = document.createElement('a');
a.href = '/late.bin'; a.download = 'late.bin'; a.click(); }, 100);</script>"""


async def test_a_file_that_the_page_hands_out_by_itself_is_kept(world: World, shop: FakeSite) -> None:
    shop.extra["/self"] = SELF
    shop.files["/late.bin"] = ("application/octet-stream", b"\x00\x01late")
    doc = document(step("navigate", "open", {"url": shop.url("/self")}), step("download", "file", {}))
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    (file,) = (await world.opened(steps["file"].output))["files"]
    assert (file["name"], await world.blob(file["sha256"])) == ("late.bin", b"\x00\x01late")


async def test_what_a_browser_would_show_is_fetched_as_it_is(world: World, shop: FakeSite) -> None:
    shop.files["/page.html"] = ("text/html; charset=utf-8", b"<p>shown</p>")
    shop.files["/doc.pdf"] = ("application/pdf", b"%PDF-1.4 x")
    shop.headers["/doc.pdf"] = {"Content-Disposition": 'inline; filename="Bill 7.pdf"'}
    doc = document(
        step("download", "page", {"url": shop.url("/page.html")}),
        step("download", "bill", {"url": shop.url("/doc.pdf")}),
        step("download", "gone", {"url": shop.url("/nowhere")}, onError="continue"),
    )
    ended, steps = await outcome(world, doc)
    assert ended.status is WorkflowRunStatus.COMPLETED, await told(world, ended)
    (page,) = (await world.opened(steps["page"].output))["files"]
    assert (page["name"], page["declaredType"]) == ("page.html", "text/html")
    assert await world.blob(page["sha256"]) == b"<p>shown</p>"
    (bill,) = (await world.opened(steps["bill"].output))["files"]
    assert (bill["name"], bill["declaredType"]) == ("Bill 7.pdf", "application/pdf")
    assert steps["gone"].failure.code == "download_failed"


@pytest.mark.parametrize("how", ["said", "shown", "clicked"])
async def test_a_file_that_is_too_large_is_cut_off(world: World, shop: FakeSite, how: str) -> None:
    shop.files["/big.bin"] = ("application/octet-stream", bytes(300_000))
    shop.extra["/big"] = '<a href="/big.bin">Big</a>'
    params = {"target": target(role="link", name="Big")} if how == "clicked" else {"url": shop.url("/big.bin")}
    if how == "shown":
        shop.streamed.add("/big.bin")
    doc = document(
        step("navigate", "open", {"url": shop.url("/big")}), step("download", "file", {**params, "maxBytes": 1000})
    )
    ended, _ = await outcome(world, doc)
    assert ended.failure.code == "download_too_large"
    assert bytes(300_000) not in await world.all_blobs()
