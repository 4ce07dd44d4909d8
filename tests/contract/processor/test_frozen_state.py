"""State that a former build left in a snapshot is read for ever, and tells what it told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.processor.values import StateValues
from tests.support.frozen import DECIDERS, FROZEN_STATE, assert_tells, told

FILES = sorted(FROZEN_STATE.glob("*.json"))
VALUES = {decider.name: StateValues(decider.value_types) for decider in DECIDERS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_frozen_value_is_read_into_todays_shape(path: Path) -> None:
    decider, kind, shape = path.stem.split(".")
    frozen = json.loads(path.read_text())
    value = VALUES[decider].read(kind, bytes.fromhex(frozen["hex"]), int(shape))
    assert type(value).__name__ == kind
    if int(shape) == getattr(type(value), "SHAPE", 0):
        assert_tells(told(value), frozen["value"], path.stem)


def test_every_class_of_state_has_a_frozen_value_of_the_shape_that_is_written() -> None:
    wanted = {
        f"{decider.name}.{cls.__name__}.{getattr(cls, 'WRITES', getattr(cls, 'SHAPE', 0))}"
        for decider in DECIDERS
        for cls in decider.value_types
    }
    missing = wanted - {path.stem for path in FILES}
    assert not missing, f"run `python -m tests.support.frozen` and commit: {sorted(missing)}"
