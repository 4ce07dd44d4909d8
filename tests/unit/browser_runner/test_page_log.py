"""The ring of what pages said: bounded, in order, and without values that nobody should read."""

from __future__ import annotations

import msgspec
import pytest

from browser_runner.page_log import PageLog, answered, console, failed, plain_address, plain_text
from kernel.redaction import LiveSecrets


def lines(log: PageLog, *secrets: LiveSecrets) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in log.lines(secrets).splitlines()]


def test_each_line_says_when_what_kind_how_grave_and_what() -> None:
    log = PageLog()
    log.add(5, console("log", "ready", "https://shop.example/a?b=c", 7))
    log.add(6, answered("GET", "https://shop.example/x?id=4", 503, "xhr", 12.4))
    log.add(7, failed("POST", "https://shop.example/y", "fetch", "net::ERR_ABORTED"))
    assert lines(log) == [
        {"ms": 5, "kind": "console", "level": "info", "message": "ready",
         "data": {"url": "https://shop.example/a?b=…", "line": 7}},
        {"ms": 6, "kind": "network", "level": "error", "message": "GET https://shop.example/x?id=… 503",
         "data": {"method": "GET", "url": "https://shop.example/x?id=…", "status": 503, "type": "xhr", "waitedMs": 12}},
        {"ms": 7, "kind": "network", "level": "error",
         "message": "POST https://shop.example/y failed: net::ERR_ABORTED",
         "data": {"method": "POST", "url": "https://shop.example/y", "type": "fetch", "failure": "net::ERR_ABORTED"}},
    ]  # fmt: skip


@pytest.mark.parametrize(("entries", "size"), [(10, 10**6), (10**6, 10 * 200)])
def test_the_oldest_entries_go_and_their_number_is_told(entries: int, size: int) -> None:
    log = PageLog(entries, size)
    for number in range(100):
        log.add(number, console("error", f"{number:0>90}", "", 0))
    told = lines(log)
    assert len(told) == 11
    assert told[0]["message"] == "90 earlier entries are left out"
    assert [line["ms"] for line in told[1:]] == list(range(90, 100))


def test_an_empty_ring_has_no_lines() -> None:
    assert PageLog().is_empty
    assert PageLog().lines(()) == b""


def test_what_is_secret_when_the_ring_is_read_is_taken_out() -> None:
    log, live = PageLog(), LiveSecrets()
    log.add(1, console("log", "it is hunter2222 or aHVudGVyMjIyMg==", "https://x.example/hunter2222", 0))
    live.add("hunter2222")
    told = log.lines((live,))
    assert b"hunter2222" not in told
    assert b"aHVudGVyMjIyMg" not in told


def test_a_secret_that_is_cut_off_with_a_long_text_is_taken_out_as_far_as_it_is_there() -> None:
    log, live = PageLog(), LiveSecrets()
    live.add("hunter2222")
    address = f"https://x.example/{'p' * 975}/hunter2222"
    log.add(1, console("log", "y" * 995 + "hunter2222 is it", address, 0))
    log.add(2, answered("GET", address, 200, "xhr", 1.0))
    assert b"hunt" not in log.lines((live,))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:pw@shop.example:8/a/b?x=1&y=&z#part", "https://shop.example:8/a/b?x=…&y=…&z=…"),
        ("wss://shop.example/live?token=1", "wss://shop.example/live?token=…"),
        ("data:text/html,secret", "data:"),
        ("blob:https://x/1", "blob:"),
        ("http://[broken", ""),
        ("", ""),
    ],
)
def test_an_address_is_told_with_the_names_of_its_query_only(url: str, told: str) -> None:
    assert plain_address(url) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("password=abc123 next", "password=[redacted] next"),
        ('{"accessToken": "abc", "n": 1}', '{"accessToken": "[redacted]", "n": 1}'),
        ("Authorization: Bearer abcdef", "Authorization: [redacted]"),
        ("sent Bearer abc.def-ghi", "sent Bearer [redacted]"),
        ("tokens used: 5", "tokens used: 5"),
        ("failed: https://x.example/a?t=1 twice", "failed: https://x.example/a?t=… twice"),
        ("x" * 2000, "x" * 1000 + "…"),
    ],
)
def test_a_message_loses_what_stands_behind_the_name_of_a_secret(text: str, told: str) -> None:
    assert plain_text(text) == told
