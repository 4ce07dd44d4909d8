"""Rows: which are new, what their values are, where they stood, and how they leave as a table."""

from __future__ import annotations

from typing import Any

import pytest

from browser_runner.rows import FAULTS_MAX, Harvest, Place, Row, as_csv, lineage, typed_value
from kernel.steps.document import FieldOf


def harvest(max_items: int = 100, **wanted: FieldOf) -> Harvest:
    return Harvest(wanted, max_items, lambda row: row.get("id") == "end")


def rows(*ids: str) -> list[dict[str, str | None]]:
    return [{"id": id_} for id_ in ids]


def test_equal_rows_of_one_page_are_data_and_of_two_pages_are_one() -> None:
    reading = harvest()
    assert reading.unseen(rows("a", "a", "b")) == [0, 1, 2]
    assert reading.unseen(rows("b", "c")) == [1]
    assert reading.unseen(rows("c")) == []


def test_a_list_that_shows_a_row_twice_gives_it_once_by_its_key() -> None:
    reading = harvest()
    drawn = [{"id": "a", "n": "1"}, {"id": "a", "n": "2"}, {"id": "b", "n": "1"}]
    assert reading.unseen(drawn, ["id"], within_page=True) == [0, 2]
    assert reading.unseen(drawn, ["id"], within_page=True) == []


@pytest.mark.parametrize(("given", "kept"), [(["a", "end", "b"], 1), (["a", "b", "c", "d"], 3)])
def test_reading_ends_before_the_row_that_says_so_and_at_the_bound(given: list[str], kept: int) -> None:
    reading = harvest(3)
    reading.add(rows(*given), "https://x", "", range(len(given)))
    assert reading.is_over
    assert len(reading.rows) == len(reading.places) == kept


def test_what_does_not_fit_stays_with_its_reason() -> None:
    reading = harvest(id=FieldOf(required=True), n=FieldOf(type="number"))
    raw: list[dict[str, str | None]] = [{"id": " a ", "n": "1,5"}, {"id": "", "n": "many"}, {"id": None, "n": None}]
    reading.add(raw, "https://x", "", range(3))
    assert reading.rows == [{"id": "a", "n": 1.5}, {"id": "", "n": "many"}, {"id": None, "n": None}]
    assert reading.faults == ["/1/id: is missing", "/1/n: is no number", "/2/id: is missing"]
    assert reading.lacks


def test_reasons_are_bounded() -> None:
    reading = harvest(10**6, id=FieldOf(type="integer"))
    reading.add(rows(*["x"] * (FAULTS_MAX + 50)), "", "", range(FAULTS_MAX + 50))
    assert len(reading.faults) == FAULTS_MAX


def test_lineage_says_page_and_position_of_each_row() -> None:
    reading = harvest()
    reading.add(rows("a", "b"), "https://x/1", "pic", [0, 1])
    reading.add(rows("b", "c"), "https://x/2", "", [1])
    assert reading.places == [Place(0, 0), Place(0, 1), Place(1, 1)]
    told = lineage(reading, "orders[1].read", "css 'tr'")
    assert told["step"] == "orders[1].read"
    assert told["pages"] == [{"url": "https://x/1", "screenshot": "pic"}, {"url": "https://x/2", "screenshot": ""}]
    assert told["rows"][2] == {"page": 1, "position": 1}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "1", "1"),
        ("integer", "1,234", 1234),
        ("integer", "-7", -7),
        ("integer", "1.5", None),
        ("number", "1.234,50", 1234.5),
        ("number", "1 234.5", 1234.5),
        ("number", "1'234", 1234.0),
        ("number", "nan", None),
        ("number", "1e9", None),
        ("boolean", "Yes", True),
        ("boolean", "no", False),
    ],
)
def test_a_text_becomes_what_it_is_said_to_be_or_nothing(kind: str, text: str, value: Any) -> None:
    assert typed_value(kind, text) == value


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_a_table_begins_as_a_formula(start: str) -> None:
    table: list[Row] = [{"a": f"{start}1", f"{start}b": 1}]
    head, row = as_csv(["a", f"{start}b"], table).decode().split("\r\n", 1)
    assert head.startswith(f"a,'{start}b") or f"'{start}b" in head
    assert row.lstrip('"').startswith(f"'{start}1")


def test_numbers_truth_and_nothing_stay_what_they_are_in_a_table() -> None:
    assert as_csv(["a", "b", "c"], [{"a": -1.5, "b": True, "c": None}, {"a": 'x,"y"'}]) == (
        b'a,b,c\r\n-1.5,true,\r\n"x,""y""",,\r\n'
    )
