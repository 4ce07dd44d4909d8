"""Templates and expressions from hostile authors: a refusal or a bounded value, never anything else, never a secret."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernel.steps.expressions import ExpressionError, compile_expression, evaluate
from kernel.steps.templates import (
    OUTPUT_BYTES_MAX,
    SecretValue,
    TemplateError,
    compile_template,
    render_text,
    render_value,
)

SECRET = "s3cret-reference"
SCOPE: dict[str, Any] = {
    "inputs": {"user": "Ada", "hostile": "{{inputs.password}}", "password": {"$secret": SECRET}, "n": 7},
    "steps": {"read": {"rows": [{"a": 1}, {"a": "x" * 50}], "url": "http://shop.test/?a=1"}},
    "item": {"name": "inner"},
    "index": 0,
}
_pieces = st.sampled_from(
    [
        *("{{", "}}", "{%", "%}", "{{-", "-}}", " | ", "|", ".", "[", "]", "'", '"', ":", ","),
        *("inputs", "steps", "read", "rows", "user", "hostile", "password", "item", "index", "n", "0", "-1", "first"),
        *("default", "upcase", "url_encode", "totp", "size", "for", "assign", "include", "raw", "endraw", "# comment"),
        *("(", ")", "+", "*", "==", "&&", "?", "map", "filter", "exists", "x, x", "matches", "__class__", "\\", "\n"),
    ]
)
hostile = st.lists(_pieces | st.text(max_size=3), max_size=14).map("".join)
braced = hostile.map(lambda inner: "a {{ " + inner + " }} b") | hostile


@settings(max_examples=500)
@given(braced)
@example("{{inputs.password}}")
@example("{{inputs.password | upcase}}")
@example("{{inputs['password']}}")
@example("{{inputs[inputs.n]}}")
@example("{{ steps.read.rows | default: inputs.password }}")
def test_a_template_gives_a_bounded_text_without_any_secret_or_is_refused(source: str) -> None:
    try:
        told = render_text(source, SCOPE)
    except TemplateError as error:
        told = str(error)
    assert SECRET not in told
    assert len(told.encode()) <= max(OUTPUT_BYTES_MAX, len(source.encode()))


@settings(max_examples=300)
@given(braced)
def test_a_lone_name_gives_its_value_and_a_secret_stays_a_reference(source: str) -> None:
    try:
        value = render_value(source, SCOPE)
    except TemplateError:
        return
    if isinstance(value, SecretValue):
        assert value.ref == SECRET
        assert compile_template(source).single == ("inputs", "password")
    elif isinstance(value, str):
        assert SECRET not in value


@given(st.text(max_size=200))
def test_what_a_page_says_is_never_read_as_a_template(said: str) -> None:
    scope = {"inputs": {}, "steps": {"read": {"text": said}}}
    assert render_text("{{steps.read.text}}", scope) == said


@settings(max_examples=500)
@given(hostile)
@example("inputs.password")
@example("[1,2,3].map(x, [1,2].map(y, y))")
@example("steps.read.rows.map(r, r.a)[99]")
def test_an_expression_gives_a_value_or_is_refused(source: str) -> None:
    told = ""
    try:
        evaluate(compile_expression(source), SCOPE)
    except ExpressionError as error:
        told = str(error)
    assert len(told) <= 300 + len(source) + 40
