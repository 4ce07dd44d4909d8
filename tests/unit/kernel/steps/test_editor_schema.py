"""What an editor is told about `stepsJson`: all of it, and nothing that the server would not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.steps.check import check_document
from kernel.steps.document import KINDS
from kernel.steps.editor_schema import TEXTS, editor_schema
from kernel.steps.schemas import compile_schema

ROOT = Path(__file__).resolve().parents[4]
SCHEMA = editor_schema()
DEFINITIONS: dict[str, Any] = SCHEMA["$defs"]
VALIDATOR = compile_schema(SCHEMA)
FENCE = "```json\n"
OPEN = {"id": "open", "type": "navigate", "params": {"url": "https://shop.example/"}}


def document(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"version": 1, "steps": [*steps], **more}


def written() -> dict[str, Any]:
    """Every whole document in the manual, the examples and the demo, by where it stands."""
    found: dict[str, Any] = {}
    for path in sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.json"), *ROOT.glob("deploy/**/*.json")]):
        text = path.read_text()
        parts = text.split(FENCE)[1:] if path.suffix == ".md" else [text]
        for number, part in enumerate(parts):
            try:
                value = json.loads(part.split("```")[0])
            except json.JSONDecodeError:
                continue
            value = value.get("stepsJson", value) if isinstance(value, dict) else value
            if isinstance(value, dict) and {"version", "steps"} <= value.keys():
                found[f"{path.relative_to(ROOT)}#{number}"] = value
    return found


WRITTEN = written()


@pytest.mark.parametrize("where", WRITTEN)
def test_every_document_that_people_read_is_valid(where: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(WRITTEN[where])] == []


def test_there_are_documents_that_people_read() -> None:
    assert len(WRITTEN) >= 3


def test_every_definition_and_every_member_is_explained() -> None:
    without = [name for name, its in DEFINITIONS.items() if not its.get("description")]
    for name, its in DEFINITIONS.items():
        without += [f"{name}.{member}" for member, at in its.get("properties", {}).items() if not at.get("description")]
    assert without == []


def test_no_text_is_about_something_that_is_gone() -> None:
    members = {f"{name}.{member}" for name, its in DEFINITIONS.items() for member in its.get("properties", {})}
    members |= {member.partition(".")[2] for member in members}
    assert TEXTS.keys() - members == set()


def test_every_kind_of_step_can_be_written() -> None:
    kinds = {its["properties"]["type"]["enum"][0] for name, its in DEFINITIONS.items() if name.endswith("Step")}
    assert kinds == KINDS.keys()


@pytest.mark.parametrize(
    "rejected",
    [
        [],
        {"version": 1},
        document(),
        document(OPEN, unheard=1),
        {**document(OPEN), "version": 2},
        document({**OPEN, "type": "agent"}),
        document({**OPEN, "id": "1st"}),
        document({**OPEN, "params": {}}),
        document({**OPEN, "params": {"url": 1}}),
        document({**OPEN, "params": {"url": "https://shop.example/", "unheard": 1}}),
        document({**OPEN, "timeoutMs": 0}),
        document({**OPEN, "retry": {"maxAttempts": 11}}),
        document({**OPEN, "effect": "twice"}),
        document({"id": "c", "type": "click", "params": {"target": {"locators": []}}}),
        document({"id": "e", "type": "for_each", "params": {"items": "inputs.x", "body": []}}),
        document({"id": "i", "type": "if", "params": {"condition": "true", "then": [{**OPEN, "type": "code"}]}}),
    ],
)
def test_what_breaks_the_form_is_refused_by_schema_and_server(rejected: Any) -> None:
    assert list(VALIDATOR.iter_errors(rejected))
    assert check_document(rejected)


@pytest.mark.parametrize(
    "rejected",
    [
        document(OPEN, OPEN),
        document({**OPEN, "params": {"url": "http://10.0.0.1/"}}),
        document({**OPEN, "params": {"url": "https://shop.example/{{inputs.unheard}}"}}),
        document({**OPEN, "when": "inputs."}),
        document(OPEN, inputSchema={"type": "what"}),
    ],
    ids=["an id twice", "a private host", "an unknown name", "a broken expression", "a broken schema"],
)
def test_what_only_the_server_sees_is_refused_when_it_is_saved(rejected: Any) -> None:
    assert not list(VALIDATOR.iter_errors(rejected))
    assert check_document(rejected)
