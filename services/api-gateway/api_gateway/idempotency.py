"""Idempotency keys: the same POST sent twice is done once (24 h per organization and route).

The row is inserted before anything is done. Who inserts it does the work; who finds it gets the stored answer, or 409
while the first is under way. A row that was left under way (the process died) may be taken over after `TAKEOVER_MS`:
the work runs again under the same derived request id, so the deciders find its first outcome. Whoever was only paused
writes nothing more into the row that another one has taken: what it has found out late may be wrong by now.

Answers may name an end customer, so they are kept sealed, under the organization's own subject; `forget_answers` is
called when a customer is erased. Key and body of a request may hold what must not be guessed from a stolen file (a
name, a password), so only keyed hashes of them are kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from kernel.domain.ids import OrganizationId, RequestId
from kernel.errors import Detail, Rejected
from kernel.ids import Entropy, derived_id
from kernel.sealing import PURPOSE_JSON, SubjectCipher, SubjectKeys
from kernel.sql.port import Database
from kernel.store.port import GatewayOpener, Vault

KEPT_MS = 24 * 60 * 60 * 1000
TAKEOVER_MS = 10_000
"""Twice as long as a POST waits for its outcome: a caller whose gateway was killed is not kept waiting for longer."""
KEY_LENGTH_MAX = 255
_KEY = re.compile(rf"[!-~]{{1,{KEY_LENGTH_MAX}}}")
RETRY_AFTER_SECONDS = 1
_OURS = "organization_id = ? AND route = ? AND key = ? AND taken_ms = ?"


@dataclass(frozen=True, slots=True)
class Claim:
    """One POST with a key, here as its keyed hash. `fingerprint`, keyed too, covers method, path and body.

    `taken_ms`: when this one came, which tells it from those that come later.
    """

    organization_id: OrganizationId
    route: str
    key: str
    fingerprint: bytes
    taken_ms: int

    @property
    def request_id(self) -> RequestId:
        """The request's id in the log: the same for every repetition."""
        return RequestId(derived_id("request", self.organization_id, self.route, self.key))


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request was answered."""

    status: int
    body: bytes


def claim_of(
    organization_id: OrganizationId, key: str, pepper: bytes, *, route: str, path: str, body: bytes, taken_ms: int
) -> Claim:
    """The claim of a request; `route` is method and path template. `invalid_parameter` for a malformed key."""
    if not _KEY.fullmatch(key):
        message = f"an Idempotency-Key has 1 to {KEY_LENGTH_MAX} visible ASCII characters"
        raise Rejected("invalid_parameter", message, (Detail("/Idempotency-Key", "invalid_parameter", message),))
    fingerprint = _keyed_hash(pepper, b"\0".join((b"request", route.encode(), path.encode(), body)))
    return Claim(organization_id, route, _keyed_hash(pepper, b"key\0" + key.encode()).hex(), fingerprint, taken_ms)


def _keyed_hash(pepper: bytes, data: bytes) -> bytes:
    return hmac.digest(pepper, b"towpath/idempotency/1\0" + data, hashlib.sha256)


async def forget_answers(db: Database, organization_id: OrganizationId) -> None:
    """Drop what is kept for repetitions: some answer may name the end customer who is being erased. Repeatable.

    A repetition that comes later finds the first outcome by its derived request id, as after a crash.
    """
    await db.execute("DELETE FROM idempotency WHERE organization_id = ?", (organization_id,))


class IdempotencyStore:
    """The table `idempotency`; what it holds cannot be rebuilt."""

    def __init__(self, db: Database, entropy: Entropy, keys: SubjectKeys, vault: Vault) -> None:
        self._db = db
        self._entropy = entropy
        self._keys = keys
        self._vault = vault

    async def begin(self, claim: Claim) -> StoredAnswer | None:
        """None: the caller does the work and calls `finish` or `abandon`. Otherwise the answer of the first.

        `Rejected`: `idempotency_key_reused` for another body, `idempotency_in_progress` while the first is under way.
        """
        if await self._insert(claim):
            return None
        row = await self._db.fetch_one(
            "SELECT fingerprint, status, body FROM idempotency WHERE organization_id = ? AND route = ? AND key = ?",
            (claim.organization_id, claim.route, claim.key),
        )
        if row is None:
            raise Rejected("idempotency_in_progress", "the same key was just given up; try again")
        fingerprint, status, body = row
        if bytes(fingerprint) != claim.fingerprint:
            raise Rejected("idempotency_key_reused", "this Idempotency-Key was used for another request")
        if status == 0:
            raise Rejected("idempotency_in_progress", "the first request with this key is still under way")
        cipher = await self._cipher(claim.organization_id)
        return StoredAnswer(status, cipher.unseal(bytes(body), PURPOSE_JSON))

    async def finish(self, claim: Claim, answer: StoredAnswer) -> None:
        """Keep the answer for those who come later, unless another one has taken the row over."""
        cipher = await self._cipher(claim.organization_id)
        box = cipher.seal(answer.body, self._entropy, PURPOSE_JSON)
        await self._db.execute(
            f"UPDATE idempotency SET status = ?, body = ? WHERE {_OURS}",  # noqa: S608 (a constant)
            (answer.status, box, *_ours(claim)),
        )

    async def abandon(self, claim: Claim) -> None:
        """Nothing is known to have come of it: the next one may try, if it does not already."""
        await self._db.execute(f"DELETE FROM idempotency WHERE {_OURS} AND status = 0", _ours(claim))  # noqa: S608 (a constant)

    async def _cipher(self, organization_id: OrganizationId) -> SubjectCipher:
        subject = await self._vault.subject_for(organization_id)
        return await self._keys.cipher(subject, GatewayOpener(organization_id))

    async def _insert(self, claim: Claim) -> bool:
        """One conditional write: insert, or take over what is a day old, or was left under way by somebody dead."""
        row = await self._db.execute(
            "INSERT INTO idempotency (organization_id, route, key, fingerprint, status, body, created_ms, taken_ms)"
            " VALUES (?, ?, ?, ?, 0, ?, ?, ?)"
            " ON CONFLICT (organization_id, route, key) DO UPDATE SET"
            " fingerprint = excluded.fingerprint, status = 0, body = excluded.body,"
            " created_ms = excluded.created_ms, taken_ms = excluded.taken_ms"
            " WHERE idempotency.created_ms < ?"
            " OR (idempotency.status = 0 AND idempotency.taken_ms < ?"
            "     AND idempotency.fingerprint = excluded.fingerprint)",
            (
                claim.organization_id,
                claim.route,
                claim.key,
                claim.fingerprint,
                b"",
                claim.taken_ms,
                claim.taken_ms,
                claim.taken_ms - KEPT_MS,
                claim.taken_ms - TAKEOVER_MS,
            ),
        )
        return row == 1


def _ours(claim: Claim) -> tuple[str, str, str, int]:
    return claim.organization_id, claim.route, claim.key, claim.taken_ms
