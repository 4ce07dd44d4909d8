"""Documents that are refused, and why: every fault names its spot and its code."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kernel.domain.plan import WorkflowType
from kernel.domain.values import Effect
from kernel.steps.check import check_document
from kernel.steps.document import needs_page, parse_document, steps_json_schema
from kernel.steps.effects import effect_of
from kernel.steps.hosts import hosts_of
from kernel.steps.schemas import compile_schema, violations
from kernel.steps.templates import SecretValue, TemplateError, render_text, render_value

BUTTON = {"locators": [{"role": "button", "name": "Save"}]}


def step(kind: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": more.pop("id", "a"), "type": kind, "params": params, **more}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "steps": list(steps), **more}


def faults(raw: object, **more: Any) -> list[tuple[str, str]]:
    return [(detail.path, detail.code) for detail in check_document(raw, **more)]


INPUTS = {
    "type": "object",
    "properties": {"shop": {"type": "string"}, "password": {"type": "string", "secret": True}},
}
WHOLE = document(
    step("navigate", {"url": "https://shop.example/{{inputs.shop}}"}, id="open"),
    step("fill", {"target": {"locators": [{"label": "Password"}]}, "value": "{{inputs.password}}"}, id="pw"),
    step("click", {"target": BUTTON, "expect": {"url": "*/done"}}, id="save"),
    step(
        "extract",
        {"rows": {"css": "tr"}, "fields": {"number": {"locator": {"css": "td"}}}, "schema": {"type": "array"}},
        id="orders",
    ),
    step(
        "for_each",
        {
            "items": "steps.orders.rows.filter(r, r.number != '')",
            "variable": "order",
            "body": [step("assert", {"that": ["order.number != ''", "index < 5"]}, id="proof")],
        },
        id="loop",
    ),
    step(
        "if",
        {
            "condition": "steps.orders.count > 0",
            "then": [step("finish", {}, id="end")],
            "else": [step("finish", {"outcome": "nothing_to_do"}, id="none")],
        },
        id="branch",
    ),
    inputSchema=INPUTS,
    startOrigins=["https://login.example"],
    metadata={"anything": [1]},
)


def test_a_whole_document_passes_and_reads_back() -> None:
    assert check_document(WHOLE) == []
    parsed = parse_document(msgspec.json.encode(WHOLE))
    assert needs_page(parsed)
    assert hosts_of(parsed) == ("login.example", "shop.example")


@pytest.mark.parametrize("origin", ["https://a.example/path", "https://a.example?q", "https://a.example#f"])
def test_an_origin_has_no_path(origin: str) -> None:
    faults = check_document(WHOLE | {"startOrigins": [origin]})
    assert [(fault.path, fault.code) for fault in faults] == [("/startOrigins/0", "validation_failed")]
    assert check_document(WHOLE | {"startOrigins": ["https://a.example:8443", "https://b.example/"]}) == []


def test_the_schema_for_editors_accepts_what_the_check_accepts() -> None:
    compile_schema(steps_json_schema())
    assert violations(steps_json_schema(), WHOLE) == []
    assert violations(steps_json_schema(), document(step("agent", {})))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([], ("", "validation_failed")),
        (document(step("agent", {})), ("/steps/0/type", "unknown_step_type")),
        (
            document(step("if", {"condition": "true", "then": [step("code", {}, id="b")]})),
            ("/steps/0/params/then/0/type", "unknown_step_type"),
        ),
        (document(step("navigate", {"url": 1})), ("/steps/0/params/url", "validation_failed")),
        (document(step("navigate", {"url": "file:///etc/passwd"})), ("/steps/0/params/url", "url_not_allowed")),
        (document(step("navigate", {"url": "javascript:alert(1)"})), ("/steps/0/params/url", "url_not_allowed")),
        (document(step("navigate", {"url": "http://10.0.0.1/"})), ("/steps/0/params/url", "url_not_allowed")),
        (document(step("navigate", {"url": "http://0x7f.1/"})), ("/steps/0/params/url", "url_not_allowed")),
        (document(step("navigate", {"url": "http://localhost:80/"})), ("/steps/0/params/url", "url_not_allowed")),
        (document(step("navigate", {"url": "https://u:p@shop.example"})), ("/steps/0/params/url", "url_not_allowed")),
        (
            document(step("navigate", {"url": "https://{{inputs.shop}}.example/"}), inputSchema=INPUTS),
            ("/steps/0/params/url", "url_not_allowed"),
        ),
        (document(step("finish", {}), step("finish", {})), ("/steps/1/id", "duplicate_id")),
        (document(step("finish", {"message": "{{inputs.x}}"})), ("/steps/0/params/message", "unknown_reference")),
        (document(step("finish", {"message": "{{steps.b.x}}"})), ("/steps/0/params/message", "unknown_reference")),
        (document(step("finish", {"message": "{% if x %}"})), ("/steps/0/params/message", "invalid_template")),
        (document(step("finish", {"message": "{{ x | map: 'y' }}"})), ("/steps/0/params/message", "invalid_template")),
        (document(step("finish", {}, when="1 +")), ("/steps/0/when", "invalid_expression")),
        (document(step("finish", {}, when="open('x')")), ("/steps/0/when", "invalid_expression")),
        (document(step("finish", {}, when="other > 1")), ("/steps/0/when", "unknown_reference")),
        (
            document(step("assert", {"that": ["inputs.password == 'x'"]}), inputSchema=INPUTS),
            ("/steps/0/params/that/0", "secret_misplaced"),
        ),
        (
            document(step("navigate", {"url": "https://shop.example/?p={{inputs.password}}"}), inputSchema=INPUTS),
            ("/steps/0/params/url", "secret_misplaced"),
        ),
        (
            document(step("fill", {"target": BUTTON, "value": "x{{inputs.password}}"}), inputSchema=INPUTS),
            ("/steps/0/params/value", "secret_misplaced"),
        ),
        (document(step("finish", {}), inputSchema={"type": "nonsense"}), ("/inputSchema", "invalid_schema")),
        (
            document(step("finish", {}), outputSchema={"$ref": "file:///etc/passwd"}),
            ("/outputSchema", "invalid_schema"),
        ),
        (document(step("click", {"target": BUTTON}, effect="read")), ("/steps/0/effect", "effect_lowered")),
        (
            document(step("click", {"target": {"locators": [{"css": "a", "text": "b"}]}})),
            ("/steps/0/params/target/locators/0", "validation_failed"),
        ),
        (document(step("wait_for", {})), ("/steps/0/params", "validation_failed")),
        (document(step("click", {"target": BUTTON, "check": {}})), ("/steps/0/params/check", "validation_failed")),
        (
            document(step("download", {"target": BUTTON, "url": "https://shop.example/x"})),
            ("/steps/0/params", "validation_failed"),
        ),
        (document(step("finish", {}), metadata={"x": "y" * 600_000}), ("", "document_too_large")),
        (document(), ("/steps", "validation_failed")),
        (document(step("finish", {}), extra=1), ("", "validation_failed")),
    ],
)
def test_a_fault_is_told_with_its_place_and_code(raw: object, expected: tuple[str, str]) -> None:
    assert expected in faults(raw)


def test_all_faults_are_told_at_once() -> None:
    raw = document(step("agent", {}), step("navigate", {}, id="b"), step("press", {"keys": ""}, id="c"))
    assert [path for path, _ in faults(raw)] == ["/steps/0/type", "/steps/1/params", "/steps/2/params/keys"]


def test_steps_nested_too_deep_are_refused() -> None:
    inner = step("finish", {})
    for depth in range(12):
        inner = step("if", {"condition": "true", "then": [inner]}, id=f"d{depth}")
    assert [code for _, code in faults(document(inner))] == ["validation_failed"]


def test_an_effect_may_be_lowered_together_with_a_check_and_raised_at_will() -> None:
    lowered = step("click", {"target": BUTTON, "check": {"text": "saved"}}, effect="idempotent")
    raised = step("navigate", {"url": "https://shop.example"}, id="b", effect="once")
    assert faults(document(lowered, raised)) == []


def test_only_a_login_has_a_session_check() -> None:
    raw = document(step("finish", {}), sessionCheck=[step("assert", {"that": ["true"]}, id="s")])
    assert faults(raw, workflow_type=WorkflowType.USER_DEFINED) == [("/sessionCheck", "not_allowed_here")]
    assert faults(raw, workflow_type=WorkflowType.LOGIN) == []


def test_a_private_host_that_the_installation_opens_is_allowed() -> None:
    raw = document(step("navigate", {"url": "http://127.0.0.1:8080/"}))
    assert faults(raw, open_hosts={"127.0.0.1"}) == []


def test_a_one_time_answer_may_only_be_typed() -> None:
    ask = step("ask_user", {"fields": [{"name": "code", "secret": True}]}, id="ask")
    typed = step("fill", {"target": BUTTON, "value": "{{steps.ask.code}}"}, id="b")
    told = step("finish", {"message": "{{steps.ask.code}}"}, id="c")
    assert faults(document(ask, typed)) == []
    assert faults(document(ask, told)) == [("/steps/1/params/message", "secret_misplaced")]


TOKEN = {"locators": [{"placeholder": "Token"}]}
SEEDED = {"type": "object", "properties": {"seed": {"type": "string", "secret": True}, "user": {"type": "string"}}}


def filled(value: str) -> dict[str, Any]:
    return document(step("fill", {"target": TOKEN, "value": value}), inputSchema=SEEDED)


def test_a_code_of_the_moment_is_made_of_a_secret_input_and_stands_alone() -> None:
    assert faults(filled("{{inputs.seed | totp}}")) == []
    assert faults(filled("{{ inputs.seed|totp }}")) == []
    assert faults(filled("{{inputs.user | totp}}")) == [("/steps/0/params/value", "secret_misplaced")]
    for beside in ("code {{inputs.seed | totp}}", "{{inputs.seed | totp | upcase}}", "{{inputs.seed | upcase | totp}}"):
        assert ("/steps/0/params/value", "invalid_template") in faults(filled(beside))
    told = step("finish", {"message": "{{inputs.seed | totp}}"})
    assert faults(document(told, inputSchema=SEEDED)) == [("/steps/0/params/message", "secret_misplaced")]


def test_a_code_of_the_moment_has_no_text() -> None:
    scope = {"inputs": {"seed": {"$secret": "ref"}, "user": "ann"}}
    assert render_value("{{inputs.seed | totp}}", scope) == SecretValue("ref", totp=True)
    assert render_value("{{inputs.seed}}", scope) == SecretValue("ref")
    for template in ("{{inputs.user | totp}}", "{{inputs.none | totp}}"):
        with pytest.raises(TemplateError):
            render_value(template, scope)
        with pytest.raises(TemplateError):
            render_text(template, scope)


def test_a_document_of_constants_needs_no_page() -> None:
    raw = msgspec.json.encode(document(step("assert", {"that": ["1 < 2"]})))
    assert not needs_page(parse_document(raw))


@pytest.mark.parametrize(
    ("raw", "effect"),
    [
        (step("click", {"target": BUTTON}), Effect.ONCE),
        (step("click", {"target": {"locators": [{"role": "link", "name": "x"}]}}), Effect.READ),
        (step("click", {"target": {"locators": [{"role": "tab", "name": "x"}]}}), Effect.IDEMPOTENT),
        (step("press", {"keys": "Enter"}), Effect.ONCE),
        (step("press", {"keys": "Tab"}), Effect.IDEMPOTENT),
        (step("fill", {"target": BUTTON, "value": ""}), Effect.IDEMPOTENT),
        (step("if", {"condition": "true", "then": [step("click", {"target": BUTTON}, id="b")]}), Effect.ONCE),
        (step("navigate", {"url": "https://shop.example"}), Effect.READ),
    ],
)
def test_each_kind_has_its_default_effect(raw: dict[str, Any], effect: Effect) -> None:
    parsed = parse_document(msgspec.json.encode(document(raw)))
    assert effect_of(parsed.steps[0]) is effect
