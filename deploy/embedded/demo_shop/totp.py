"""The authenticator app of a shop account: six digits of a window of 30 seconds, each taken once (RFC 6238)."""

from __future__ import annotations

import base64
import hmac

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

_PERIOD_SECONDS = 30


def totp_code(seed: str, window: int) -> str:
    """The code that the base32 `seed` makes in `window`. Pure."""
    key = base64.b32decode(seed)
    return HOTP(key, 6, SHA1(), enforce_key_length=False).generate(window).decode()  # noqa: S303 (the RFC says so)


class Codes:
    """Which codes were taken; forgotten when the shop restarts."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def take(self, account: str, seed: str, code: str, now: float) -> bool:
        """Whether `code` is the one of now or of the window before, and taken for the first time."""
        window = int(now // _PERIOD_SECONDS)
        for one in (window, window - 1):
            if one > self._last.get(account, -1) and hmac.compare_digest(totp_code(seed, one), code):
                self._last[account] = one
                return True
        return False
