"""Nothing that comes from outside moves a cursor or leaves a folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.text import printable, safe_file_name, size_text
from towpath.transport import _is_loopback


@given(st.text())
def test_printable_text_is_one_line_without_controls(text: str) -> None:
    assert printable(text).isprintable()


def test_printable_text_stays_as_it_is() -> None:
    assert printable("Zoë paid 3 € [bold]") == "Zoë paid 3 € [bold]"
    assert printable("a\x1b[2J\nb") == "a\ufffd[2J b"


@given(st.text())
def test_a_safe_file_name_is_neither_path_nor_hidden(text: str) -> None:
    name = safe_file_name(text)
    assert "/" not in name
    assert not name.startswith(".")


@pytest.mark.parametrize(
    ("given_name", "safe"), [("../../etc/passwd", "passwd"), ("C:\\x\\a.csv", "a.csv"), ("..", ""), (".env", "env")]
)
def test_file_names_lose_their_folder(given_name: str, safe: str) -> None:
    assert safe_file_name(given_name) == safe


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (1_234_567, "1.2 MB")]
)
def test_sizes_read_well(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("url", "own"), [("http://127.0.0.1:8700", True), ("http://localhost", True), ("https://towpath.example", False)]
)
def test_only_our_own_loopback_is_reached_without_a_proxy(url: str, own: bool) -> None:
    assert _is_loopback(url) is own
