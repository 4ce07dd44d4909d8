"""The lock-out guard: credential openings of a connection that no login has proven good yet.

Openings by one task of refs it has not opened before are one round (a user name, a password and a TOTP seed make one
try). A second opening of the same ref, or another task, begins the next round. The fourth round is refused, so that the
account at the source never locks. The count is one row per connection, changed by compare and set.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kernel.domain.ids import ConnectionId, OrganizationId
from kernel.errors import Temporary
from kernel.sql.port import Database
from kernel.store.port import UNPROVEN_OPENINGS_MAX, RunOpener, SecretRef

_READ = "SELECT round, task_id, refs, version FROM credential_guards WHERE connection_id = ? AND organization_id = ?"
_BEGIN = """
INSERT INTO credential_guards (connection_id, organization_id, round, task_id, refs, version) VALUES (?, ?, ?, ?, ?, 1)
ON CONFLICT (connection_id, organization_id) DO NOTHING
"""
_ADVANCE = """
UPDATE credential_guards SET round = ?, task_id = ?, refs = ?, version = version + 1
WHERE connection_id = ? AND organization_id = ? AND version = ?
"""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Round:
    """The newest round of unproven openings of one connection."""

    number: int = 0
    task_id: str = ""
    refs: tuple[str, ...] = ()


def next_round(now: Round, task_id: str, ref: str) -> Round | None:
    """The round this opening belongs to; None when it would be one too many."""
    if now.number and now.task_id == task_id and ref not in now.refs:
        return Round(now.number, task_id, (*now.refs, ref))
    if now.number >= UNPROVEN_OPENINGS_MAX:
        return None
    return Round(now.number + 1, task_id, (ref,))


class CredentialGuard:
    """Rows of `credential_guards`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def count(self, connection_id: ConnectionId, ref: SecretRef, opener: RunOpener) -> bool:
        """Count an opening before it happens; False when it is refused. `Temporary` when others count all the time."""
        at = (connection_id, opener.organization_id)
        for _ in range(_TRIES):
            row = await self._db.fetch_one(_READ, at)
            now = Round() if row is None else Round(row[0], row[1], tuple(msgspec.json.decode(row[2])))
            after = next_round(now, opener.task_id, ref)
            if after is None:
                return False
            fields = (after.number, after.task_id, msgspec.json.encode(after.refs).decode())
            if row is None:
                counted = await self._db.execute(_BEGIN, (*at, *fields))
            else:
                counted = await self._db.execute(_ADVANCE, (*fields, *at, row[3]))
            if counted == 1:
                return True
        raise Temporary("store_unavailable", "the connection's openings are being counted", delay_seconds=0.1)

    async def reset(self, connection_id: ConnectionId, organization_id: OrganizationId) -> None:
        """Begin anew. Repeatable."""
        await self._db.execute(
            "DELETE FROM credential_guards WHERE connection_id = ? AND organization_id = ?",
            (connection_id, organization_id),
        )
