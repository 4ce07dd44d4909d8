"""Expressions and templates: what they give, and how they are kept small."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.steps.expressions import ExpressionError, compile_expression, evaluate, evaluate_bool
from kernel.steps.templates import SecretValue, TemplateError, compile_template, render_text, render_value

SCOPE: dict[str, Any] = {
    "inputs": {"shop": "north", "password": {"$secret": "ref-1"}},
    "steps": {"orders": {"count": 2, "rows": [{"n": "1"}, {"n": "2"}]}, "a-b": {"x": 1}},
    "order": {"n": "7"},
    "index": 0,
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("steps.orders.count == 2 && inputs.shop.startsWith('n')", True),
        ("steps['a-b'].x", 1),
        ("steps.orders.rows.map(r, r.n)", ["1", "2"]),
        ("order.n + string(index)", "70"),
        ("has(steps.orders.missing)", False),
        ("has(steps.missing)", False),
    ],
)
def test_an_expression_reads_inputs_steps_and_the_loop(source: str, value: object) -> None:
    assert evaluate(compile_expression(source), SCOPE) == value


@pytest.mark.parametrize(
    "source",
    [
        "1 +",
        "a" * 2000,
        "(" * 40 + "1" + ")" * 40,
        "[1].map(x, [1].map(y, x))",
        "[1].all(x, true) && [1].all(x, true) && [1].all(x, true)",
        "system('x')",
        "size(inputs) > 1",
    ],
)
def test_a_malformed_or_costly_expression_does_not_compile(source: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(source)


@pytest.mark.parametrize("source", ["steps.gone.x == 1", "1 / 0 == 1", "inputs.shop > 3", "nobody"])
def test_an_expression_without_a_value_says_so(source: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(compile_expression(source), SCOPE)


def test_a_loop_over_very_much_is_refused_before_it_runs() -> None:
    with pytest.raises(ExpressionError, match="too much"):
        evaluate(compile_expression("items.map(x, items).size() > 0"), {"items": list(range(5000))})


def test_a_condition_must_be_a_boolean() -> None:
    assert evaluate_bool("1 < 2", {})
    with pytest.raises(ExpressionError, match="no condition"):
        evaluate_bool("1", {})


def test_a_template_gives_text_and_a_lone_name_keeps_its_type() -> None:
    assert render_text("Order {{ order.n }} of {{inputs.shop | upcase}}", SCOPE) == "Order 7 of NORTH"
    assert render_value("{{steps.orders.count}}", SCOPE) == 2
    assert render_value("{{steps.orders.rows[1].n}}", SCOPE) == "2"
    assert render_value("n={{steps.orders.count}}", SCOPE) == "n=2"
    assert render_text("no names, 100 % plain", SCOPE) == "no names, 100 % plain"


def test_a_default_stands_for_what_is_not_there() -> None:
    assert render_text("{{ steps.gone.n | default: 'none' }}", SCOPE) == "none"
    assert render_text("{{ steps.orders.gone | default: 'none' | upcase }}", SCOPE) == "NONE"
    assert render_text("{{ order.n | default: 'none' }}", SCOPE) == "7"
    for source in ("{{ steps.gone.n }}", "{{ steps.gone.n | upcase }}", "{{ steps.gone.n | upcase | default: 'x' }}"):
        with pytest.raises(TemplateError):
            render_text(source, SCOPE)


def test_a_value_from_a_page_is_never_read_as_a_template() -> None:
    assert render_text("{{order}}", {"order": "{{inputs.password}}"}) == "{{inputs.password}}"


def test_a_secret_has_no_text_and_stays_a_reference() -> None:
    assert render_value("{{inputs.password}}", SCOPE) == SecretValue("ref-1")
    for source in ("{{inputs.password}}", "x {{inputs.password}}", "{{inputs.password | upcase}}"):
        with pytest.raises(TemplateError, match="secret"):
            render_text(source, SCOPE)


@pytest.mark.parametrize("source", ["{{inputs.gone}}", "{{gone}}", "{{steps.gone.x}}"])
def test_an_unknown_name_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError):
        render_text(source, SCOPE)


@pytest.mark.parametrize(
    "source",
    ["{{inputs", "{% for x in y %}{% endfor %}", "{{ a | sort }}", "{{}}", "{{a}}" * 3000],
)
def test_a_malformed_template_does_not_compile(source: str) -> None:
    with pytest.raises(TemplateError):
        compile_template(source)
