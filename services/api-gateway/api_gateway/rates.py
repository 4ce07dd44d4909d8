"""The arithmetic of a shared rate limit: one token bucket, from which replicas lease permits. Pure, in whole numbers.

The bucket holds up to `burst` permits and gains `per_minute`. A replica leases some of them by one write and spends
them without asking, until the lease's epoch (`EPOCH_MS`, the same for all) is over. What is leased and not yet reported
as spent is `held`; the bucket fills only up to `burst - held`, for whoever holds permits might still spend them. So

    permits in the bucket + permits unspent in all replicas  <=  burst      at any moment

and all replicas together admit what one plain token bucket would admit, at most: `burst` and `per_minute` besides. What
a replica has not spent by the end of an epoch is lost, a crash therefore costs nothing but that. This stands on clocks
that agree; one that is ahead by a second may admit that second's permits early. A clock that was far ahead and is set
right again (`STEP_MS`) makes nobody wait until that time has come: the bucket fills from now on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

EPOCH_MS = 60_000
STEP_MS = 5 * EPOCH_MS
"""So far ahead of now was no clock that agrees."""
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


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica has spent of its leases of `epoch` since it last said so, none of it after `last_spent_ms`."""

    spent: int
    epoch: int
    last_spent_ms: int


@dataclass(slots=True)
class Holding:
    """What one replica holds for one caller."""

    permits: int = 0
    epoch: int = -1
    spent: int = 0
    """Since the last report, of leases of `epoch`."""
    last_spent_ms: int = 0
    level: int = 0
    """Permits that were left in the bucket at the last look."""
    refused_until_ms: int = 0

    def spend(self, now_ms: int) -> bool:
        """Spend one permit, if a lease that is still good has one."""
        if not self.permits or now_ms // EPOCH_MS > self.epoch:
            return False
        self.permits -= 1
        self.spent += 1
        self.last_spent_ms = max(now_ms, self.last_spent_ms)
        return True

    def refused_for_ms(self, now_ms: int) -> int:
        """How long nobody asks; no refusal is for longer than an epoch, so one that seems to be is of another clock."""
        left_ms = self.refused_until_ms - now_ms
        return left_ms if 0 < left_ms <= EPOCH_MS else 0

    def report(self) -> Report:
        """What was spent. Said once, whatever comes of it: said twice, others would get it, too."""
        spent, self.spent = self.spent, 0
        return Report(spent, self.epoch, self.last_spent_ms)

    def receive(self, bucket: Bucket, given: int, rate: Rate, now_ms: int) -> None:
        """A lease was written. What was left of an earlier epoch is lost; after a refusal nobody asks for a while."""
        if bucket.epoch != self.epoch:
            self.epoch, self.permits, self.spent = bucket.epoch, 0, 0
        self.permits += given
        self.level = bucket.level // UNIT
        if not self.permits:
            self.refused_until_ms = now_ms + wait_ms(bucket, rate)


def full(rate: Rate, now_ms: int) -> Bucket:
    """A bucket that nobody has used for long."""
    return Bucket(rate.burst * UNIT, now_ms, now_ms // EPOCH_MS, 0)


def lease(bucket: Bucket, rate: Rate, now_ms: int, report: Report) -> tuple[Bucket, int]:
    """The bucket after a lease of up to a portion, and how many permits it gave (0: too many were asked for)."""
    if bucket.at_ms - now_ms > STEP_MS:
        bucket = replace(bucket, at_ms=now_ms, epoch=now_ms // EPOCH_MS)
    now_ms = max(now_ms, bucket.at_ms)
    epoch = now_ms // EPOCH_MS
    spent = min(report.spent, bucket.held) if report.epoch == bucket.epoch else 0
    left = bucket.held - spent
    # What is left might be spent until its epoch ends, and only what nobody can spend any more makes room to fill.
    ended_ms = max(0, now_ms - (bucket.epoch + 1) * EPOCH_MS) if epoch != bucket.epoch else 0
    room = min(rate.burst * UNIT, (rate.burst - left) * UNIT + rate.per_minute * ended_ms)
    if spent:
        quiet_ms = max(0, now_ms - report.last_spent_ms)
        room = min(room, (rate.burst - bucket.held) * UNIT + rate.per_minute * quiet_ms)
    level = max(0, min(bucket.level + rate.per_minute * (now_ms - bucket.at_ms), room))
    given = min(rate.portion, level // UNIT)
    held = (left if epoch == bucket.epoch else 0) + given
    return Bucket(level - given * UNIT, now_ms, epoch, held), given


def wait_ms(bucket: Bucket, rate: Rate) -> int:
    """How long until one more permit is there, if nobody else takes it; at least a second, so that few ask again."""
    missing = max(0, UNIT - bucket.level)
    return max(1000, -(-missing // rate.per_minute))


def full_after_ms(bucket: Bucket, rate: Rate) -> int:
    """When the bucket is as good as new, and its row may be forgotten."""
    return bucket.at_ms + EPOCH_MS + -(-rate.burst * UNIT // rate.per_minute)
