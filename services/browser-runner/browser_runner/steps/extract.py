"""`extract`: rows of the page as data, page after page, into an artifact and into the step's result."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from browser_runner import aria
from browser_runner.files import as_result
from browser_runner.locators import describe, normal
from browser_runner.paging import turn
from browser_runner.ports import Page, StepFailed
from browser_runner.rows import FAULTS_MAX, Harvest, RawRow, Row, as_csv, lineage
from browser_runner.steps.trying import Trying
from kernel.domain.artifact import StagedArtifact
from kernel.domain.values import FailureKind
from kernel.steps.document import (
    ColumnOf,
    Evidence,
    Extract,
    ExtractStep,
    FieldOf,
    InfiniteScroll,
    NextButton,
    PageNumber,
    VirtualList,
)
from kernel.steps.expressions import ExpressionError, evaluate_bool
from kernel.steps.schemas import violations

ROWS_BYTES_MAX = 256 * 1024
"""More than this stays in the artifact only."""
PICTURES_MAX = 20
"""Pages of one step that are pictured."""

_TOLD_MAX = 10


async def run_extract(trying: Trying, step: ExtractStep) -> dict[str, Any]:
    """Result: `count`, `pages`, `ok`, `reasons` when it is false, the artifact, and `rows` unless they are too long.

    `extract_invalid` when rows break the schema, their types, or a required field is missing; the artifact with all
    rows and reasons is kept all the same.
    """
    params = trying.rendered(step.params)
    page = await trying.page()
    await trying.about_to_act()
    harvest = await _read(trying, page, params, pictures=step.evidence is Evidence.ALWAYS)
    trying.acted()
    if params.schema is not None:
        harvest.faults += violations(params.schema, harvest.rows)[: FAULTS_MAX - len(harvest.faults)]
    kept = await _keep(trying, params, harvest)
    if harvest.faults and params.on_invalid == "fail":
        kind = FailureKind.TEMPORARY if harvest.lacks else FailureKind.PERMANENT
        raise StepFailed("extract_invalid", "; ".join(harvest.faults[:_TOLD_MAX]), kind)
    result = {"count": len(harvest.rows), "pages": len(harvest.pages), "ok": not harvest.faults, **kept}
    if harvest.faults:
        result["reasons"] = harvest.faults
    if len(msgspec.json.encode(harvest.rows)) <= ROWS_BYTES_MAX:
        result["rows"] = harvest.rows
    return result


# ---------------------------------------------------------------- reading


async def _read(trying: Trying, page: Page, params: Extract, *, pictures: bool) -> Harvest:
    known: Mapping[str, FieldOf | ColumnOf] = params.fields or {
        name: column for name, column in params.columns.items() if isinstance(column, ColumnOf)
    }
    harvest = Harvest(known, params.max_items, lambda row: _ends(trying, params, row))
    while True:
        raw = await _rows_here(trying, page, params)
        new = _new(harvest, raw, params)
        shown = await _picture(trying, page, len(harvest.pages)) if pictures else ""
        harvest.add(raw, page.url, shown, new)
        # A virtual list may draw nothing new for a while; only its end says that it is over.
        idle = not new and not isinstance(params.paging, VirtualList)
        if harvest.is_over or idle:
            return harvest
        if not await turn(trying, page, params.paging, len(harvest.pages), lambda: _count(trying, page, params)):
            return harvest


def _ends(trying: Trying, params: Extract, row: Row) -> bool:
    if params.until is None:
        return False
    try:
        return evaluate_bool(params.until, {**trying.scope, "row": row})
    except ExpressionError as error:
        raise StepFailed("expression_failed", str(error)) from None


def _new(harvest: Harvest, raw: list[RawRow], params: Extract) -> list[int]:
    match params.paging:
        case None:
            return list(range(len(raw)))
        case NextButton() | PageNumber():
            return harvest.unseen(raw)
        case InfiniteScroll():
            return list(range(harvest.read, len(raw)))
        case VirtualList(key=key):
            drawn = [place for place, row in enumerate(raw) if any(row.get(name) for name in key or row)]
            return [drawn[place] for place in harvest.unseen([raw[place] for place in drawn], key, within_page=True)]


async def _count(trying: Trying, page: Page, params: Extract) -> int:
    if params.engine == "fields" and params.rows is not None:
        within, frame = _where(params)
        return await page.count(params.rows, within=within, frame=frame)
    return len(await _rows_here(trying, page, params))


def _where(params: Extract) -> tuple[Any, str]:
    scope = params.scope
    return (None, "") if scope is None else (scope.locators[0], scope.frame)


async def _rows_here(trying: Trying, page: Page, params: Extract) -> list[RawRow]:
    match params.engine:
        case "table":
            return await _table_rows(trying, page, params)
        case "aria":
            assert params.rows is not None
            element = None if params.scope is None else await trying.resolve(params.scope, for_act=False)
            return list(aria.rows_of(aria.parse(await page.aria(element)), params.rows, params.fields))
        case _:
            assert params.rows is not None
            if params.scope is not None:
                await trying.resolve(params.scope, for_act=False)
            within, frame = _where(params)
            fields = {name: (field.locator, field.attribute) for name, field in params.fields.items()}
            return list(await page.rows(params.rows, fields, within=within, frame=frame))


async def _table_rows(trying: Trying, page: Page, params: Extract) -> list[RawRow]:
    assert params.scope is not None
    headers, cells = await page.table(await trying.resolve(params.scope, for_act=False))
    columns = {
        name: column.header if isinstance(column, ColumnOf) else column for name, column in params.columns.items()
    }
    columns = columns or {header: header for header in headers if header}
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


# ---------------------------------------------------------------- keeping


async def _picture(trying: Trying, page: Page, number: int) -> str:
    """Artifact id of a picture of this page of rows, empty when there is none."""
    if number >= PICTURES_MAX:
        return ""
    with suppress(StepFailed):
        picture = await page.picture(full_page=False, element=None, masks=())
        kept = await trying.keep("screenshot", picture, f"{trying.step.id}-{number + 1}.jpg", "image/jpeg")
        return kept.artifact_id
    return ""


async def _keep(trying: Trying, params: Extract, harvest: Harvest) -> dict[str, Any]:
    """Keep the rows with where they came from; as CSV these are two artifacts. What the result says of the rows'."""
    step_id, locator = trying.step.id, _locator(params)
    about = {"lineage": lineage(harvest, trying.path, locator), "faults": harvest.faults}
    if params.format == "csv":
        names = list(params.fields or params.columns or dict.fromkeys(name for row in harvest.rows for name in row))
        name = f"{step_id}.csv"
        artifact = await trying.keep("extracted_data", as_csv(names, harvest.rows), name, "text/csv")
        await _keep_json(trying, about, f"{step_id}.lineage.json")
    else:
        name = f"{step_id}.json"
        artifact = await _keep_json(trying, {"rows": harvest.rows, **about}, name)
    return as_result(artifact, name)


async def _keep_json(trying: Trying, value: Any, name: str) -> StagedArtifact:
    return await trying.keep("extracted_data", msgspec.json.encode(value), name, "application/json")


def _locator(params: Extract) -> str:
    found = params.rows or (params.scope.locators[0] if params.scope is not None else None)
    return "" if found is None else describe(found)
