"""Who is asking: an API key becomes a `Principal`.

Rows are kept in memory for `KEEP_MS`, so a revoked key may live that much longer; the comparison itself is made for
every request. A wrong key and an unknown one take the same time and get the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from api_gateway import api_key
from api_gateway.api_key import Environment
from api_gateway.principal import Level, Principal
from kernel.clock import Clock
from kernel.domain.ids import OrganizationId, UserId
from kernel.errors import Rejected
from kernel.ids import Entropy
from kernel.sql.port import Database

KEEP_MS = 5_000
LAST_USE_GRAIN_MS = 10 * 60 * 1000
KEPT_MAX = 10_000
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A fresh key; `text` is shown once and stored nowhere."""

    text: str
    public_id: str
    user_id: UserId


@dataclass(frozen=True, slots=True)
class _KeyRow:
    principal: Principal
    hash: bytes
    expires_ms: int
    last_used_ms: int
    read_at_ms: float


class Authenticator:
    """Reads keys from `api_keys`. One per process."""

    def __init__(self, db: Database, pepper: bytes, clock: Clock) -> None:
        self._db = db
        self._pepper = pepper
        self._clock = clock
        self._kept: dict[str, _KeyRow] = {}

    async def principal(self, authorization: str | None) -> Principal:
        """The principal behind an `Authorization` header. `Rejected("unauthenticated")` for anything but a good key."""
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            raise Rejected("unauthenticated", "send an API key as `Authorization: Bearer <key>`")
        key = authorization[len(_BEARER) :].strip()
        public_id = api_key.public_id_of(key)
        row = await self._row(public_id) if public_id else None
        is_right = api_key.matches(self._pepper, key, row.hash if row else b"")
        now_ms = self._clock.now_ms()
        if row is None or not is_right or (row.expires_ms and now_ms >= row.expires_ms):
            raise Rejected("unauthenticated", "the API key is unknown, expired or revoked")
        if now_ms - row.last_used_ms > LAST_USE_GRAIN_MS:
            await self._note_use(row, now_ms)
        return row.principal

    async def _row(self, public_id: str) -> _KeyRow | None:
        now_ms = self._clock.boot_ms()
        kept = self._kept.get(public_id)
        if kept is not None and now_ms - kept.read_at_ms < KEEP_MS:
            return kept
        found = await self._db.fetch_one(
            "SELECT organization_id, user_id, level, hash, expires_ms, last_used_ms FROM api_keys"
            " WHERE public_id = ? AND revoked_ms = 0",
            (public_id,),
        )
        self._kept.pop(public_id, None)
        if found is None:
            return None
        organization_id, user_id, level, hash_, expires_ms, last_used_ms = found
        principal = Principal(OrganizationId(organization_id), UserId(user_id), Level(level), public_id)
        row = _KeyRow(principal, bytes(hash_), expires_ms, last_used_ms, now_ms)
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[public_id] = row
        return row

    async def _note_use(self, row: _KeyRow, now_ms: int) -> None:
        key_id = row.principal.key_id
        await self._db.execute("UPDATE api_keys SET last_used_ms = ? WHERE public_id = ?", (now_ms, key_id))
        self._kept.pop(key_id, None)


async def create_api_key(
    db: Database,
    pepper: bytes,
    clock: Clock,
    entropy: Entropy,
    organization_id: OrganizationId,
    *,
    level: Level = Level.WRITE,
    description: str = "",
    environment: Environment = Environment.LIVE,
    expires_ms: int = 0,
) -> CreatedKey:
    """Make a key with a service user of its own; the text is in the answer only. `expires_ms` 0 means never."""
    key = api_key.make_key(entropy, environment)
    user_id = UserId(entropy.uuid())
    await db.execute(
        "INSERT INTO api_keys (public_id, organization_id, user_id, level, description, hash, created_ms, expires_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.public_id,
            organization_id,
            user_id,
            level.value,
            description,
            api_key.keyed_hash(pepper, key.text),
            clock.now_ms(),
            expires_ms,
        ),
    )
    return CreatedKey(key.text, key.public_id, user_id)
