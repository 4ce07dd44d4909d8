"""Records that were once written are read for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.log.codec import decode_value
from kernel.log.topics import TYPES
from tests.support.frozen import FROZEN, assert_tells, told

FILES = sorted(FROZEN.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_frozen_bytes_tell_what_they_told(path: Path) -> None:
    frozen = json.loads(path.read_text())
    event = decode_value(path.stem, bytes.fromhex(frozen["hex"]))
    assert_tells(told(event), frozen["event"], path.stem)


def test_every_type_has_frozen_bytes() -> None:
    missing = {row.wire for row in TYPES.values()} - {path.stem for path in FILES}
    assert not missing, f"run `python -m tests.support.frozen` and commit: {sorted(missing)}"
