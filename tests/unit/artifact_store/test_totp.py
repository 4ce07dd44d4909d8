"""Codes of a second factor: the vectors of RFC 6238, and seeds as sites and people write them."""

from __future__ import annotations

import base64

import pytest

from artifact_store.vault.totp import Seed, read_seed
from kernel.errors import Rejected

KEY = b"12345678901234567890"
BASE32 = base64.b32encode(KEY).decode()


@pytest.mark.parametrize(
    ("seconds", "algorithm", "length", "code"),
    [
        (59, "SHA1", 20, "94287082"),
        (1_111_111_109, "SHA256", 32, "68084774"),
        (20_000_000_000, "SHA512", 64, "47863826"),
    ],
)
def test_codes_are_those_of_the_standard(seconds: int, algorithm: str, length: int, code: str) -> None:
    seed = Seed((KEY * 4)[:length], digits=8, algorithm=algorithm)
    assert seed.code(seed.window_at(seconds * 1000)) == code


def test_a_window_ends_where_the_next_one_begins() -> None:
    seed = Seed(KEY)
    assert seed.window_at(seed.begin_ms(7)) == 7
    assert seed.window_at(seed.begin_ms(8) - 1) == 7


@pytest.mark.parametrize(
    "text", [BASE32, BASE32.lower(), f" {BASE32[:4]} {BASE32[4:8]}-{BASE32[8:]} \n", f"{BASE32}=="]
)
def test_a_seed_is_read_as_people_copy_it(text: str) -> None:
    assert read_seed(text) == Seed(KEY)


def test_the_uri_of_a_qr_picture_says_everything() -> None:
    uri = f"otpauth://totp/Shop:ann?secret={BASE32}&issuer=Shop&digits=8&period=60&algorithm=sha256"
    assert read_seed(uri) == Seed(KEY, 8, 60, "SHA256")
    assert read_seed(f"otpauth://totp/Shop?secret={BASE32}") == Seed(KEY)


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "correct horse 1", "0189",
        f"otpauth://hotp/Shop?secret={BASE32}&counter=1",
        "otpauth://totp/Shop?issuer=Shop",
        f"otpauth://totp/Shop?secret={BASE32}&digits=600",
        f"otpauth://totp/Shop?secret={BASE32}&period=0",
        f"otpauth://totp/Shop?secret={BASE32}&algorithm=MD5",
    ],
)  # fmt: skip
def test_what_is_no_seed_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        read_seed(text)
    assert refusal.value.code == "totp_seed_malformed"
    assert not text.strip() or text not in str(refusal.value)


def test_a_seed_does_not_show_its_key() -> None:
    assert repr(KEY) not in repr(Seed(KEY))
