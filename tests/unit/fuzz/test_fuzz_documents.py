"""Step documents out of order: whatever is sent, the check answers with faults that name their spot, and never breaks.

Documents are made by damaging good ones: a member is dropped, exchanged, doubled or nested, wherever chance finds one.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from browser_runner.prepared import prepare
from kernel.domain.plan import WorkflowType
from kernel.errors import Detail
from kernel.steps.check import check_document
from kernel.steps.document import KINDS, parse_document, steps_json_schema

ROOT = Path(__file__).resolve().parents[3]
Json = Any


def _good() -> list[tuple[Json, WorkflowType]]:
    """Documents that are shipped: with the demo shop, and as examples."""
    shop = files("demo_shop").joinpath("workflows")
    found = [
        (json.loads(shop.joinpath("login.json").read_text()), WorkflowType.LOGIN),
        (json.loads(shop.joinpath("collect_orders.json").read_text()), WorkflowType.USER_DEFINED),
    ]
    for path in sorted((ROOT / "examples").rglob("*.json")):
        whole = json.loads(path.read_text())
        if "stepsJson" in whole:  # Examples of subscribers have lists of packages.
            found.append((whole["stepsJson"], WorkflowType(whole["type"])))
    return found


def checked(document: Json, type_: WorkflowType) -> list[Detail]:
    """The faults of a document where loopback may be reached."""
    return check_document(document, workflow_type=type_, open_hosts=frozenset({"127.0.0.1"}))


GOOD = _good()
_SCHEMA = jsonschema_rs.validator_for(steps_json_schema())

_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["{{", "{{ inputs.", "{{steps.x.y}}", "{% x %}", "1 +", "once", *KINDS, "\x00", "/", "~", "*", ""]
    )
)
anything = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Json) -> list[tuple[Json, Any]]:
    """Every (container, key) inside `value`."""
    if isinstance(value, dict):
        own: list[tuple[Json, Any]] = [(value, key) for key in value]
        return own + [place for inner in value.values() for place in _places(inner)]
    if isinstance(value, list):
        own = [(value, index) for index in range(len(value))]
        return own + [place for inner in value for place in _places(inner)]
    return []


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Json, WorkflowType]:
    """A good document with one to four places changed."""
    good, type_ = draw(st.sampled_from(GOOD))
    document = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(1, 4))):
        places = _places(document)
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["drop", "exchange", "wrap", "double", "add"])):
            case "drop":
                del container[key]
            case "exchange":
                container[key] = draw(anything)
            case "wrap":
                container[key] = [container[key]]
            case "double" if isinstance(container, list):
                container.append(json.loads(json.dumps(container[key])))
            case _ if isinstance(container, dict):
                container[draw(st.sampled_from([*container, "extra"]))] = draw(anything)
            case _:
                container.append(draw(anything))
    return document, type_


def _resolves(document: Json, pointer: str) -> bool:
    """Whether a JSON Pointer leads to a value of `document`, or to a member that its parent lacks."""
    value, parts = document, [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for depth, part in enumerate(parts):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return depth == len(parts) - 1
    return True


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
@example(({"version": 1, "steps": []}, WorkflowType.USER_DEFINED))
@example(([], WorkflowType.LOGIN))
def test_a_damaged_document_is_answered_with_faults_that_name_their_spot(given_: tuple[Json, WorkflowType]) -> None:
    document, type_ = given_
    faults = checked(document, type_)
    for fault in faults:
        assert fault.code, fault
        assert fault.message, fault
        assert _resolves(document, fault.path), fault
    if not faults:
        # What may be saved can be read by a runner, and by an editor that knows the schema.
        prepare(json.dumps(document))
        assert checked(json.loads(json.dumps(document)), type_) == []
        assert _SCHEMA.is_valid(document)


@given(anything)
def test_what_is_no_document_at_all_is_refused(document: Json) -> None:
    assert checked(document, WorkflowType.USER_DEFINED)


def test_the_documents_that_are_damaged_here_are_good() -> None:
    for document, type_ in GOOD:
        assert checked(document, type_) == []
        assert parse_document(json.dumps(document)).steps
