"""How far a locator is trusted, and which ones may not choose what is acted on."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.steps.check import check_document
from kernel.steps.locating import generated_part, looks_generated, rank_of
from kernel.steps.targets import Locator


@pytest.mark.parametrize(
    ("locator", "rank"),
    [
        (Locator(test_id="save"), 1),
        (Locator(role="button", name="Save"), 2),
        (Locator(label="Name"), 3),
        (Locator(placeholder="Name"), 3),
        (Locator(alt="Logo"), 3),
        (Locator(title="Print"), 3),
        (Locator(text="Save"), 4),
        (Locator(css="input[name=quantity]"), 5),
        (Locator(css="#save"), 5),
        (Locator(css="[data-kind='a,b']"), 5),
        (Locator(css="form[action='/x'] input[name=q]"), 5),
        (Locator(css="button"), 6),
        (Locator(css=".primary"), 6),
        (Locator(css="form button"), 6),
        (Locator(css="[name=a], div > b"), 6),
        (Locator(css="tr:nth-child(2) [name=a]"), 6),
    ],
)
def test_test_ids_come_first_and_structure_last(locator: Locator, rank: int) -> None:
    assert rank_of(locator) == rank


@pytest.mark.parametrize(
    "name",
    [
        *("ember123", "css-1q2w3e", "a3f9c1d2", "item-123456", "Button_root__3kX9a", ":r1:", "mat-input-3", "mui-12"),
        *("radix-:r1:", "data-v-7ba5bd90", "j_idt45", "ext-gen1024", "sc-bdVaJa", "9f86d081-884c"),
    ],
)
def test_hashes_counters_and_prefixes_of_frameworks_look_generated(name: str) -> None:
    assert looks_generated(name)


@pytest.mark.parametrize(
    "name",
    [
        *("save", "order-form", "row-2024", "deadline", "facade", "id_email", "id_items-0-price", "btn__primary"),
        *("block__element1", "{{inputs.number}}", "line-{{steps.read.rows[0].order}}"),
    ],
)
def test_names_that_people_gave_do_not_look_generated(name: str) -> None:
    assert not looks_generated(name)


def test_an_address_may_hold_any_number() -> None:
    assert generated_part(Locator(css="a[href='/orders/20391']")) == ""
    assert generated_part(Locator(css="#ember12 a[href='/orders/20391']")) == "ember12"


def faults(kind: str, target: dict[str, Any], **params: Any) -> list[tuple[str, str]]:
    step = {"id": "a", "type": kind, "params": {"target": target, **params}}
    return [(detail.path, detail.code) for detail in check_document({"version": 1, "steps": [step]})]


ROW = {"role": "row", "hasText": "lamp"}


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ({"locators": [{"text": "Next"}]}, "locator_too_wide"),
        ({"locators": [{"css": "form > button"}]}, "locator_too_wide"),
        ({"locators": [{"css": "td > button"}], "within": {"css": "table"}}, "locator_too_wide"),
        ({"locators": [{"css": "#ember12"}]}, "locator_unstable"),
        ({"locators": [{"testId": "row-8f14e45f"}]}, "locator_unstable"),
        ({"locators": [{"text": "Next"}], "within": ROW}, ""),
        ({"locators": [{"css": "td > button"}], "within": ROW}, ""),
        ({"locators": [{"css": "[name=next]"}, {"alt": "Next"}], "identity": {"container": "form"}}, ""),
    ],
)
def test_what_is_acted_on_is_found_by_something_that_lasts(target: dict[str, Any], code: str) -> None:
    expected = [("/steps/0/params/target/locators/0", code)] if code else []
    assert faults("click", target) == expected


def test_the_container_of_an_act_lasts_too() -> None:
    target = {"locators": [{"text": "Next"}], "within": {"css": "#ember12"}}
    assert faults("click", target) == [("/steps/0/params/target/within", "locator_unstable")]


def test_what_only_looks_may_be_as_wide_as_it_likes() -> None:
    wide = {"locators": [{"text": "Next"}, {"css": "div > p"}]}
    assert faults("wait_for", wide) == []
    assert faults("click", {"locators": [{"role": "button"}]}, expect={"appears": wide}) == []


@pytest.mark.parametrize(
    ("step", "path"),
    [
        ({"type": "assert", "params": {"page": {"response": {"url": "*"}}}}, "/steps/0/params/page"),
        (
            {"type": "click", "params": {"target": {"locators": [{"role": "button"}]}, "check": {"download": {}}}},
            "/steps/0/params/check",
        ),
    ],
)
def test_only_what_acts_can_bring_about_an_answer_or_a_file(step: dict[str, Any], path: str) -> None:
    details = check_document({"version": 1, "steps": [{"id": "a", **step}]})
    assert [(detail.path, detail.code) for detail in details] == [(path, "validation_failed")]


def test_answers_and_files_may_be_expected_and_waited_for() -> None:
    response = {"url": "*/api/orders*", "status": 201, "method": "POST"}
    assert faults("click", {"locators": [{"role": "button"}]}, expect={"response": response, "download": {}}) == []
    waits = {"id": "a", "type": "wait_for", "params": {"response": {"url": "*/feed"}}}
    assert check_document({"version": 1, "steps": [waits], "testIdAttribute": "data-qa"}) == []
