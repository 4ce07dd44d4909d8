"""Which window of time of a TOTP seed has been used: no window's code is ever given out twice.

A site accepts a code once, and counts another try as an attack. So the newest used window of each seed is a row, moved
on by one conditional write before the code leaves the vault; runs, replicas and attempts that died change nothing about
it. A row names its seed by a keyed hash.
"""

from __future__ import annotations

import hashlib
import hmac

from artifact_store.vault.keyring import Keyring
from artifact_store.vault.totp import WINDOW_LEFT_MS_MIN, Seed
from kernel.domain.ids import OrganizationId
from kernel.errors import Temporary
from kernel.sql.port import Database, Statement

KEPT_MS = 86_400_000
"""How long the newest window of a seed is remembered."""

_LAST = "SELECT last_window FROM code_windows WHERE seed = ?"
_USE = """
INSERT INTO code_windows (seed, last_window, used_ms) VALUES (?, ?, ?)
ON CONFLICT (seed) DO UPDATE SET last_window = excluded.last_window, used_ms = excluded.used_ms
WHERE code_windows.last_window < excluded.last_window
"""


class CodeWindows:
    """Rows of `code_windows`."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring

    async def find_free(self, organization_id: OrganizationId, seed: Seed, now_ms: int) -> int:
        """The present window, if its code may be used; else `Temporary("totp_window_used")` with the wait."""
        window = seed.window_at(now_ms)
        row = await self._db.fetch_one(_LAST, (self._name(organization_id, seed),))
        free = window if row is None else max(window, int(row[0]) + 1)
        if free == window and seed.begin_ms(window + 1) - now_ms < WINDOW_LEFT_MS_MIN:
            free += 1
        if free != window:
            raise _used((seed.begin_ms(free) - now_ms) / 1000)
        return window

    def use(self, organization_id: OrganizationId, seed: Seed, window: int, now_ms: int) -> Statement:
        """The write that uses a window up; it changes no row when the window was used meanwhile."""
        return _USE, (self._name(organization_id, seed), window, now_ms)

    def lost(self, seed: Seed, window: int, now_ms: int) -> Temporary:
        """The error of a caller whose write came second."""
        return _used((seed.begin_ms(window + 1) - now_ms) / 1000)

    def _name(self, organization_id: OrganizationId, seed: Seed) -> bytes:
        named = f"totp:{len(organization_id)}:{organization_id}:".encode() + seed.key
        return hmac.digest(self._keyring.lookup_key, named, hashlib.sha256)


def _used(delay_seconds: float) -> Temporary:
    return Temporary("totp_window_used", "the next window of time makes the next code", delay_seconds)
