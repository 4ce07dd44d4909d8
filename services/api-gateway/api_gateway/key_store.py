"""API keys as rows: made, listed, revoked. They are no facts: only a keyed hash of each is kept, nothing replays them.

The table cannot be rebuilt from the log and belongs into every backup.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from api_gateway import api_key
from api_gateway.api_key import Brand, Environment
from api_gateway.principal import Level
from kernel.clock import Clock
from kernel.domain.ids import OrganizationId, UserId
from kernel.errors import Rejected
from kernel.ids import Entropy
from kernel.sql.port import Database, Row

_COLUMNS = (
    "id, public_id, user_id, level, description, created_ms, created_by, last_used_ms, expires_ms, revoked_ms,"
    " organization_id"
)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TAKE_ADMINS = "UPDATE api_keys SET revoked_ms = revoked_ms WHERE organization_id = ? AND level = 'admin'"
_REVOKE = (
    "UPDATE api_keys SET revoked_ms = ? WHERE organization_id = ? AND id = ? AND revoked_ms = 0"
    " AND (level <> 'admin' OR EXISTS (SELECT 1 FROM api_keys AS other WHERE other.organization_id = ?"
    " AND other.id <> ? AND other.level = 'admin' AND other.revoked_ms = 0"
    " AND (other.expires_ms = 0 OR other.expires_ms > ?)))"
)


@dataclass(frozen=True, slots=True)
class ApiKeyAnswer:
    """A key as it may be shown: times in milliseconds since 1970, 0 when it has not happened."""

    id: str
    public_id: str
    user_id: UserId
    level: Level
    description: str
    created_ms: int
    created_by: str
    last_used_ms: int
    expires_ms: int
    revoked_ms: int
    organization_id: OrganizationId


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A fresh key; `text` is shown once and stored nowhere."""

    text: str = field(repr=False)
    answer: ApiKeyAnswer


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key shall be. `expires_ms` 0 means never; `created_by` is empty where nobody with a key asked for it."""

    level: Level = Level.WRITE
    description: str = ""
    created_by: str = ""
    expires_ms: int = 0
    environment: Environment = Environment.LIVE
    brand: Brand = Brand.TOWPATH


class KeyStore:
    """The table `api_keys`. Every question names the organization: a foreign key does not exist."""

    def __init__(self, db: Database, pepper: bytes, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._pepper = pepper
        self._clock = clock
        self._entropy = entropy

    async def create(self, organization_id: OrganizationId, new: NewKey) -> CreatedKey:
        """Make a key with a service user of its own. Whoever dies before showing it leaves one that nobody knows."""
        key = api_key.make_key(self._entropy, new.environment, new.brand)
        id_, user_id, now_ms = self._entropy.uuid(), UserId(self._entropy.uuid()), self._clock.now_ms()
        created_by = new.created_by or user_id
        await self._db.execute(
            "INSERT INTO api_keys (id, public_id, organization_id, user_id, level, description, hash, created_ms,"
            " created_by, expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                id_,
                key.public_id,
                organization_id,
                user_id,
                new.level.value,
                new.description,
                api_key.keyed_hash(self._pepper, key.text),
                now_ms,
                created_by,
                new.expires_ms,
            ),
        )
        return CreatedKey(key.text, await self.get(organization_id, id_))

    async def get(self, organization_id: OrganizationId, id_: str) -> ApiKeyAnswer:
        """One key, revoked or not. `Rejected("not_found")` for what is not the organization's."""
        row = await self._db.fetch_one(
            f"SELECT {_COLUMNS} FROM api_keys WHERE organization_id = ? AND id = ?",  # noqa: S608 (a constant)
            (organization_id, id_),
        )
        if row is None:
            raise Rejected("not_found", "there is no such API key")
        return _answer(row)

    async def create_by_operator(self, organization: str = "") -> CreatedKey:
        """Make a key of level admin: of `organization` (a UUID), or of a new one.

        `Rejected`: `invalid_parameter` for what is no id, `not_found` for an organization that never had a key.
        """
        if organization and not _UUID.fullmatch(organization):
            raise Rejected("invalid_parameter", f"{organization!r} is no id of an organization")
        owner = OrganizationId(organization or self._entropy.uuid())
        if organization and not (await self.list(owner, 1, 0))[1]:
            raise Rejected("not_found", f"there is no organization {organization}")
        return await self.create(owner, NewKey(Level.ADMIN, "made by the operator"))

    async def list(self, organization_id: OrganizationId, limit: int, offset: int) -> tuple[list[ApiKeyAnswer], int]:
        """A part of the organization's keys, revoked ones included, newest first; and how many there are."""
        total = await self._db.fetch_one("SELECT COUNT(*) FROM api_keys WHERE organization_id = ?", (organization_id,))
        rows = await self._db.fetch_all(
            f"SELECT {_COLUMNS} FROM api_keys WHERE organization_id = ?"  # noqa: S608 (a constant)
            " ORDER BY created_ms DESC, id DESC LIMIT ? OFFSET ?",
            (organization_id, limit, offset),
        )
        return [_answer(row) for row in rows], total[0] if total else 0

    async def revoke(self, organization_id: OrganizationId, id_: str) -> ApiKeyAnswer:
        """End a key for good; repeatable. `not_found`, or `last_admin_key` when nobody could make keys any more."""
        key = await self.get(organization_id, id_)
        if key.revoked_ms:
            return key
        now_ms = self._clock.now_ms()
        # The first statement takes the admins' rows, so that of two who revoke each other one comes second.
        _, revoked = await self._db.transaction(
            [
                (_TAKE_ADMINS, (organization_id,)),
                (_REVOKE, (now_ms, organization_id, id_, organization_id, id_, now_ms)),
            ]
        )
        now = await self.get(organization_id, id_)
        if not revoked and not now.revoked_ms:
            raise Rejected("last_admin_key", "this is the last valid key of level admin; make another one first")
        return now


def _answer(row: Row) -> ApiKeyAnswer:
    id_, public_id, user_id, level, description, created_ms, created_by, used_ms, expires_ms, revoked_ms, owner = row
    return ApiKeyAnswer(
        id=id_,
        public_id=public_id,
        user_id=UserId(user_id),
        level=Level(level),
        description=description,
        created_ms=created_ms,
        created_by=created_by,
        last_used_ms=used_ms,
        expires_ms=expires_ms,
        revoked_ms=revoked_ms,
        organization_id=OrganizationId(owner),
    )
