from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kernel.redaction import LiveSecrets
from kernel.telling import start_logging


@pytest.fixture
def said() -> Iterator[tuple[io.StringIO, LiveSecrets]]:
    """Where a service tells, and its live secrets; what was configured before stands again afterwards."""
    root, before, raises = logging.getLogger(), structlog.get_config(), logging.raiseExceptions
    handlers, level, kafka = list(root.handlers), root.level, logging.getLogger("aiokafka").level
    stream, live = io.StringIO(), LiveSecrets()
    start_logging(logging.StreamHandler(stream), live, service="a-service")
    yield stream, live
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)
    logging.getLogger("aiokafka").setLevel(kafka)
    structlog.configure(**before)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_own_lines_and_those_of_libraries_have_one_shape(said: tuple[io.StringIO, LiveSecrets]) -> None:
    structlog.get_logger("ours").warning("something.happened", number=7)
    logging.getLogger("theirs").warning("it is %s", "so")
    own, theirs = lines(said[0])
    assert (own["event"], own["number"], own["level"], own["service"]) == (
        "something.happened",
        7,
        "warning",
        "a-service",
    )
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("it is so", "theirs", "warning")
    assert own.keys() - {"number"} == theirs.keys() - {"logger"}


def test_what_is_secret_stands_in_neither_and_an_error_in_one_line(said: tuple[io.StringIO, LiveSecrets]) -> None:
    stream, live = said
    live.add("a-live-secret")
    error = ValueError("about a-live-secret")
    structlog.get_logger("ours").error("broken", password="x", exc_info=error)
    logging.getLogger("theirs").error("broken by a-live-secret", exc_info=error)
    assert "a-live-secret" not in stream.getvalue()
    own, theirs = lines(stream)
    assert own["password"] == "[redacted]"
    assert "ValueError" in own["exception"]
    assert "ValueError" in theirs["exception"]


def test_what_is_quiet_is_not_told(said: tuple[io.StringIO, LiveSecrets]) -> None:
    structlog.get_logger("ours").debug("quiet")
    logging.getLogger("theirs").debug("quiet")
    assert lines(said[0]) == []
