"""Rate limits that all replicas share, without a write for each request.

A replica leases a portion of permits by one conditional write (`rates.lease`) and spends them from memory. A fresh
portion is fetched behind the answers while some are left, so that hardly anybody waits for the write. After a refusal
nothing is asked for a second: an abusive caller costs two writes a second, not one for each of its requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from api_gateway.rates import Bucket, Holding, Rate, Report, full, full_after_ms, lease
from kernel.clock import Clock
from kernel.errors import LogUnavailable
from kernel.sql.port import Database

NAMES_MAX = 10_000
"""Callers remembered in memory; whoever is dropped leases anew and loses what it had not spent."""
_WRITES_MAX = 50
_log = structlog.get_logger("api_gateway.limiter")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands after a request: what is left, and when all of it is back."""

    rate: Rate
    left: int
    full_in_seconds: int
    retry_in_seconds: int = 0
    """0: the request was admitted."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy`, `RateLimit`, and `Retry-After` for who was refused."""
        after = self.retry_in_seconds or self.full_in_seconds
        found = [
            (b"ratelimit-policy", b'"default";q=%d;w=60' % self.rate.per_minute),
            (b"ratelimit", b'"default";r=%d;t=%d' % (self.left, after)),
        ]
        return [*found, (b"retry-after", b"%d" % self.retry_in_seconds)] if self.retry_in_seconds else found


@dataclass(slots=True, eq=False)
class _Caller:
    """What this process holds for one name."""

    holding: Holding = field(default_factory=Holding)
    leasing: asyncio.Task[None] | None = None

    def leased(self, done: asyncio.Task[None]) -> None:
        """The lease is over; whoever waits for it hears of its error, and if nobody does, the log does."""
        self.leasing = None
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.warning("rate_limit.lease_failed", error=repr(error))


class Limiter:
    """One kind of limit (`kind` goes before each name in the table). One per process and kind."""

    def __init__(self, db: Database, clock: Clock, kind: str, rate: Rate) -> None:
        self._db = db
        self._clock = clock
        self._kind = kind
        self._rate = rate
        self._low = rate.portion // 4
        self._callers: dict[str, _Caller] = {}

    async def take(self, name: str) -> Standing | None:
        """One permit for `name`; None when there is no limit. May write, at most once for many calls.

        Raises what the database raises when it is away.
        """
        if not self._rate.per_minute:
            return None
        caller = self._callers.get(name) or self._remember(name)
        now_ms = self._clock.now_ms()
        while True:
            if caller.holding.spend(now_ms):
                if caller.holding.permits == self._low:
                    self._leasing(name, caller)
                return self._standing(caller.holding, 0)
            refused_for_ms = caller.holding.refused_for_ms(now_ms)
            if refused_for_ms:
                return self._standing(caller.holding, -(-refused_for_ms // 1000))
            await asyncio.shield(self._leasing(name, caller))
            now_ms = self._clock.now_ms()

    def _remember(self, name: str) -> _Caller:
        if len(self._callers) >= NAMES_MAX:
            for oldest in list(self._callers)[: NAMES_MAX // 10]:
                del self._callers[oldest]
        caller = self._callers[name] = _Caller()
        return caller

    def _standing(self, holding: Holding, retry_in_seconds: int) -> Standing:
        left = holding.permits + holding.level
        missing = max(0, self._rate.burst - left)
        return Standing(self._rate, left, -(-missing * 60 // self._rate.per_minute), retry_in_seconds)

    def _leasing(self, name: str, caller: _Caller) -> asyncio.Task[None]:
        """The one lease of this caller that is under way, or a new one."""
        if caller.leasing is None:
            caller.leasing = asyncio.create_task(self._lease(name, caller))
            caller.leasing.add_done_callback(caller.leased)
        return caller.leasing

    async def _lease(self, name: str, caller: _Caller) -> None:
        bucket, given = await self._write(f"{self._kind}:{name}", caller.holding.report())
        caller.holding.receive(bucket, given, self._rate, self._clock.now_ms())

    async def _write(self, name: str, report: Report) -> tuple[Bucket, int]:
        """Lease by comparing and setting the row; what another replica wrote in between is read anew."""
        for _ in range(_WRITES_MAX):
            now_ms = self._clock.now_ms()
            row = await self._db.fetch_one(
                "SELECT level, at_ms, epoch, held, version FROM rate_limits WHERE name = ?", (name,)
            )
            before = full(self._rate, now_ms) if row is None else Bucket(*row[:4])
            bucket, given = lease(before, self._rate, now_ms, report)
            values = (bucket.level, bucket.at_ms, bucket.epoch, bucket.held, full_after_ms(bucket, self._rate))
            if row is None:
                written = await self._db.execute(
                    "INSERT INTO rate_limits (level, at_ms, epoch, held, forget_ms, name, version)"
                    " VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (name) DO NOTHING",
                    (*values, name),
                )
            else:
                written = await self._db.execute(
                    "UPDATE rate_limits SET level = ?, at_ms = ?, epoch = ?, held = ?, forget_ms = ?,"
                    " version = version + 1 WHERE name = ? AND version = ?",
                    (*values, name, row[4]),
                )
            if written:
                return bucket, given
        raise LogUnavailable("too many replicas lease permits of one caller at once")
