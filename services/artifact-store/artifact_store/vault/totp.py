"""TOTP (RFC 6238): what a seed says, and the code that it makes in a window of time. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512
from cryptography.hazmat.primitives.twofactor.hotp import HOTP, HOTPHashTypes

from kernel.errors import Rejected

WINDOW_LEFT_MS_MIN = 3000
"""A code with less time left is not given out: it would be refused before it is sent."""

_ALGORITHMS: dict[str, HOTPHashTypes] = {
    "SHA1": SHA1(),  # noqa: S303 (the standard says so, and most sites)
    "SHA256": SHA256(),
    "SHA512": SHA512(),
}
_DIGITS = (6, 7, 8)
_PERIODS = range(10, 301)


@dataclass(frozen=True, slots=True)
class Seed:
    """A second factor as its site has set it up."""

    key: bytes = field(repr=False)
    digits: int = 6
    period_seconds: int = 30
    algorithm: str = "SHA1"

    def window_at(self, now_ms: int) -> int:
        """The number of the window that `now_ms` lies in."""
        return now_ms // (self.period_seconds * 1000)

    def begin_ms(self, window: int) -> int:
        """When a window begins."""
        return window * self.period_seconds * 1000

    def code(self, window: int) -> str:
        """The code of a window."""
        # Many sites still hand out keys of 80 bits, which the library refuses unless told.
        counted = HOTP(self.key, self.digits, _ALGORITHMS[self.algorithm], enforce_key_length=False)
        return counted.generate(window).decode()


def read_seed(text: str) -> Seed:
    """The seed in a base32 text, spaces and case as people copy it, or in the `otpauth://totp/` URI of a QR picture.

    `Rejected("totp_seed_malformed")`; its message quotes nothing of the text.
    """
    if not text.lower().startswith("otpauth:"):
        return Seed(_key(text))
    parts = urlsplit(text.strip())
    given = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.netloc.lower() != "totp":
        raise Rejected("totp_seed_malformed", "the URI is not one of a time-based code")
    algorithm = given.get("algorithm", "SHA1").upper()
    digits, period = given.get("digits", "6"), given.get("period", "30")
    if algorithm not in _ALGORITHMS or not digits.isdecimal() or not period.isdecimal():
        raise Rejected("totp_seed_malformed", "the URI asks for an unknown algorithm, or its numbers are none")
    seed = Seed(_key(given.get("secret", "")), int(digits), int(period), algorithm)
    if seed.digits not in _DIGITS or seed.period_seconds not in _PERIODS:
        raise Rejected("totp_seed_malformed", "the URI asks for a length or a period that no site uses")
    return seed


def _key(text: str) -> bytes:
    plain = "".join(text.split()).replace("-", "").rstrip("=").upper()
    try:
        key = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise Rejected("totp_seed_malformed", "a seed is base32: letters A to Z and digits 2 to 7")
    return key
