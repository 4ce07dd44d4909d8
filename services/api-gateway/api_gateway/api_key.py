"""API keys: how they are written, made and compared. Pure.

    towpath_live_<8 public id>_<43 secret>_<6 checksum>      all in base62; `anon_` is another brand of the same

The public id finds the row; the whole key is compared by HMAC-SHA256 under the server's pepper, in constant time. The
checksum (CRC-32 of what stands before it) lets scanners of leaked secrets be exact and refuses typing errors unread.
"""

from __future__ import annotations

import hmac
import re
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from kernel.ids import Entropy

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PUBLIC_CHARS, _SECRET_CHARS, _CHECK_CHARS = 8, 43, 6
_FORM = re.compile(
    rf"(?P<head>(?:towpath|anon)_(?:live|test)_(?P<public>[0-9A-Za-z]{{{_PUBLIC_CHARS}}})_[0-9A-Za-z]{{{_SECRET_CHARS}}})"
    rf"_(?P<check>[0-9A-Za-z]{{{_CHECK_CHARS}}})"
)


class Environment(StrEnum):
    """Which of its organizations a key was made for; only a mark for people and scanners."""

    LIVE = "live"
    TEST = "test"


class Brand(StrEnum):
    """What a key begins with; some clients of a compatible surface look at it."""

    TOWPATH = "towpath"
    ANON = "anon"


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key as it is shown once; only `public_id` and a keyed hash are kept."""

    text: str = field(repr=False)
    public_id: str


def make_key(entropy: Entropy, environment: Environment = Environment.LIVE, brand: Brand = Brand.TOWPATH) -> KeyText:
    """A fresh key with 256 random bits."""
    public_id = _base62(int.from_bytes(entropy.bytes(8)) % 62**_PUBLIC_CHARS, _PUBLIC_CHARS)
    secret = _base62(int.from_bytes(entropy.bytes(32)), _SECRET_CHARS)
    head = f"{brand}_{environment}_{public_id}_{secret}"
    return KeyText(f"{head}_{_checksum(head)}", public_id)


def public_id_of(key: str) -> str | None:
    """The public id of a well-formed key, None for anything else."""
    match = _FORM.fullmatch(key)
    if match is None or match["check"] != _checksum(match["head"]):
        return None
    return match["public"]


def keyed_hash(pepper: bytes, key: str) -> bytes:
    """What is stored of a key."""
    return hmac.digest(pepper, key.encode(), "sha256")


def matches(pepper: bytes, key: str, stored: bytes) -> bool:
    """Whether `key` is the one behind `stored`; takes the same time either way."""
    return hmac.compare_digest(keyed_hash(pepper, key), stored)


def _checksum(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), _CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    while number:
        number, rest = divmod(number, 62)
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits)).rjust(width, "0")
