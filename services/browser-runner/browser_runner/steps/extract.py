"""`extract`: rows of the page as data, page after page, into an artifact and into the step's result."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from browser_runner.conditions import is_shown
from browser_runner.locators import normal, resolve
from browser_runner.ports import Page, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import FailureKind
from kernel.steps.document import Extract, ExtractStep, FieldOf, NextButton
from kernel.steps.schemas import violations

ROWS_BYTES_MAX = 256 * 1024
"""More than this stays in the artifact only."""

_TURN_MS = 10_000

Row = dict[str, Any]


async def run_extract(trying: Trying, step: ExtractStep) -> dict[str, Any]:
    """Result: `count`, `pages`, `artifactId`, and `rows` unless they are too long.

    `extract_invalid` when rows break the schema or a required field is missing; the artifact is kept all the same.
    """
    params = trying.rendered(step.params)
    page = await trying.page()
    await trying.about_to_act()
    rows, pages = await _all_rows(trying, page, params)
    trying.acted()
    content = msgspec.json.encode(rows)
    artifact = await trying.keep("extracted_data", content, f"{step.id}.json", "application/json")
    if params.schema is not None and (broken := violations(params.schema, rows)):
        raise StepFailed("extract_invalid", "; ".join(broken))
    result: dict[str, Any] = {"count": len(rows), "pages": pages, "artifactId": artifact.artifact_id}
    if len(content) <= ROWS_BYTES_MAX:
        result["rows"] = rows
    return result


async def _all_rows(trying: Trying, page: Page, params: Extract) -> tuple[list[Row], int]:
    rows: list[Row] = []
    seen: set[bytes] = set()
    pages = 0
    while True:
        fresh = [row for row in await _rows_here(trying, page, params) if _is_new(row, seen, params.paging)]
        pages += 1
        rows += fresh
        if len(rows) >= params.max_items:
            return rows[: params.max_items], pages
        if not fresh or not await _turn(trying, page, params.paging, pages):
            return rows, pages


def _is_new(row: Row, seen: set[bytes], paging: NextButton | None) -> bool:
    # On one page equal rows are data; across pages they are the sign that nothing new came.
    if paging is None:
        return True
    key = msgspec.json.encode(row)
    if key in seen:
        return False
    seen.add(key)
    return True


async def _turn(trying: Trying, page: Page, paging: NextButton | None, pages: int) -> bool:
    """Go to the next page; False when there is none."""
    if paging is None or pages >= paging.max_pages or not await is_shown(page, paging.target):
        return False
    now = trying.clock.boot_ms()
    try:
        button = await resolve(page, paging.target, trying.clock, now)
    except StepFailed as failure:
        if failure.code == "target_missing":
            return False  # It is shown and disabled: the last page.
        raise
    before = await page.outline_hash()
    await button.click(button="left", count=1, modifiers=(), timeout_ms=trying.left_ms())
    until_ms = min(trying.until_ms, now + _TURN_MS)
    while await page.outline_hash() == before:
        left_ms = until_ms - trying.clock.boot_ms()
        if left_ms <= 0:
            return False
        await page.changed(min(left_ms, 250))
    return True


async def _rows_here(trying: Trying, page: Page, params: Extract) -> list[Row]:
    if params.engine == "table":
        return await _table_rows(trying, page, params)
    assert params.rows is not None
    scope = params.scope
    within = None
    if scope is not None:
        await trying.resolve(scope, for_act=False)
        within = scope.locators[0]
    fields = {name: (field.locator, field.attribute) for name, field in params.fields.items()}
    found = await page.rows(params.rows, fields, within=within, frame=scope.frame if scope is not None else "")
    return [{name: _typed(name, params.fields[name], row[name]) for name in fields} for row in found]


async def _table_rows(trying: Trying, page: Page, params: Extract) -> list[Row]:
    assert params.scope is not None
    headers, cells = await page.table(await trying.resolve(params.scope, for_act=False))
    columns = params.columns or {header: header for header in headers if header}
    places = {normal(header): place for place, header in reversed(list(enumerate(headers)))}
    missing = [header for header in columns.values() if normal(header) not in places]
    if missing:
        raise StepFailed(
            "extract_invalid", f"the table has no column {missing[0]!r}; it has {headers}", FailureKind.TEMPORARY
        )
    return [
        {name: row[place] if (place := places[normal(header)]) < len(row) else None for name, header in columns.items()}
        for row in cells
    ]


def _typed(name: str, field: FieldOf, text: str | None) -> Any:
    value = text.strip() if text is not None else None
    if not value:
        if field.required:
            raise StepFailed("extract_invalid", f"a row has no {name!r}", FailureKind.TEMPORARY)
        return value
    match field.type:
        case "string":
            return value
        case "boolean":
            return value.casefold() in {"true", "yes", "1", "on", "checked"}
        case _:
            return _number(name, field.type, value)


_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def _number(name: str, kind: str, text: str) -> int | float:
    plain = re.sub(r"[\s'\u00a0]", "", text)
    if _GROUPED.fullmatch(plain):
        plain = plain.replace(",", "")
    elif "," in plain:
        plain = plain.replace(".", "").replace(",", ".")
    try:
        return int(plain) if kind == "integer" else float(plain)
    except ValueError:
        raise StepFailed("extract_invalid", f"{name!r} is no {kind}") from None
