"""What is packed by hand is to the byte what the library makes of the same schema."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from kernel.log.kafka.wire import Batches, FetchRequest, ProduceRequest, Wanted

ONE, OTHER = UUID(int=7), UUID(int=2**128 - 1)
MOST = 2**31 - 1
LENGTHS = (0, 1, 126, 127, 128, 16_382, 16_383, 1_048_576)
"""Some of them take more bytes to tell than others."""

TAGS = {1: b"\x03one", 200: b"\xc8\x01" + b"x" * 200}
"""Each begins with its own length, which the library leaves out when it writes them, and reads."""


@pytest.mark.parametrize(
    "batches",
    [
        {},
        {("job_runs", ONE): []},
        {("job_runs", ONE): [(3, b"one"), (MOST, b"")], ("dispatch", OTHER): [(0, b"another")]},
        *({("job_runs", ONE): [(0, b"x" * length)]} for length in LENGTHS),
        {("job_runs", ONE): [(number, b"x") for number in range(200)]},
    ],
)
def test_a_request_to_append(batches: Batches) -> None:
    made = struct_of(ProduceRequest(batches, 24_000))
    assert made.encode() == by_schema(made)


@pytest.mark.parametrize("wanted", [{}, {ONE: [(3, 2**63 - 1, 1), (MOST, 0, MOST)], OTHER: [(0, 7, 1_048_576)]}])
@pytest.mark.parametrize("forgotten", [{}, {ONE: [], OTHER: [0, MOST]}, {ONE: list(range(130))}])
@pytest.mark.parametrize("session", [(0, -1), (0, 0), (MOST, MOST)])
def test_a_request_to_read(
    wanted: dict[UUID, list[Wanted]], forgotten: dict[UUID, list[int]], session: tuple[int, int]
) -> None:
    made = struct_of(FetchRequest(wanted, max_bytes=8_388_608, wait_ms=1000, session=session, forgotten=forgotten))
    assert made.encode() == by_schema(made)


@pytest.mark.parametrize("words", [None, "", "x" * 200])
@pytest.mark.parametrize("tags", [{}, TAGS])
def test_the_answer_to_an_append(words: str | None, tags: dict[int, bytes]) -> None:
    wrong = [(index, words, tags) for index in range(3)]
    topics = [
        (ONE, [(3, 0, 2**63 - 1, -1, 0, [], words, tags), (MOST, 56, -1, -1, -1, wrong, words, {})], tags),
        (OTHER, [(0, -1, 5, 7, 9, wrong, None, tags)], {}),
    ]
    answer_class = struct_of(ProduceRequest({}, 1)).RESPONSE_TYPE
    read = answer_class.decode(answer_class(topics, 5, tags).encode())
    assert read.topics == [(ONE, [(3, 0, 2**63 - 1), (MOST, 56, -1)]), (OTHER, [(0, -1, 5)])]


def struct_of(request: Any) -> Any:
    """The request in the newest version that we know."""
    return request.prepare({request.API_KEY: (0, 13)})


def by_schema(made: Any) -> bytes:
    encoded: bytes = made.SCHEMA.encode([getattr(made, name) for name in made.SCHEMA.names])
    return encoded
