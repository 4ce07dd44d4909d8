"""Rows of outcomes by provider, in SQL: written by whoever counts, read by whoever shows.

A row is what one partition says up to `applied`, so of two of them the one that is further is right, and a late writer
can put none back. Everything here can be counted anew from the public topic.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from kernel.domain.health_windows import HealthRow, Tally
from kernel.domain.ids import OrganizationId, ProviderSlug
from kernel.sql.port import Database, Migration, Row, Statement

_TABLES = """
CREATE TABLE provider_outcomes (
  organization_id TEXT NOT NULL, provider TEXT NOT NULL, partition BIGINT NOT NULL, applied BIGINT NOT NULL,
  newest_ms BIGINT NOT NULL, minutes TEXT NOT NULL, PRIMARY KEY (organization_id, provider, partition)) {keyed};
CREATE TABLE outcome_positions (
  partition BIGINT PRIMARY KEY, topic_id TEXT NOT NULL, next_offset BIGINT NOT NULL)
"""
_COLUMNS = "organization_id, provider, partition, applied, newest_ms, minutes"
_KEEP = (
    f"INSERT INTO provider_outcomes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 (our own names)
    " ON CONFLICT (organization_id, provider, partition) DO UPDATE SET applied = excluded.applied,"
    " newest_ms = excluded.newest_ms, minutes = excluded.minutes WHERE provider_outcomes.applied < excluded.applied"
)
_REACHED = (
    "INSERT INTO outcome_positions (partition, topic_id, next_offset) VALUES (?, ?, ?) ON CONFLICT (partition)"
    " DO UPDATE SET topic_id = excluded.topic_id, next_offset = excluded.next_offset"
)
_Counts = tuple[int, int, int, int, int, int, list[tuple[int, int]]]
_DECODER = msgspec.json.Decoder(dict[int, _Counts])


def migrations(dialect: Literal["sqlite", "postgres"]) -> tuple[Migration, ...]:
    """The numbered migrations of component `health`, for `kernel.sql.port.migrate`."""
    keyed = "WITHOUT ROWID" if dialect == "sqlite" else ""
    return (
        Migration("health", 1, "outcomes", tuple(part.strip() for part in _TABLES.format(keyed=keyed).split(";\n"))),
    )


# ---------------------------------------------------------------- reading


async def rows_of(db: Database, organization: OrganizationId, slugs: Collection[ProviderSlug]) -> list[HealthRow]:
    """What all partitions say about these providers of one organization, as one moment has it."""
    if not slugs:
        return []
    marks = ", ".join("?" * len(slugs))
    found = await db.fetch_all(
        f"SELECT {_COLUMNS} FROM provider_outcomes WHERE organization_id = ? AND provider IN ({marks})",  # noqa: S608 (our own names, marks only)
        (organization, *slugs),
    )
    return [_row(cells) for cells in found]


async def row_of(
    db: Database, organization: OrganizationId, provider: ProviderSlug, partition: int
) -> HealthRow | None:
    """What this partition has said about this provider; None as long as it has said nothing."""
    found = await db.fetch_one(
        f"SELECT {_COLUMNS} FROM provider_outcomes WHERE organization_id = ? AND provider = ? AND partition = ?",  # noqa: S608 (our own names)
        (organization, provider, partition),
    )
    return None if found is None else _row(found)


async def places_since(db: Database, since_ms: int) -> list[tuple[OrganizationId, ProviderSlug]]:
    """The providers about which something was said at `since_ms` or later."""
    found = await db.fetch_all(
        "SELECT DISTINCT organization_id, provider FROM provider_outcomes WHERE newest_ms >= ?", (since_ms,)
    )
    return [(organization, provider) for organization, provider in found]


async def positions(db: Database) -> dict[int, int]:
    """The next offset of each partition, as it was kept beside the rows."""
    return dict(await db.fetch_all("SELECT partition, next_offset FROM outcome_positions"))


# ---------------------------------------------------------------- writing


def keep(row: HealthRow) -> Statement:
    """Writes the row unless there is one that is as far; repeatable."""
    cells = (row.organization_id, row.provider, row.partition, row.applied, row.newest_ms, _minutes(row))
    return (_KEEP, cells)


def reached(partition: int, topic_id: str, next_offset: int) -> Statement:
    """Keeps the place; for the one reader of that partition."""
    return (_REACHED, (partition, topic_id, next_offset))


async def forget_others(db: Database, topic_id: str) -> bool:
    """Empty everything when it was counted from another topic than this one; whether it was. Repeatable."""
    stale: Statement = ("DELETE FROM outcome_positions WHERE topic_id <> ?", (topic_id,))
    return (await db.transaction([stale, ("DELETE FROM provider_outcomes", ())], guarded=True))[0] > 0


def _minutes(row: HealthRow) -> str:
    """The same counts make the same text."""
    told = {minute: _counts(tally) for minute, tally in sorted(row.minutes.items())}
    return msgspec.json.encode(told).decode()


def _counts(tally: Tally) -> _Counts:
    runs = tally.succeeded, tally.failed, tally.other
    logins = tally.logins_succeeded, tally.logins_rejected, tally.logins_failed
    return (*runs, *logins, sorted(tally.steps.items()))


def _row(cells: Row) -> HealthRow:
    organization, provider, partition, applied, newest_ms, minutes = cells
    return HealthRow(organization, provider, partition, applied, newest_ms, dict(_tallies(_DECODER.decode(minutes))))


def _tallies(told: dict[int, _Counts]) -> Iterable[tuple[int, Tally]]:
    for minute, (*counts, steps) in told.items():
        succeeded, failed, other, logins_succeeded, logins_rejected, logins_failed = counts
        logins = logins_succeeded, logins_rejected, logins_failed
        yield minute, Tally(succeeded, failed, other, *logins, dict(steps))
