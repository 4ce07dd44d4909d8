from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.support.told_lines import Told, telling


@pytest.fixture
def told() -> Iterator[Told]:
    with telling() as told:
        yield told


def test_our_own_lines_and_those_of_libraries_have_one_shape(told: Told) -> None:
    structlog.get_logger("ours").warning("something.happened", number=7)
    logging.getLogger("theirs").warning("it is %s", "so")
    own, theirs = told.lines()
    assert (own["event"], own["number"], own["level"], own["service"]) == (
        "something.happened",
        7,
        "warning",
        "a-service",
    )
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("it is so", "theirs", "warning")
    assert own.keys() - {"number"} == theirs.keys() - {"logger"}


def test_what_is_secret_stands_in_neither_and_an_error_in_one_line(told: Told) -> None:
    told.live.add("a-live-secret")
    error = ValueError("about a-live-secret")
    structlog.get_logger("ours").error("broken", password="x", exc_info=error)
    logging.getLogger("theirs").error("broken by a-live-secret", exc_info=error)
    assert "a-live-secret" not in told.stream.getvalue()
    own, theirs = told.lines()
    assert own["password"] == "[redacted]"
    assert "ValueError" in own["exception"]
    assert "ValueError" in theirs["exception"]


def test_what_is_quiet_is_not_told(told: Told) -> None:
    structlog.get_logger("ours").debug("quiet")
    logging.getLogger("theirs").debug("quiet")
    assert told.lines() == []
