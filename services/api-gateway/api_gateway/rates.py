"""The arithmetic of a shared rate limit: one token bucket, from which replicas lease permits. Pure, in whole numbers.

The bucket holds up to `burst` permits and gains `per_minute`. A replica leases some of them by one write and spends
them without asking, until the lease's epoch (`EPOCH_MS`, the same for all) is over. What is leased and not yet reported
as spent is `held`; the bucket fills only up to `burst - held`, for whoever holds permits might still spend them. So

    permits in the bucket + permits unspent in all replicas  <=  burst      at any moment

and all replicas together admit what one plain token bucket would admit, at most: `burst` and `per_minute` besides. What
a replica has not spent by the end of an epoch is lost, a crash therefore costs nothing but that. This stands on clocks
that agree; one that is ahead by a second may admit that second's permits early.
"""

from __future__ import annotations

from dataclasses import dataclass

EPOCH_MS = 60_000
UNIT = 60_000
"""Of one permit: a limit of n a minute gains n units each millisecond."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit; `per_minute` 0 means none."""

    per_minute: int
    burst: int

    @property
    def portion(self) -> int:
        """Permits that a replica leases at a time: few enough to leave some to others, enough to write seldom."""
        return max(1, self.burst // 5)


@dataclass(frozen=True, slots=True)
class Bucket:
    """As it stood at `at_ms`: `level` in units, `held` in permits of leases of `epoch`."""

    level: int
    at_ms: int
    epoch: int
    held: int


def full(rate: Rate, now_ms: int) -> Bucket:
    """A bucket that nobody has used for long."""
    return Bucket(rate.burst * UNIT, now_ms, now_ms // EPOCH_MS, 0)


def lease(bucket: Bucket, rate: Rate, now_ms: int, spent: int, of_epoch: int) -> tuple[Bucket, int]:
    """The bucket after a lease of up to a portion, and how many permits it gave (0: too many were asked for).

    `spent`: what the same replica has spent of its leases of `of_epoch` and not yet reported.
    """
    now_ms = max(now_ms, bucket.at_ms)
    epoch = now_ms // EPOCH_MS
    room = (rate.burst - bucket.held) * UNIT
    held = bucket.held
    if epoch == bucket.epoch:
        if of_epoch == epoch:
            held = max(0, held - spent)
    else:
        # Leases of an earlier epoch might have been spent until its last moment; only then the rest begins to fill.
        over_for_ms = now_ms - (bucket.epoch + 1) * EPOCH_MS
        room = min(rate.burst * UNIT, room + rate.per_minute * over_for_ms)
        held = 0
    level = max(0, min(bucket.level + rate.per_minute * (now_ms - bucket.at_ms), room))
    given = min(rate.portion, level // UNIT)
    return Bucket(level - given * UNIT, now_ms, epoch, held + given), given


def wait_ms(bucket: Bucket, rate: Rate) -> int:
    """How long until one more permit is there, if nobody else takes it; at least a second, so that few ask again."""
    missing = max(0, UNIT - bucket.level)
    return max(1000, -(-missing // rate.per_minute))


def full_after_ms(bucket: Bucket, rate: Rate) -> int:
    """When the bucket is as good as new, and its row may be forgotten."""
    return bucket.at_ms + EPOCH_MS + -(-rate.burst * UNIT // rate.per_minute)
