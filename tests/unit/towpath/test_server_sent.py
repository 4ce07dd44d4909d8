"""Server-sent events are decoded as the standard asks, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from towpath.server_sent import Message, messages

STREAM = (
    b": comment\n\nid: 7\nevent: step\ndata: one\ndata: two\n\r\n"
    b"data:three\r\rretry: 1500\nevent: reconnect\n\ndata: cut"
)
EXPECTED = [
    Message("7", "step", "one\ntwo", None),
    Message("", "message", "three", None),
    Message("", "reconnect", "", 1.5),
]


def test_comments_and_an_unfinished_last_message_are_dropped() -> None:
    assert list(messages([STREAM])) == EXPECTED


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(edges)]
    assert list(messages(chunks)) == EXPECTED


def test_a_line_separator_inside_the_data_ends_no_line() -> None:
    assert [m.data for m in messages(["data: a\u2028b\u0085c\n\n".encode()])] == ["a\u2028b\u0085c"]


def test_a_last_line_that_ends_in_a_lone_carriage_return_counts() -> None:
    assert [m.data for m in messages([b"data: a\r", b"\r"])] == ["a"]


def test_a_retry_that_is_no_number_is_ignored() -> None:
    assert [m.retry_seconds for m in messages([b"retry: soon\ndata: x\n\n"])] == [None]
