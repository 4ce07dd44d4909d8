"""What is refused of steps that read data and hand over files, and what they may do to the world."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kernel.domain.values import Effect
from kernel.steps.check import check_document
from kernel.steps.document import parse_document
from kernel.steps.effects import effect_of
from kernel.steps.hosts import hosts_of

INPUT_FIELD = {"locators": [{"label": "File"}]}
INPUTS = {"properties": {"file": {"type": "string", "kind": "artifact"}, "path": {"type": "string"}}}
ROWS = {"rows": {"role": "row"}, "fields": {"name": {"locator": {"role": "cell"}, "nth": 1}}}
ARIA = {"engine": "aria", **ROWS}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "steps": list(steps), **more}


def step(kind: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": more.pop("id", "a"), "type": kind, "params": params, **more}


def faults(raw: object) -> list[tuple[str, str]]:
    return [(detail.path, detail.code) for detail in check_document(raw)]


def extract(**params: Any) -> dict[str, Any]:
    return document(step("extract", params))


def upload(*files: str, **params: Any) -> dict[str, Any]:
    return document(step("upload", {"target": INPUT_FIELD, "files": list(files), **params}), inputSchema=INPUTS)


EXPORT = step("download", {"url": "https://shop.example/export"}, id="export")
GOOD = [
    document(EXPORT, step("upload", {"target": INPUT_FIELD, "files": ["{{steps.export.files[0]}}"]})),
    upload("{{inputs.file}}", drop=True, maxBytes=1000),
    extract(**ARIA),
    extract(**{**ROWS, "fields": {"n": {}}}, until="row.n == inputs.since || row.n == ''", format="csv")
    | {"inputSchema": {"properties": {"since": {}}}},
    extract(engine="table", scope={"locators": [{"css": "table"}]},
            columns={"total": {"header": "Total", "type": "number"}, "name": "Name"},
            paging={"kind": "virtual-list", "key": ["name"]}),
    extract(**ARIA, paging={"kind": "page-number", "url": "https://shop.example/orders?page={page}"}),
    extract(**ARIA, paging={"kind": "page-number", "link": {"title": "Go to page {page}"}}),
    extract(**ARIA, paging={"kind": "page-number", "url": "{{inputs.base}}?page={page}"})
    | {"inputSchema": {"properties": {"base": {}}}},
    extract(**ARIA, paging={"kind": "infinite-scroll", "container": INPUT_FIELD}),
    document(step("download", {"count": 2})),
]  # fmt: skip


@pytest.mark.parametrize("raw", GOOD)
def test_what_a_workflow_may_say_is_let_through(raw: dict[str, Any]) -> None:
    assert faults(raw) == []


PAGING = "/steps/0/params/paging"
BAD = [
    (upload("/etc/passwd"), "/steps/0/params/files/0"),
    (upload("x{{inputs.file}}"), "/steps/0/params/files/0"),
    (upload("{{inputs.path}}"), "/steps/0/params/files/0"),
    (upload(), "/steps/0/params/files"),
    (extract(engine="aria", rows={"css": "tr"}, fields=ROWS["fields"]), "/steps/0/params/rows"),
    (extract(engine="aria", **{**ROWS, "fields": {"x": {"locator": {"css": "td"}}}}), "/steps/0/params/fields/x"),
    (extract(**ROWS), "/steps/0/params/fields/name"),
    (extract(**ARIA, paging={"kind": "page-number"}), PAGING),
    (extract(**ARIA, paging={"kind": "page-number", "link": {"role": "link"}}), PAGING),
    (extract(**ARIA, paging={"kind": "page-number", "url": "https://x{page}.example/"}), PAGING + "/url"),
    (extract(**ARIA, paging={"kind": "virtual-list", "key": ["other"]}), PAGING + "/key/0"),
    (document(step("download", {"url": "https://shop.example/", "count": 2})), "/steps/0/params"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "place"), BAD)
def test_what_could_not_work_is_refused_with_its_place(raw: dict[str, Any], place: str) -> None:
    assert (place, "validation_failed") in faults(raw)


def test_an_expression_knows_the_row_only_where_rows_are_read() -> None:
    assert faults(document(step("finish", {}, when="row.n > 1"))) == [("/steps/0/when", "unknown_reference")]
    raw = extract(**ARIA, until="other.n > 1")
    assert faults(raw) == [("/steps/0/params/until", "unknown_reference")]


def test_a_page_that_is_opened_by_number_is_among_the_hosts_of_the_run() -> None:
    raw = extract(**ARIA, paging={"kind": "page-number", "url": "https://shop.example/orders/{page}"})
    assert hosts_of(parse_document(msgspec.json.encode(raw))) == ("shop.example",)


@pytest.mark.parametrize(("drop", "effect"), [(False, Effect.IDEMPOTENT), (True, Effect.ONCE)])
def test_a_file_input_may_be_filled_again_and_a_drop_may_not_be_repeated(drop: bool, effect: Effect) -> None:
    (found,) = parse_document(msgspec.json.encode(upload("{{inputs.file}}", drop=drop))).steps
    assert effect_of(found) is effect
