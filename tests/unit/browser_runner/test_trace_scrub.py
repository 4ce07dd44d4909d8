"""A trace is written anew without what was sent, who asked, and what was typed."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import msgspec

from browser_runner.trace_scrub import ENTRY_BYTES_MAX, Filter, scrub_trace
from kernel.redaction import LiveSecrets

SECRET = "hunter2222"


def packed(entries: dict[str, bytes | list[Any]]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            lines = content if isinstance(content, bytes) else b"\n".join(map(msgspec.json.encode, content))
            archive.writestr(name, lines)
    return target.getvalue()


def scrubbed(entries: dict[str, bytes | list[Any]], *, login: bool = False, short: str = "") -> dict[str, bytes]:
    live = LiveSecrets()
    live.add(SECRET)
    safe = scrub_trace(packed(entries), Filter((live,), frozenset({short} - {""}), login=login))
    with zipfile.ZipFile(io.BytesIO(safe)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def line(entries: dict[str, bytes], name: str) -> Any:
    return msgspec.json.decode(entries[name])


def test_live_values_go_from_actions_snapshots_and_bodies() -> None:
    found = scrubbed({
        "trace.trace": [{"params": {"value": SECRET, "text": f"x{SECRET}"}, "log": f'fill("{SECRET}")'}],
        "resources/a.html": f"<input value='{SECRET}'>".encode(),
        "resources/b.json": msgspec.json.encode({"told": SECRET, "password": "other", "n": 1}),
    })  # fmt: skip
    assert SECRET.encode() not in b"".join(found.values())
    assert msgspec.json.decode(found["resources/b.json"]) == {"told": "[redacted]", "password": "[redacted]", "n": 1}


def test_what_was_sent_and_who_asked_is_left_out() -> None:
    request = {
        "url": "https://x.example/a?t=1",
        "cookies": [{"name": "s", "value": "v"}],
        "headers": [{"name": "Cookie", "value": "s=v"}, {"name": "X-CSRF-Token", "value": "c"},
                    {"name": "Accept", "value": "*/*"}],
        "postData": {"text": "user=x", "_file": "resources/p.dat"},
    }  # fmt: skip
    found = scrubbed({"trace.network": [{"request": request}], "resources/p.dat": b"user=x"})
    assert line(found, "trace.network")["request"] == {
        "url": "https://x.example/a?t=1",
        "cookies": [],
        "headers": [{"name": "Cookie", "value": "[redacted]"}, {"name": "X-CSRF-Token", "value": "[redacted]"},
                    {"name": "Accept", "value": "*/*"}],
    }  # fmt: skip
    assert list(found) == ["trace.network"]


def test_a_password_field_and_a_short_secret_are_hidden_whatever_they_hold() -> None:
    node = ["INPUT", {"type": "password", "__playwright_value_": "abc", "name": "p"}, ["SPAN", {}, "12"]]
    found = line(scrubbed({"trace.trace": [{"html": node, "other": "12", "more": "123"}]}, short="12"), "trace.trace")
    hidden = {"type": "password", "__playwright_value_": "[redacted]", "name": "p"}
    assert found == {"html": ["INPUT", hidden, ["SPAN", {}, "[redacted]"]], "other": "[redacted]", "more": "123"}


def test_what_a_log_shows_of_an_element_in_short_is_left_out() -> None:
    shown = f'resolved to <span title="<{SECRET[:6]}>">{{"value":"{SECRET[:6]}…</span>'
    found = line(scrubbed({"trace.trace": [{"message": shown, "text": "more …"}]}), "trace.trace")
    assert found == {"message": "resolved to <…</span>", "text": "more …"}


def test_after_a_login_addresses_lose_their_values_and_answers_of_scripts_go() -> None:
    entries: dict[str, bytes | list[Any]] = {
        "trace.network": [{"url": "https://x.example/a?code=1", "content": {"_file": "resources/t.json", "size": 2}}],
        "resources/t.json": b"{}",
    }
    found = scrubbed(entries, login=True)
    assert line(found, "trace.network") == {"url": "https://x.example/a?code=…", "content": {"size": 2}}
    assert "resources/t.json" not in found
    assert "resources/t.json" in scrubbed(entries)


def test_a_picture_is_kept_as_it_is_or_not_at_all_and_other_files_never() -> None:
    found = scrubbed({
        "resources/a.png": b"\x89PNG fine",
        "resources/b.png": b"\x89PNG" + SECRET.encode(),
        "resources/c.pdf": b"%PDF",
        "trace.stacks": b"{}",
        "resources/d.css": b"x" * (ENTRY_BYTES_MAX + 1),
    })  # fmt: skip
    assert found == {"resources/a.png": b"\x89PNG fine"}


def test_what_is_no_trace_gives_nothing() -> None:
    deep = b'{"html":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    empty = Filter((), frozenset(), login=False)
    assert scrub_trace(b"no zip", empty) == b""
    assert scrub_trace(packed({"trace.trace": b"{"}), empty) == b""
    assert scrub_trace(packed({"trace.trace": deep}), empty) == b""
