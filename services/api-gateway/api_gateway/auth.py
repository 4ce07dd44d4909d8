"""Who is asking: an API key becomes a `Principal`.

Rows are kept in memory for `KEEP_MS`, so a key that another replica has revoked may live that much longer; this one
forgets it at once. The comparison itself is made for every request. A wrong key and an unknown one take the same time
and get the same answer. When a key was last used is noted behind the answer, at most once in `LAST_USE_GRAIN_MS`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from api_gateway import api_key
from api_gateway.principal import Level, Principal
from kernel.clock import Clock
from kernel.domain.ids import OrganizationId, UserId
from kernel.errors import Rejected, TowpathError
from kernel.sql.port import Database

KEEP_MS = 2_000
LAST_USE_GRAIN_MS = 60 * 60 * 1000
KEPT_MAX = 10_000
_BEARER = "bearer "
_log = structlog.get_logger("api_gateway.auth")


@dataclass(slots=True)
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
        self._noting: set[asyncio.Task[None]] = set()

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
            row.last_used_ms = now_ms
            noting = asyncio.create_task(self._note_use(row.principal.key_id, now_ms))
            self._noting.add(noting)
            noting.add_done_callback(self._noting.discard)
        return row.principal

    def forget(self, public_id: str) -> None:
        """Read this key anew the next time: it was changed here."""
        self._kept.pop(public_id, None)

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
        if kept is not None:
            last_used_ms = max(last_used_ms, kept.last_used_ms)
        principal = Principal(OrganizationId(organization_id), UserId(user_id), Level(level), public_id)
        row = _KeyRow(principal, bytes(hash_), expires_ms, last_used_ms, now_ms)
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[public_id] = row
        return row

    async def _note_use(self, public_id: str, now_ms: int) -> None:
        """Nobody waits for this: of several replicas one writes, and a lost note is made up for an hour later."""
        try:
            await self._db.execute(
                "UPDATE api_keys SET last_used_ms = ? WHERE public_id = ? AND last_used_ms < ?",
                (now_ms, public_id, now_ms - LAST_USE_GRAIN_MS),
            )
        except TowpathError as error:
            _log.warning("key.use_not_noted", error=repr(error))
