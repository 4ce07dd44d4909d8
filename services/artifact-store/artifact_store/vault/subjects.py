"""Subjects and their data keys: found by a keyed hash, so that the clear external id is stored nowhere."""

from __future__ import annotations

import hashlib
import hmac

from artifact_store.vault.envelope import KEY_BYTES, Place, WrappedKey, unwrap_key, wrap_key
from artifact_store.vault.keyring import Keyring
from kernel.clock import Clock
from kernel.domain.ids import OrganizationId, SubjectId
from kernel.ids import Entropy
from kernel.sql.port import Database, Statement

_FIND = "SELECT subject_id FROM subjects WHERE lookup = ?"
_MAKE = """
INSERT INTO subjects (subject_id, organization_id, lookup, kek_id, wrapped_key, created_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (lookup) DO NOTHING
"""
_ERASE = (
    "DELETE FROM subjects WHERE subject_id = ?",
    "DELETE FROM secrets WHERE subject_id = ?",
    "DELETE FROM sessions WHERE subject_id = ?",
)
"""The subject first: whoever is adding to it is waited for, and nobody adds from there on."""


class Subjects:
    """Rows of `subjects`."""

    def __init__(self, db: Database, keyring: Keyring, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._keyring = keyring
        self._clock = clock
        self._entropy = entropy

    async def find(self, organization_id: OrganizationId, external_id: str) -> SubjectId | None:
        """The subject of an external id, None when there is none."""
        found = await self._db.fetch_one(_FIND, (self._lookup(organization_id, external_id),))
        return None if found is None else SubjectId(found[0])

    async def find_or_make(self, organization_id: OrganizationId, external_id: str) -> SubjectId:
        """The subject of an external id; two callers at once get the same one."""
        lookup = self._lookup(organization_id, external_id)
        found = await self._db.fetch_one(_FIND, (lookup,))
        if found is None:
            await self._make(organization_id, lookup)
            found = await self._db.fetch_one(_FIND, (lookup,))
        if found is None:
            # An erasure came between the two statements: the next life of this external id begins.
            return await self.find_or_make(organization_id, external_id)
        return SubjectId(found[0])

    async def _make(self, organization_id: OrganizationId, lookup: bytes) -> None:
        subject_id = self._entropy.uuid()
        key = wrap_key(
            self._keyring, self._entropy.bytes(KEY_BYTES), _place(organization_id, subject_id), self._entropy
        )
        values = (subject_id, organization_id, lookup, key.kek_id, key.wrapped, self._clock.now_ms())
        await self._db.execute(_MAKE, values)

    async def organization_of(self, subject_id: SubjectId) -> OrganizationId | None:
        """Whose subject it is; None when erased or never made."""
        row = await self._db.fetch_one("SELECT organization_id FROM subjects WHERE subject_id = ?", (subject_id,))
        return None if row is None else OrganizationId(row[0])

    async def key(self, subject_id: SubjectId) -> bytes | None:
        """The data key in the clear; None when erased meanwhile."""
        row = await self._db.fetch_one(
            "SELECT organization_id, kek_id, wrapped_key FROM subjects WHERE subject_id = ?", (subject_id,)
        )
        if row is None:
            return None
        return unwrap_key(self._keyring, WrappedKey(row[1], bytes(row[2])), _place(row[0], subject_id))

    def _lookup(self, organization_id: OrganizationId, external_id: str) -> bytes:
        named = f"{len(organization_id)}:{organization_id}:{external_id}".encode()
        return hmac.digest(self._keyring.lookup_key, named, hashlib.sha256)


def erase_statements(subject_id: SubjectId) -> list[Statement]:
    """Delete the key and every secret below it, in one transaction."""
    return [(sql, (subject_id,)) for sql in _ERASE]


def _place(organization_id: str, subject_id: str) -> Place:
    return Place(organization_id, "subject", subject_id)
