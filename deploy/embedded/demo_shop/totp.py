"""The authenticator app of a shop account: six digits of a window of 30 seconds, each taken once (RFC 6238)."""

from __future__ import annotations

import base64
import hmac

_PERIOD_SECONDS = 30


def totp_code(seed: str, window: int) -> str:
    """The code that the base32 `seed` makes in `window`. Pure."""
    digest = hmac.digest(base64.b32decode(seed), window.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 0x0F
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


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
