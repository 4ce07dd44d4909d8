"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kernel.domain.ids import OrganizationId, UserId


class Level(StrEnum):
    """What a key may do. `read`, `write` and `admin` each include those before; `events` stands apart."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    EVENTS = "events"
    """For subscribers of the event log: fetches keys of subjects, and nothing else. Only `admin` includes it."""

    def covers(self, needed: Level) -> bool:
        """Whether this level is enough where `needed` is asked for."""
        return needed in _COVERED[self]


_COVERED: dict[Level, frozenset[Level]] = {
    Level.READ: frozenset({Level.READ}),
    Level.WRITE: frozenset({Level.READ, Level.WRITE}),
    Level.ADMIN: frozenset(Level),
    Level.EVENTS: frozenset({Level.EVENTS}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, for which organization, and what they may do. `user_id` is the key's own service user."""

    organization_id: OrganizationId
    user_id: UserId
    level: Level
    key_id: str
