"""Signed cookies: who is logged in, since when, and whether the one-time code is still to come.

The key lies beside the shop's log, so sessions outlive a restart of the shop.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

COOKIE = "corner_goods"


@dataclass(frozen=True, slots=True)
class Session:
    """One login. `is_complete` is False until the one-time code was right."""

    account: str
    since: float
    is_complete: bool


def read_key(path: Path) -> bytes:
    """The signing key, made at the first call. Blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    key = secrets.token_bytes(32)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key


def seal(session: Session, key: bytes) -> str:
    """The cookie's value."""
    payload = json.dumps([session.account, session.since, session.is_complete]).encode()
    return f"{_text(payload)}.{_text(_signature(payload, key))}"


def unseal(value: str, key: bytes) -> Session | None:
    """The session in a cookie's value, or None when nobody here signed it."""
    payload_text, _, signature_text = value.partition(".")
    try:
        payload, signature = _bytes(payload_text), _bytes(signature_text)
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(signature, _signature(payload, key)):
        return None
    account, since, is_complete = json.loads(payload)
    return Session(account, since, is_complete)


def one_time_code(account: str, turn: int, key: bytes) -> str:
    """Six digits, another six after each login."""
    digest = _signature(f"{account}/{turn}".encode(), key)
    return f"{int.from_bytes(digest[:4], 'big') % 1_000_000:06}"


def _signature(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, payload, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
