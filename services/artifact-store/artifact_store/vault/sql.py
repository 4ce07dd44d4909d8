"""`Vault` over SQL rows: every value in an envelope, every opening checked, counted and audited.

The audit row stands before the value leaves. SQLite and PostgreSQL differ only below `kernel.sql`.
"""

from __future__ import annotations

from typing import Protocol

from artifact_store.admission import Admission, Opening
from artifact_store.tables import HELD
from artifact_store.vault.code_windows import KEPT_MS, CodeWindows
from artifact_store.vault.envelope import Envelope, Place, WrappedKey, decrypt, encrypt
from artifact_store.vault.guard import CredentialGuard
from artifact_store.vault.keyring import Keyring
from artifact_store.vault.subjects import Subjects, erase_statements
from artifact_store.vault.totp import read_seed
from kernel.clock import Clock
from kernel.domain.ids import ConnectionId, OrganizationId, SubjectId
from kernel.errors import ConnectionLocked, Rejected, SecretUnavailable
from kernel.ids import Entropy
from kernel.sql.port import Database, Statement
from kernel.store.port import NO_CONNECTION, Opener, RunOpener, SecretKind, SecretRef, Session
from kernel.store.secret import Secret

_INSERT = """
INSERT INTO secrets (secret_id, organization_id, subject_id, kind, kek_id, wrapped_key, box, created_ms, expires_ms)
SELECT ?, organization_id, subject_id, ?, ?, ?, ?, ?, ? FROM subjects
WHERE subject_id = ? AND organization_id = ? {held}
"""
_READ = """
SELECT organization_id, kind, kek_id, wrapped_key, box FROM secrets
WHERE secret_id = ? AND (expires_ms IS NULL OR expires_ms > ?)
"""
_KEEP = """
UPDATE secrets SET expires_ms = CASE WHEN expires_ms < ? THEN ? ELSE expires_ms END
WHERE secret_id = ? AND organization_id = ? AND expires_ms > ?
"""
_DELETE = "DELETE FROM secrets WHERE secret_id = ?"
_FIRST_SESSION = """
INSERT INTO sessions
    (connection_id, organization_id, subject_id, version, kek_id, wrapped_key, box, saved_ms, expires_ms)
SELECT ?, organization_id, subject_id, ?, ?, ?, ?, ?, ? FROM subjects
WHERE subject_id = ? AND organization_id = ? {held}
ON CONFLICT (connection_id) DO NOTHING
"""
_NEXT_SESSION = """
UPDATE sessions SET version = ?, kek_id = ?, wrapped_key = ?, box = ?, saved_ms = ?, expires_ms = ?
WHERE connection_id = ? AND version = ? AND subject_id = ? AND organization_id = ?
"""
_READ_SESSION = """
SELECT organization_id, version, kek_id, wrapped_key, box, expires_ms FROM sessions WHERE connection_id = ?
"""


class Disowner(Protocol):
    """What an erasure needs of the bytes."""

    async def disown_subject(self, subject_id: SubjectId) -> None:
        """Drop every blob and upload of the subject that nobody else owns. Repeatable."""
        ...


class SqlVault:
    """`Vault` in process. Contract in `kernel.store.port`."""

    def __init__(
        self, db: Database, keyring: Keyring, admission: Admission, owned: Disowner, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._db = db
        self._insert = _INSERT.replace("{held}", HELD[db.dialect])
        self._first_session = _FIRST_SESSION.replace("{held}", HELD[db.dialect])
        self._keyring = keyring
        self._admission = admission
        self._owned = owned
        self._clock = clock
        self._entropy = entropy
        self._subjects = Subjects(db, keyring, clock, entropy)
        self._guard = CredentialGuard(db)
        self._windows = CodeWindows(db, keyring)

    # ---------------------------------------------------------------- subjects

    async def subject_for(self, organization_id: OrganizationId, external_id: str = "") -> SubjectId:
        return await self._subjects.find_or_make(organization_id, external_id)

    async def find_subject(self, organization_id: OrganizationId, external_id: str = "") -> SubjectId | None:
        return await self._subjects.find(organization_id, external_id)

    async def subject_key(self, subject_id: SubjectId, opener: Opener) -> bytes:
        opening = Opening(opener, "open", "subject_key", subject_id)
        await self._admission.admit_opening(opening, await self._subjects.organization_of(subject_id))
        await self._audit(opening)
        key = await self._subjects.key(subject_id)
        if key is None:
            raise SecretUnavailable("the subject was erased meanwhile")
        return key

    async def erase_subject(self, subject_id: SubjectId) -> None:
        # The key goes first: from then on nothing new can be staged or sealed for this subject.
        await self._db.transaction(erase_statements(subject_id))
        await self._owned.disown_subject(subject_id)
        await self._db.scrub()

    # ---------------------------------------------------------------- secrets

    async def put_secret(
        self,
        organization_id: OrganizationId,
        subject_id: SubjectId,
        kind: SecretKind,
        value: bytes,
        ttl_ms: int | None = None,
    ) -> SecretRef:
        ref = SecretRef(self._entropy.uuid())
        sealed = encrypt(self._keyring, value, Place(organization_id, kind, ref), self._entropy)
        now_ms = self._clock.now_ms()
        expires_ms = None if ttl_ms is None else now_ms + ttl_ms
        envelope = (sealed.key.kek_id, sealed.key.wrapped, sealed.box)
        values = (ref, kind.value, *envelope, now_ms, expires_ms, subject_id, organization_id)
        if await self._db.execute(self._insert, values) == 0:
            raise SecretUnavailable("no such subject in this organization")
        return ref

    async def open_secret(self, ref: SecretRef, opener: Opener, connection_id: ConnectionId = NO_CONNECTION) -> Secret:
        opening, kind, envelope = await self._found(ref, "open", opener)
        await self._admit_kind(opening, kind, ref, connection_id)
        await self._take(opening, kind, ref)
        return Secret(self._decrypted(opening, kind, envelope))

    async def totp_code(self, ref: SecretRef, opener: Opener, connection_id: ConnectionId = NO_CONNECTION) -> Secret:
        opening, kind, envelope = await self._found(ref, "code", opener)
        if kind is SecretKind.ANSWER:
            raise await self._admission.refused(opening, "a one-time answer is no seed")
        seed = read_seed(self._decrypted(opening, kind, envelope).decode(errors="replace"))
        # Whoever only has to wait has not tried yet, and is not counted.
        now_ms, organization_id = self._clock.now_ms(), opener.organization_id
        window = await self._windows.find_free(organization_id, seed, now_ms)
        await self._admit_kind(opening, kind, ref, connection_id)
        use = self._windows.use(organization_id, seed, window, now_ms)
        used = await self._db.transaction([use, self._admission.audit_row(opening)], guarded=True)
        if used[0] == 0:
            raise self._windows.lost(seed, window, now_ms)
        return Secret(seed.code(window).encode())

    async def _found(self, ref: SecretRef, action: str, opener: Opener) -> tuple[Opening, SecretKind, Envelope]:
        """A secret that exists in the opener's organization, still shut."""
        row = await self._db.fetch_one(_READ, (ref, self._clock.now_ms()))
        opening = Opening(opener, action, "unknown" if row is None else row[1], ref)
        await self._admission.admit_opening(opening, None if row is None else row[0])
        if row is None:
            raise SecretUnavailable("no such secret")
        return opening, SecretKind(row[1]), Envelope(WrappedKey(row[2], bytes(row[3])), bytes(row[4]))

    def _decrypted(self, opening: Opening, kind: SecretKind, envelope: Envelope) -> bytes:
        # `_found` has proven that the secret belongs to the opener's organization.
        return decrypt(self._keyring, envelope, Place(opening.opener.organization_id, kind, opening.ref))

    async def _admit_kind(
        self, opening: Opening, kind: SecretKind, ref: SecretRef, connection_id: ConnectionId
    ) -> None:
        """The gateway opens its own kinds only, runs all others; credentials are counted."""
        opener = opening.opener
        if isinstance(opener, RunOpener) is (kind is SecretKind.WEBHOOK):
            raise await self._admission.refused(opening, "not the opener's own kind of secret")
        if kind is not SecretKind.CREDENTIAL or not isinstance(opener, RunOpener):
            return
        if not connection_id:
            raise await self._admission.refused(opening, "a credential is opened for a connection")
        if not await self._guard.count(connection_id, ref, opener):
            refusal = await self._admission.refused(
                opening, "too many unproven openings of the connection's credentials"
            )
            raise ConnectionLocked(str(refusal))

    async def _take(self, opening: Opening, kind: SecretKind, ref: SecretRef) -> None:
        """Audit the opening; an answer is gone with it, and of two openers at once one finds it gone."""
        if kind is not SecretKind.ANSWER:
            await self._audit(opening)
            return
        taken = await self._db.transaction([(_DELETE, (ref,)), self._admission.audit_row(opening)], guarded=True)
        if taken[0] == 0:
            raise await self._admission.refused(opening, "no such secret")

    async def credentials_proven(self, connection_id: ConnectionId, opener: Opener) -> None:
        opening = Opening(opener, "prove", SecretKind.CREDENTIAL, connection_id)
        await self._admission.admit_opening(opening, opener.organization_id)
        await self._audit(opening)
        await self._guard.reset(connection_id, opener.organization_id)

    async def keep_secret(self, ref: SecretRef, organization_id: OrganizationId, ttl_ms: int) -> bool:
        now_ms = self._clock.now_ms()
        until = now_ms + ttl_ms
        return await self._db.execute(_KEEP, (until, until, ref, organization_id, now_ms)) == 1

    async def delete_secret(self, ref: SecretRef) -> None:
        await self._db.execute(_DELETE, (ref,))

    # ---------------------------------------------------------------- sessions

    async def save_session(
        self,
        connection_id: ConnectionId,
        subject_id: SubjectId,
        opener: Opener,
        *,
        expected_version: int,
        state: bytes,
        expires_ms: int,
    ) -> int:
        opening = Opening(opener, "save", "session", connection_id)
        await self._admission.admit_opening(opening, await self._subjects.organization_of(subject_id))
        kept = await self._kept_version(connection_id, expected_version)
        version = kept + 1
        sealed = encrypt(self._keyring, state, _session_place(opener, connection_id, version), self._entropy)
        fields = (version, sealed.key.kek_id, sealed.key.wrapped, sealed.box, self._clock.now_ms(), expires_ms)
        owner = (subject_id, opener.organization_id)
        save: Statement = (self._first_session, (connection_id, *fields, *owner))
        if kept:
            save = (_NEXT_SESSION, (*fields, connection_id, kept, *owner))
        saved = await self._db.transaction([save, self._admission.audit_row(opening)], guarded=True)
        if saved[0] == 0:
            raise Rejected("session_version_mismatch", "the session was saved by somebody else meanwhile")
        return version

    async def _kept_version(self, connection_id: ConnectionId, expected_version: int) -> int:
        """The version to replace: the expected one, or that of an expired row which counts as none."""
        row = await self._db.fetch_one(_READ_SESSION, (connection_id,))
        expired = row is not None and row[5] <= self._clock.now_ms()
        return int(row[1]) if row is not None and expired and expected_version == 0 else expected_version

    async def load_session(self, connection_id: ConnectionId, opener: Opener) -> Session | None:
        row = await self._db.fetch_one(_READ_SESSION, (connection_id,))
        opening = Opening(opener, "load", "session", connection_id)
        if row is None or row[5] <= self._clock.now_ms():
            await self._admission.admit_opening(opening, opener.organization_id)
            return None
        await self._admission.admit_opening(opening, row[0])
        await self._audit(opening)
        envelope = Envelope(WrappedKey(row[2], bytes(row[3])), bytes(row[4]))
        return Session(row[1], decrypt(self._keyring, envelope, _session_place(opener, connection_id, row[1])))

    async def forget_session(self, connection_id: ConnectionId, opener: Opener) -> None:
        opening = Opening(opener, "forget", "session", connection_id)
        await self._admission.admit_opening(opening, opener.organization_id)
        forget = "DELETE FROM sessions WHERE connection_id = ? AND organization_id = ?"
        await self._db.transaction(
            [self._admission.audit_row(opening), (forget, (connection_id, opener.organization_id))]
        )

    async def sweep(self, now_ms: int) -> int:
        """Delete secrets and sessions that have expired, and windows long gone; returns how many."""
        counts = await self._db.transaction(
            [
                ("DELETE FROM secrets WHERE expires_ms <= ?", (now_ms,)),
                ("DELETE FROM sessions WHERE expires_ms <= ?", (now_ms,)),
                ("DELETE FROM code_windows WHERE used_ms <= ?", (now_ms - KEPT_MS,)),
            ]
        )
        return sum(counts)

    async def _audit(self, opening: Opening) -> None:
        sql, values = self._admission.audit_row(opening)
        await self._db.execute(sql, values)


def _session_place(opener: Opener, connection_id: ConnectionId, version: int) -> Place:
    return Place(opener.organization_id, "session", connection_id, version)
