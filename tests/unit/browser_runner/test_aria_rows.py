"""What a screen reader is told, read by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser_runner.aria import parse, rows_of
from kernel.steps.document import FieldOf
from kernel.steps.targets import Locator

SNAPSHOT = r"""
- heading "Invoices" [level=1]
- list:
  - listitem:
    - link "Invoice 1":
      - /url: /invoice/1
    - text: "open: now"
    - checkbox "Paid" [checked]
  - 'listitem "it''s: odd"':
    - link "Say \"hi\"":
      - /url: "/x?a=\"b\""
    - textbox "Note": written by hand
      - text: "a: b"
- paragraph: "caf\xe9"
"""
ROWS = Locator(role="listitem")


def field(role: str, name: str = "", **more: object) -> FieldOf:
    return FieldOf(Locator(role=role, name=name), **more)  # type: ignore[arg-type]  # members of the struct by name


def test_names_texts_values_and_properties_of_each_row() -> None:
    fields = {
        "link": field("link"), "url": field("link", attribute="href"), "note": field("textbox"),
        "paid": field("checkbox", attribute="checked"), "text": field("text"),
    }  # fmt: skip
    assert rows_of(parse(SNAPSHOT), ROWS, fields) == [
        {"link": "Invoice 1", "url": "/invoice/1", "note": None, "paid": "true", "text": "open: now"},
        {"link": 'Say "hi"', "url": '/x?a="b"', "note": "written by hand", "paid": None, "text": "a: b"},
    ]


def test_a_row_is_meant_by_its_name_and_one_in_which_nothing_is_found_is_none() -> None:
    root = parse(SNAPSHOT)
    assert [row["x"] for row in rows_of(root, Locator(role="listitem", name="it's: odd"), {"x": field("link")})] == [
        'Say "hi"'
    ]
    part = Locator(role="listitem", name="ODD", exact=False)
    assert len(rows_of(root, part, {"x": FieldOf()})) == 1
    assert rows_of(root, ROWS, {"x": field("slider")}) == []


def test_which_of_several_is_counted_from_zero() -> None:
    root = parse('- row "a b":\n  - cell "a"\n  - cell "b"')
    found = rows_of(root, Locator(role="row"), {"first": field("cell"), "second": field("cell", nth=1)})
    assert found == [{"first": "a", "second": "b"}]


def test_other_escapes_are_read() -> None:
    assert rows_of(parse(SNAPSHOT), Locator(role="paragraph"), {"x": FieldOf()}) == [{"x": "café"}]


@pytest.mark.parametrize("text", ["", "- ", "-", "  - deep", "- : x", '- link "open', "- /url: x", "no list", "- 'x"])
def test_a_line_that_is_none_is_passed_over(text: str) -> None:
    assert rows_of(parse(text + '\n- row "r"'), Locator(role="row"), {"x": FieldOf()}) == [{"x": "r"}]


@given(st.text(alphabet="- \n:'\"[]=/\\abrow", max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    rows_of(parse(text), Locator(role="row"), {"x": FieldOf()})
