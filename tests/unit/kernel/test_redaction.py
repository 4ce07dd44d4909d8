"""Redaction: no disguise of a known value passes, and ordinary text stays as it is."""

from __future__ import annotations

import base64
import json
import pickle
import urllib.parse
from collections.abc import Callable
from html import escape

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kernel.redaction import LiveSecrets, Redactor, is_secret_name
from kernel.store.secret import HIDDEN, Secret

VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=30)
NOISE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def live(*values: str | bytes) -> LiveSecrets:
    known = LiveSecrets()
    for value in values:
        known.add(value)
    return known


def url_lower(value: str) -> str:
    quoted = urllib.parse.quote(value, safe="")
    return "".join(part.lower() if part.startswith("%") else part for part in _split_percent(quoted))


def _split_percent(quoted: str) -> list[str]:
    parts, at = [], 0
    while at < len(quoted):
        step = 3 if quoted[at] == "%" else 1
        parts.append(quoted[at : at + step])
        at += step
    return parts


def utf_16_units(value: str) -> list[int]:
    data = value.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


DISGUISES: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "url": urllib.parse.quote,
    "url strict": lambda value: urllib.parse.quote(value, safe=""),
    "url form": urllib.parse.quote_plus,
    "url lower case": url_lower,
    "json": lambda value: json.dumps(value)[1:-1],
    "json unicode": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "json upper case": lambda value: "".join(f"\\u{unit:04X}" for unit in utf_16_units(value)),
    "html": escape,
    "html numbers": lambda value: "".join(f"&#{ord(char)};" for char in value),
}


@pytest.mark.parametrize("value", ['say "hi" twice', "back\\slash", "line\nbreak", "tab\tand é"])
def test_json_inside_of_json_does_not_pass(value: str) -> None:
    dressed = value
    for _ in range(3):
        dressed = json.dumps({"value": dressed})
        assert HIDDEN in live(value).scrub_text(dressed)


@pytest.mark.parametrize("value", ["pässwort", "geheim é 12"])
def test_what_a_script_makes_of_a_text_in_latin_1_does_not_pass(value: str) -> None:
    narrow = value.encode("latin-1")
    assert narrow not in live(value).scrub_bytes(b"<p>" + narrow + b"</p>")
    for before in (b"", b"x", b"xy"):
        dressed = base64.b64encode(before + narrow + b"tail")
        assert HIDDEN.encode() in live(value).scrub_bytes(dressed)


@given(VALUES, NOISE, NOISE, st.sampled_from(sorted(DISGUISES)))
def test_no_disguise_passes(value: str, before: str, after: str, disguise: str) -> None:
    assume((value not in HIDDEN and disguise != "json upper case") or all(ord(char) < 0x10000 for char in value))
    worn = DISGUISES[disguise](value)
    scrubbed = live(value).scrub_text(before + worn + after)
    assume(worn not in before + HIDDEN + after)
    assert worn not in scrubbed
    assert HIDDEN in scrubbed


@given(st.binary(min_size=6, max_size=40), st.binary(max_size=10), st.binary(max_size=10), st.booleans())
def test_base64_at_any_alignment_does_not_pass(value: bytes, before: bytes, after: bytes, url_safe: bool) -> None:
    assume(len(value.decode(errors="replace")) >= 4)
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    scrubbed = live(value).scrub_bytes(encode(before + value + after))
    assert HIDDEN.encode() in scrubbed
    assert encode(before + value + after) not in scrubbed


@given(VALUES, st.sampled_from(["utf-16-le", "utf-16-be", "utf-16"]))
def test_utf_16_does_not_pass(value: str, encoding: str) -> None:
    data = ("<<" + value + ">>").encode(encoding)
    scrubbed = live(value).scrub_bytes(data)
    assert value.encode(encoding.removesuffix("-le").removesuffix("-be") + "-le") not in scrubbed
    assert HIDDEN.encode() in scrubbed


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_other_text_stays_as_it_is(text: str) -> None:
    assume("zq-93-secret-value" not in text)
    assert live("zq-93-secret-value").scrub_text(text) == text


def test_bytes_that_are_no_text_are_found_too() -> None:
    key = bytes([0xFF, 0xFE, 0x80, 0x81, 0x00, 0x01, 0x02, 0xC3])
    assert key not in live(key).scrub_bytes(b"before" + key + b"after")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("it is corr…", "it is [redacted]…"),
        ("it is correct hors…", "it is [redacted]…"),
        ("correct h…", "[redacted]…"),
        ("it is cor…", "it is cor…"),
        ("it is corr", "it is corr"),
        ("it is over…", "it is over…"),
    ],
)
def test_the_beginning_of_a_value_at_the_end_of_a_text_that_was_cut_off_goes(text: str, clean: str) -> None:
    live = LiveSecrets()
    live.add("correct horse")
    assert live.scrub_text(text) == clean
    assert live.scrub_json([text]) == [clean]


def test_the_longest_value_goes_first() -> None:
    assert live("secret", "secret-and-more").scrub_text("secret-and-more secret") == f"{HIDDEN} {HIDDEN}"


def test_a_short_value_is_not_searched_for() -> None:
    assert live("", "abc").scrub_text("abc and abcd") == "abc and abcd"


def test_a_value_is_known_until_as_many_took_it_back() -> None:
    known = LiveSecrets()
    with known.known(["hunter2!"]):
        with known.known(["hunter2!", Secret(b"other one")]):
            assert known.scrub_text("hunter2! other one") == f"{HIDDEN} {HIDDEN}"
        assert known.scrub_text("hunter2! other one") == f"{HIDDEN} other one"
    assert known.scrub_text("hunter2!") == "hunter2!"
    known.forget("never added")


def test_json_is_scrubbed_in_values_names_and_numbers() -> None:
    value = {"a": ["x hunter2! y", 482913, 482914, None, True, 1.5], "hunter2!": {"b": b"hunter2!"}}
    assert live("hunter2!", "482913").scrub_json(value) == {
        "a": [f"x {HIDDEN} y", HIDDEN, 482914, None, True, 1.5],
        HIDDEN: {"b": HIDDEN.encode()},
    }


def test_data_loses_known_values_and_keeps_what_stands_under_a_secret_name() -> None:
    value = {"token": "abc", "rows": [{"typed": "hunter2!", "n": 482913, "ok": True}], "none": None}
    kept = {"token": "abc", "rows": [{"typed": HIDDEN, "n": HIDDEN, "ok": True}], "none": None}
    assert live("hunter2!", "482913").scrub_values(value) == kept
    assert LiveSecrets().scrub_values(value) is value


def test_what_stands_under_a_secret_name_is_hidden_whatever_it_is() -> None:
    scrubbed = LiveSecrets().scrub_json({"headers": {"Authorization": "Bearer x", "Set-Cookie": ["a=b"], "Host": "h"}})
    assert scrubbed == {"headers": {"Authorization": HIDDEN, "Set-Cookie": HIDDEN, "Host": "h"}}


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "newPassword",
        "PASSWORD_HASH",
        "access_token",
        "clientSecret",
        "x-api-key",
        "cookie",
        "totp",
        "privateKey",
        "apikey",
    ],
)
def test_a_secret_name(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["tokens_used", "secret_ref", "key", "organization_id", "", "cookielike", "monkey"])
def test_an_ordinary_name(name: str) -> None:
    assert not is_secret_name(name)


def test_the_log_processor_scrubs_events_errors_and_rendered_text() -> None:
    redactor = Redactor(live("hunter2!"))
    event = {"event": "failed for hunter2!", "error": ValueError("typed hunter2!"), "password": "x", "secret": None}
    assert redactor(None, "error", event) == {
        "event": f"failed for {HIDDEN}",
        "error": f"ValueError('typed {HIDDEN}')",
        "password": HIDDEN,
        "secret": None,
    }
    assert redactor(None, "info", '{"a": "hunter2!"}') == f'{{"a": "{HIDDEN}"}}'
    assert redactor(None, "info", b"hunter2!") == HIDDEN.encode()


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(b"hunter2!")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!s:>20}", bytes(secret).decode(), "%s" % secret):  # noqa: UP031 (the old way of formatting is tested too)
        assert "hunter2" not in shown
    for refused in (lambda: pickle.dumps(secret), lambda: json.dumps(secret), lambda: hash(secret)):
        with pytest.raises(TypeError):
            refused()
    assert secret == Secret(b"hunter2!")
    assert secret != Secret(b"hunter3!")
    assert secret != b"hunter2!"
    assert LiveSecrets().scrub_json({"a": secret}) == {"a": HIDDEN}
